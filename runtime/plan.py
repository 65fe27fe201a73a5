"""The spec as the init wants it: bytes, numbers and finished lists, made before the fork.

`compile_plan` reads the JSON of `runtime.spec.Spec` without importing that module, whose
dataclasses would make every fork dearer.
"""

from __future__ import annotations

# The C module of `base64`, which imports re.
import binascii
import os

from runtime import capabilities, flags, idmap, json_text, mounts
from runtime.binds import Bind, Tmpfs
from runtime.devices import Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runtime.mounts import Mount

_DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class PayloadPlan:
    """What init and exec have in common: their cgroups, and how they become what was asked for.

    Attributes:
        env: The environment without what depends on the user (HOME).
        groups: Supplementary groups beside the user's, by name or number.
        uids: The map of its user namespace's uids; empty in the machine's own.
        gids: The same for gids.
        keep: Capabilities as a bit mask.
        filter: System calls are filtered by this array of struct sock_filter; b"" for none.
        filter_flags: SECCOMP_FILTER_FLAG_* for it.
        apparmor: The AppArmor profile that the execve changes to; b"" for none.
        keyring: The name of the session keyring that all processes of the container share; b"" for
            a new one without a name.
        unified: The v2 cgroup directory that clone3 puts the process into.
        joins: cgroup.procs files of v1 directories to enter.
        memory_limited: A process of the container can be OOM-killed.
        init: What is executed in place of the first of `args`; b"" for that itself.
        terminal: Lines and columns of a terminal of its own, (0, 0) where they are not known yet;
            None for no terminal.
        rlimits: Docker's name, the kernel's number, soft and hard limit, of each that is set.
        oom_score_adj: What to write there; b"" for what every container gets.
    """

    __slots__ = (
        "apparmor",
        "args",
        "cwd",
        "env",
        "filter",
        "filter_flags",
        "gids",
        "groups",
        "init",
        "joins",
        "keep",
        "keyring",
        "memory_limited",
        "no_new_privileges",
        "oom_score_adj",
        "rlimits",
        "terminal",
        "uids",
        "unified",
        "user",
    )

    args: list[bytes]
    env: dict[bytes, bytes]
    cwd: bytes
    user: bytes
    groups: list[bytes]
    uids: list[tuple[int, int, int]]
    gids: list[tuple[int, int, int]]
    keep: int
    no_new_privileges: bool
    filter: bytes
    filter_flags: int
    apparmor: bytes
    keyring: bytes
    unified: bytes
    joins: list[bytes]
    memory_limited: bool
    init: bytes
    terminal: tuple[int, int] | None
    rlimits: list[tuple[str, int, int, int]]
    oom_score_adj: bytes

    def take(self, spec: dict[str, Any], hostname: bytes) -> None:
        """What a spec says of the payload itself.

        Raises:
            ValueError: a value can't be used; the text says which.
            KeyError: a field is missing.
        """
        self.args = [as_bytes(word) for word in spec["args"]]
        if not self.args or not self.args[0]:
            raise ValueError("no command specified")
        self.env = environment(spec["env"], hostname)
        self.cwd = as_bytes(spec["cwd"]) or b"/"
        self.user = as_bytes(spec["user"])
        self.groups = [as_bytes(name) for name in spec["groups"]]
        self.uids = _extents(spec["uid_map"])
        self.gids = _extents(spec["gid_map"])
        self.keep = capabilities.mask(spec["capabilities"])
        self.no_new_privileges = spec["no_new_privileges"]
        self.filter = binascii.a2b_base64(spec["seccomp"])
        self.filter_flags = spec["seccomp_flags"]
        if len(self.filter) % 8:
            raise ValueError("a system call filter that is no array of struct sock_filter")
        self.apparmor = as_bytes(spec["apparmor"])
        self.init = b""
        self.rlimits = [
            (str(one["name"]), int(one["resource"]), int(one["soft"]), int(one["hard"]))
            for one in spec["rlimits"]
        ]
        score = spec["oom_score_adj"]
        self.oom_score_adj = b"" if score is None else b"%d" % score
        self.terminal = None
        if spec["terminal"] is not None:
            height, width = spec["terminal"]
            self.terminal = (int(height), int(width))


class Donor:
    """Whose namespace is entered; the fields are those of `runtime.spec.Donor`."""

    __slots__ = ("id", "pid", "start_ticks")

    def __init__(self, id: str, pid: int, start_ticks: int) -> None:
        self.id = id
        self.pid = pid
        self.start_ticks = start_ticks


