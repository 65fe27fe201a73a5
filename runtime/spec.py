"""What to run, where and with which limits: the frozen input of one container's start.

The supervisor builds a `Spec`, writes `to_json` to a sealed memfd and sends it to the shim. Only
the supervisor's side imports this module (dataclasses are dear to import); the shim reads the same
JSON through `runtime.plan`, whose test feeds it every field of this class.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

DEFAULT_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
"""What Docker leaves a container that asks for nothing."""

DEFAULT_MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
"""Docker's list: what tells of, or steers, the machine and not the container."""

DEFAULT_READONLY_PATHS = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)
"""Docker's list: what may be read but not written in the container's /proc."""

SECCOMP_FLAGS = 4
"""SECCOMP_FILTER_FLAG_SPEC_ALLOW, as runc does from 1.2 on: a filter doesn't switch on mitigations
that cost speed (before Linux 5.16 it did, spec_store_bypass_disable in kernel-parameters.txt)."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH of a container whose environment names none."""


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or directory of the host shown in the container, with what is mounted below it.

    Attributes:
        source: Absolute host path; symbolic links are followed on the host.
        target: Absolute path in the container; made if it is missing, symbolic links in it are
            followed inside the container's root and can't lead out of it.
        readonly: Nothing below it can be written, mounts below the source included.
        directory: Whether the source is one; None if the shim is to look, which must be sure then
            that the source's disk does not hang.
        propagation: "slave": what is mounted below the source later shows in the container too;
            "shared": and the other way round; "" for neither.
        recursive: With what is mounted below the source.
        subpath: A path below the source that is meant in its place; symbolic links in it can't lead
            out of the source.
        fill: The source is a volume's directory. If it is empty it gets what the image has at the
            target first (`runtime.copy_up`).
        optional: Left out where there is no place for it, and none can be made since what is
            mounted there is read-only.
        shifted: It belongs to containers, not to the machine: in a user namespace its files' ids
            are those inside. It must be in one of the spec's `shifted` then.
        device_nodes: Device nodes in it can be opened as far as the container's cgroup lets it
            (`Spec.device_nodes`, for this mount alone).
    """

    source: str
    target: str
    readonly: bool = False
    directory: bool | None = None
    propagation: str = ""
    recursive: bool = True
    subpath: str = ""
    fill: bool = False
    optional: bool = False
    shifted: bool = False
    device_nodes: bool = False


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """A fresh tmpfs in the container; device nodes in it can't be opened.

    Attributes:
        target: As a bind's.
        options: tmpfs(5)'s own, such as "size=64m". Without "mode" it gets that of the directory
            that it covers, if there is one.
        attributes: MOUNT_ATTR_* of mount_setattr(2).
    """

    target: str
    options: tuple[str, ...] = ()
    attributes: int = 0


@dataclass(frozen=True, slots=True)
class Device:
    """A device node of the container's own, made at its start.

    Attributes:
        path: Absolute and normalised, in the container; directories above it are made, and links in
            it are followed inside the container's root. Names that every container's /dev has
            (`runtime.devices.OWN`) can't be.
        kind: "c" or "b".
        major: Of the device.
        minor: Of the device.
        mode: Permission bits.
        uid: The owner, in the container's numbers.
        gid: The group, in the container's numbers.
    """

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o600
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class CgroupPlan:
    """Where the init is born and what it joins; `runtime.cgroups` makes the directories.

    Attributes:
        unified: The v2 directory that clone3 puts the init into.
        joins: v1 directories whose cgroup.procs the init writes itself to. Empty on pure v2, and
            on hybrid hosts for a container without limits.
        memory_limited: Memory is limited somewhere there, so that a process can be OOM-killed.
        depth: How many names below the mount points of their trees all of these directories are.
    """

    unified: str
    joins: tuple[str, ...] = ()
    memory_limited: bool = False
    depth: int = 2


@dataclass(frozen=True, slots=True)
class Rlimit:
    """A limit of each process's own (getrlimit(2)); a number is -1 for none.

    Attributes:
        name: As Docker has it, such as "nofile": for the texts.
        resource: The kernel's number of it.
        soft: What holds; the process may raise it up to `hard`.
        hard: The most that it may have.
    """

    name: str
    resource: int
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Donor:
    """A container that runs, whose namespace another one enters.

    Attributes:
        id: Its id.
        pid: Of its init, on the host.
        start_ticks: Field 22 of /proc/PID/stat: this run of it is meant, and no later one.
    """

    id: str
    pid: int
    start_ticks: int


_DONATED = ("network", "pid", "ipc", "user_namespace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One container's start.

    Attributes:
        id: The container's id; it names it in every shim message.
        args: The payload's argv; the first word is looked up in PATH inside the container.
        env: `KEY=VALUE` words. PATH, HOME and HOSTNAME are added when they are missing.
        cwd: Absolute directory in the container; a missing one is refused. "" means "/".
        user: Docker's `user[:group]`, each by name or number; "" is root.
        groups: Supplementary groups beside those of the user, each by name or number.
        hostname: The UTS namespace's host name, which HOSTNAME in the environment repeats.
        domainname: NIS domain name; "" leaves the kernel's "(none)".
        lower: Read-only layers, the topmost first; one at least.
        upper: The writable layer, on the same file system as `work`.
        work: overlayfs's own directory.
        merged: An empty directory; the overlay is mounted there, in the container's mount
            namespace only.
        binds: Mounted in this order, after the container's own mounts.
        readonly_root: The root can't be written; what is mounted in it can, each as it is.
        network: "none" (a namespace with nothing but loopback, which is up), "host", or another
            container's.
        pid: "private" (the payload is PID 1), "host" (it adopts its orphans all the same), or
            another container's, whose init does that.
        ipc: "private", "none" (private, and without /dev/shm), "host" (its /dev/shm is to be one of
            the binds), or another container's with its /dev/shm.
        user_namespace: "host" for the machine's own, "private" for a new one, or another
            container's, which then has the same map.
        cgroup_namespace: "private" (its cgroup is its root) or "host".
        uid_map: Its extents, each (first id inside, first outside, how many); none for "host".
        gid_map: The same for groups.
        shifted: Directories on disk with what belongs to containers: the layers, what holds `upper`
            and `work`, and the binds that are `shifted`. Ids in them are those inside.
        uts: "private" or "host"; there `hostname` and `domainname` must be empty.
        init: A statically linked program of the host's that is executed in place of the first word
            of `args`, from a read-only mount; "" for none.
        capabilities: What the payload may have at most (`CAP_…` names).
        no_new_privileges: Set PR_SET_NO_NEW_PRIVS.
        seccomp: The payload's system call filter: its array of struct sock_filter in base64; ""
            for none.
        seccomp_flags: SECCOMP_FILTER_FLAG_* of seccomp(2) for it.
        apparmor: The AppArmor profile that the payload's execve changes to; "" for none.
        terminal: Lines and columns of a terminal of its own in place of stdin, stdout and stderr,
            (0, 0) where they are not known yet; None for no terminal.
        masked_paths: Hidden if they exist: files by /dev/null, directories by an empty one.
        readonly_paths: Made read-only if they exist.
        writable_system: /sys and its cgroups can be written, as far as its capabilities go.
        shm_size: Bytes of /dev/shm.
        rlimits: What each of its processes may have, beside the shim's own limits.
        oom_score_adj: How readily the kernel kills it when memory is short, -1000 to 1000; None for
            what an ordinary process of the machine has.
        sysctls: Files of its own namespaces, as they are called below /proc/sys, and what each is
            to hold.
        devices: Nodes beside those that every container's /dev has. Which devices can be opened is
            not said here but by the cgroup (`runtime.cgroups.Cgroups.create(…, devices=rules)`):
            a container with devices needs both, and `device_nodes`.
        device_nodes: Device nodes in its file systems can be opened, those that it makes itself
            (mknod) included: its root, its /dev, binds and volumes are not mounted nodev. Only
            where the cgroup says which devices may be opened, or where all may (--privileged:
            device_nodes=True, devices=`supervisor.devices.of_host()` and the cgroup made with
            devices=`runtime.device_rules.EVERYTHING`).
        cgroup: Where the init is born.
        volatile: Don't write the upper layer back to the disk when the container ends or calls
            fsync: right for a container that is removed when it ends.
    """

    id: str
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    groups: tuple[str, ...] = ()
    hostname: str = ""
    domainname: str = ""
    lower: tuple[str, ...]
    upper: str
    work: str
    merged: str
    binds: tuple[Bind | Tmpfs, ...] = ()
    readonly_root: bool = False
    network: str | Donor = "none"
    pid: str | Donor = "private"
    ipc: str | Donor = "private"
    uts: str = "private"
    user_namespace: str | Donor = "host"
    cgroup_namespace: str = "private"
    uid_map: tuple[tuple[int, int, int], ...] = ()
    gid_map: tuple[tuple[int, int, int], ...] = ()
    shifted: tuple[str, ...] = ()
    init: str = ""
    capabilities: tuple[str, ...] = DEFAULT_CAPABILITIES
    no_new_privileges: bool = False
    seccomp: str = ""
    seccomp_flags: int = SECCOMP_FLAGS
    apparmor: str = ""
    terminal: tuple[int, int] | None = None
    masked_paths: tuple[str, ...] = DEFAULT_MASKED_PATHS
    readonly_paths: tuple[str, ...] = DEFAULT_READONLY_PATHS
    writable_system: bool = False
    shm_size: int = 64 * 1024 * 1024
    rlimits: tuple[Rlimit, ...] = ()
    oom_score_adj: int | None = None
    sysctls: tuple[tuple[str, str], ...] = ()
    devices: tuple[Device, ...] = ()
    device_nodes: bool = False
    cgroup: CgroupPlan
    volatile: bool = False

    def to_json(self) -> bytes:
        """The spec as compact JSON, which `from_json` and the shim read."""
        # Not dataclasses.asdict: its deep copy costs four times what the JSON does.
        values = {name: getattr(self, name) for name in self.__slots__}
        values["binds"] = [
            {name: getattr(bind, name) for name in bind.__slots__} for bind in self.binds
        ]
        values["rlimits"] = rlimit_values(self.rlimits)
        values["devices"] = [
            {name: getattr(device, name) for name in device.__slots__} for device in self.devices
        ]
        values["cgroup"] = {name: getattr(self.cgroup, name) for name in self.cgroup.__slots__}
        for name in _DONATED:
            if isinstance(donor := values[name], Donor):
                values[name] = {name: getattr(donor, name) for name in donor.__slots__}
        return json.dumps(values, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Spec:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is no JSON.
            TypeError: a field is missing or unknown.
        """
        values = json.loads(data)
        for name in (
            *("args", "env", "groups", "lower", "capabilities"),
            *("masked_paths", "readonly_paths"),
        ):
            values[name] = tuple(values[name])
        for name in ("uid_map", "gid_map"):
            values[name] = tuple(tuple(extent) for extent in values[name])
        values["shifted"] = tuple(values["shifted"])
        if values["terminal"] is not None:
            values["terminal"] = tuple(values["terminal"])
        values["binds"] = tuple(
            Bind(**one) if "source" in one else Tmpfs(**one | {"options": tuple(one["options"])})
            for one in values["binds"]
        )
        values["rlimits"] = tuple(Rlimit(**one) for one in values["rlimits"])
        values["sysctls"] = tuple((file, value) for file, value in values["sysctls"])
        for name in _DONATED:
            if isinstance(values[name], dict):
                values[name] = Donor(**values[name])
        values["devices"] = tuple(Device(**one) for one in values["devices"])
        cgroup = values["cgroup"]
        values["cgroup"] = CgroupPlan(
            cgroup["unified"],
            tuple(cgroup["joins"]),
            cgroup["memory_limited"],
            cgroup["depth"],
        )
        return cls(**values)


def rlimit_values(rlimits: tuple[Rlimit, ...]) -> list[dict[str, str | int]]:
    """What stands for them in the JSON of a spec."""
    return [{name: getattr(one, name) for name in one.__slots__} for one in rlimits]