class Plan(PayloadPlan):
    """Everything that the init does, prepared.

    Attributes:
        id: The container's id.
        own: The CLONE_NEW* flags of what it unshares, but for the network.
        host_network: Stay in the host's network namespace.
        network_of: Enter this one's network namespace; None for none.
        host_pid: Stay in the host's pid namespace.
        user_of: Share this one's user namespace; None for the machine's own or a new one.
        shifted: What is shown with shifted ids (`runtime.spec.Spec`).
        pid_of: Be born into this one's pid namespace; None for none.
        ipc_of: Enter this one's IPC namespace, and have its /dev/shm; None for none.
        shm: It has a /dev/shm of one kind or another.
        nodes: Device nodes beside those that are everybody's.
        nodev: MS_NODEV, or 0 where device nodes in its file systems may be opened.
        early: Mounts below `merged`, made before it is the root.
        cgroup_depth: As in `runtime.spec.CgroupPlan`.
        cgroup_directories: Made before `cgroup_mounts`.
        writable_system: /sys and its cgroups can be written.
        sysctls: Paths inside the container, and what to write there.
    """

    __slots__ = (
        "binds",
        "cgroup_depth",
        "cgroup_directories",
        "cgroup_mounts",
        "dev",
        "devices",
        "domainname",
        "early",
        "host_network",
        "host_pid",
        "hostname",
        "id",
        "ipc_of",
        "lower",
        "masked",
        "merged",
        "network_of",
        "nodes",
        "nodev",
        "own",
        "pid_of",
        "readonly",
        "readonly_root",
        "shifted",
        "shm",
        "shm_size",
        "sysctls",
        "upper",
        "user_of",
        "volatile",
        "work",
        "writable_system",
    )

    id: str
    hostname: bytes
    domainname: bytes
    lower: list[bytes]
    upper: bytes
    work: bytes
    merged: bytes
    volatile: bool
    binds: list[Bind | Tmpfs]
    readonly_root: bool
    own: int
    host_network: bool
    network_of: Donor | None
    host_pid: bool
    pid_of: Donor | None
    user_of: Donor | None
    shifted: list[bytes]
    ipc_of: Donor | None
    shm: bool
    masked: list[bytes]
    readonly: list[bytes]
    writable_system: bool
    shm_size: int
    sysctls: list[tuple[bytes, bytes]]
    dev: bytes
    early: list[Mount]
    devices: list[Mount]
    nodes: list[Node]
    nodev: int
    cgroup_depth: int
    cgroup_directories: list[bytes]
    cgroup_mounts: list[Mount]


def compile_plan(data: bytes) -> Plan:
    """Turn `Spec.to_json`'s bytes into a plan.

    Raises:
        ValueError: the spec is no JSON, or a value in it can't be used; the text says which.
        KeyError: a field is missing.
    """
    spec = json_text.load(data)
    plan = Plan()
    plan.id = spec["id"]
    plan.hostname = as_bytes(spec["hostname"])
    plan.take(spec, plan.hostname)
    plan.keyring = keyring(plan.id)
    plan.domainname = as_bytes(spec["domainname"])
    plan.lower = [as_bytes(path) for path in spec["lower"]]
    plan.upper = as_bytes(spec["upper"])
    plan.work = as_bytes(spec["work"])
    plan.merged = as_bytes(spec["merged"])
    plan.volatile = spec["volatile"]
    plan.binds = [_one_mount(one) for one in spec["binds"]]
    plan.readonly_root = spec["readonly_root"]
    network, plan.network_of = _shared(spec, "network", ("none", "host"))
    pid, plan.pid_of = _shared(spec, "pid", ("private", "host"))
    ipc, plan.ipc_of = _shared(spec, "ipc", ("private", "none", "host"))
    uts, _ = _shared(spec, "uts", ("private", "host"))
    if uts == "host" and (plan.hostname or plan.domainname):
        raise ValueError("a host name, which would become the machine's own")
    plan.host_network = network == "host"
    plan.host_pid = pid == "host"
    plan.shm = ipc != "none"
    plan.own = flags.OWN_NAMESPACES
    if uts == "host":
        plan.own &= ~flags.CLONE_NEWUTS
    if ipc not in ("private", "none"):
        plan.own &= ~flags.CLONE_NEWIPC
    if _shared(spec, "cgroup_namespace", ("private", "host"))[0] == "host":
        plan.own &= ~flags.CLONE_NEWCGROUP
    plan.init = as_bytes(spec["init"])
    plan.masked = [as_bytes(path) for path in spec["masked_paths"]]
    plan.readonly = [as_bytes(path) for path in spec["readonly_paths"]]
    plan.unified = as_bytes(spec["cgroup"]["unified"])
    plan.memory_limited = spec["cgroup"]["memory_limited"]
    plan.cgroup_depth = spec["cgroup"]["depth"]
    directories = [as_bytes(path) for path in spec["cgroup"]["joins"]]
    plan.joins = [path + b"/cgroup.procs" for path in directories]
    plan.dev = plan.merged + b"/dev"
    plan.shm_size = spec["shm_size"]
    plan.sysctls = [
        (b"/proc/sys/" + as_bytes(file), as_bytes(value)) for file, value in spec["sysctls"]
    ]
    plan.writable_system = spec["writable_system"]
    plan.early = mounts.early_mounts(plan.merged, plan.shm_size, plan.writable_system)
    if ipc != "private":
        plan.early = [one for one in plan.early if one[1] != plan.dev + b"/shm"]
    _take_user_namespace(plan, spec)
    plan.devices = mounts.device_mounts(plan.merged)
    plan.nodes = [_node(one) for one in spec["devices"]]
    plan.nodev = 0 if spec["device_nodes"] else flags.MS_NODEV
    if plan.uids:
        for node in plan.nodes:
            # Who has no place in the map stays what a new file's owner is: the root inside.
            node.uid = idmap.outside(plan.uids, node.uid)
            node.gid = idmap.outside(plan.gids, node.gid)
    if plan.nodes and plan.nodev:
        raise ValueError("devices that could not be opened: device_nodes is not set")
    plan.cgroup_directories, plan.cgroup_mounts = mounts.cgroup_mounts(
        plan.merged, directories, plan.writable_system, plan.cgroup_depth
    )
    return plan


def keyring(container_id: str) -> bytes:
    """What a container's session keyring is called, as runc calls it."""
    return as_bytes(f"_ses.{container_id}")


def _take_user_namespace(plan: Plan, spec: dict[str, Any]) -> None:
    """The user namespace, and ids of mounts that are meant inside it."""
    mode, plan.user_of = _shared(spec, "user_namespace", ("host", "private"))
    plan.shifted = [as_bytes(path) for path in spec["shifted"]]
    if (mode == "host") is bool(plan.uids) or bool(plan.uids) is not bool(plan.gids):
        raise ValueError("a user namespace without a map, or the other way round")
    if plan.uids:
        for one in plan.binds:
            if isinstance(one, Tmpfs):
                one.options = idmap.shifted_options(one.options, plan.uids, plan.gids)
        plan.early = [
            (source, target, kind, bits, idmap.terminal_options(data, plan.gids))
            for source, target, kind, bits, data in plan.early
        ]


def _extents(values: list[list[int]]) -> list[tuple[int, int, int]]:
    return [(int(inside), int(outside), int(count)) for inside, outside, count in values]


def _shared(spec: dict[str, Any], name: str, modes: tuple[str, ...]) -> tuple[str, Donor | None]:
    """One of the modes, or whose it is."""
    value = spec[name]
    if isinstance(value, dict):
        return "", Donor(value["id"], value["pid"], value["start_ticks"])
    if value not in modes:
        raise ValueError(f"unknown {name} {value}")
    return value, None


def _node(one: dict[str, Any]) -> Node:
    names = ("kind", "major", "minor", "mode", "uid", "gid")
    return Node(as_bytes(one["path"]), *[one[name] for name in names])


def _one_mount(one: dict[str, Any]) -> Bind | Tmpfs:
    target = as_bytes(one["target"])
    if "source" not in one:
        return Tmpfs(target, [as_bytes(word) for word in one["options"]], one["attributes"])
    bind = Bind(as_bytes(one["source"]), target, one["readonly"])
    bind.directory = one["directory"]
    bind.propagation = one["propagation"]
    bind.recursive = one["recursive"]
    bind.subpath = as_bytes(one["subpath"])
    bind.fill = one["fill"]
    bind.optional = one["optional"]
    bind.shifted = one["shifted"]
    bind.device_nodes = one["device_nodes"]
    return bind


def as_bytes(text: str) -> bytes:
    """A text of a spec as the kernel takes it.

    Raises:
        ValueError: it holds a NUL character.
    """
    if "\0" in text:
        raise ValueError(f"a NUL character in {text!r}")
    return os.fsencode(text)


def environment(words: list[str], hostname: bytes) -> dict[bytes, bytes]:
    """Later words win; a word without "=" takes the variable away, as the Engine API has it."""
    env = {b"PATH": _DEFAULT_PATH}
    if hostname:
        env[b"HOSTNAME"] = hostname
    for word in words:
        name, separator, value = as_bytes(word).partition(b"=")
        if separator and name:
            env[name] = value
        elif not separator:
            env.pop(name, None)
        else:
            raise ValueError(f"environment word {word!r} has no name")
    return env
