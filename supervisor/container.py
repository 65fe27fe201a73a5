"""One container's record: what was asked, where it is in its life, how it ended. No I/O.

`ContainerConfig` changes by `update` alone. `Life` is what changes; both together are what
`supervisor/store.py` keeps in config.json.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import msgspec

from supervisor.devices import Devices
from supervisor.mount_points import Mounts
from supervisor.phases import Timeline
from supervisor.privileges import Privileges
from supervisor.resolving import Resolving
from supervisor.security_words import Security, parse
from supervisor.states import State

if TYPE_CHECKING:
    from supervisor.attachments import Attachment
    from supervisor.restarting import Pause
    from supervisor.running import Run
    from supervisor.waiting import Notice


class Resources(msgspec.Struct, frozen=True, omit_defaults=True):
    """Limits, in the Engine API's units. 0 (or None for pids) means no limit.

    Attributes:
        memory: Bytes.
        memory_swap: Bytes of memory and swap together; -1 is unlimited swap, 0 twice `memory`.
        nano_cpus: Billionths of a CPU.
        cpu_period: Microseconds.
        cpu_quota: Microseconds in each period.
        cpu_shares: Relative weight, 1024 is the default.
        pids: Processes and threads; None, 0 or -1 is no limit.
        memory_reservation: Bytes that it keeps, if possible, when memory gets short.
        memory_swappiness: 0 to 100, on v1 alone; None is the kernel's default.
        cpuset_cpus: The CPUs that it may use, as in "0-2,5"; empty for all.
        cpuset_mems: The same for memory nodes.
        blkio_weight: Its part of a busy block device, 10 to 1000; 0 is the kernel's default.
        oom_kill_disable: Who wants more memory than there is waits, and is not killed; v1 alone.
        blkio_weight_devices: The weight for single devices: path, 10 to 1000.
        device_read_bps: Bytes that it may read of a device in a second: path, bytes.
        device_write_bps: The same for writing.
        device_read_iops: Requests for reading in a second.
        device_write_iops: The same for writing.
    """

    memory: int = 0
    memory_swap: int = 0
    nano_cpus: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_shares: int = 0
    pids: int | None = None
    memory_reservation: int = 0
    memory_swappiness: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    blkio_weight: int = 0
    oom_kill_disable: bool = False
    blkio_weight_devices: tuple[tuple[str, int], ...] = ()
    device_read_bps: tuple[tuple[str, int], ...] = ()
    device_write_bps: tuple[tuple[str, int], ...] = ()
    device_read_iops: tuple[tuple[str, int], ...] = ()
    device_write_iops: tuple[tuple[str, int], ...] = ()


class RestartPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """What follows an end that nobody asked for.

    Attributes:
        name: "no", "on-failure", "always" or "unless-stopped".
        max_retries: For on-failure: so many restarts in a row and no more; 0 is no limit.
        delay_ms: The first delay; doubled with each restart in a row.
        max_delay_ms: It grows no further than this.
    """

    name: str = "no"
    max_retries: int = 0
    delay_ms: int = 100
    max_delay_ms: int = 60_000


class HealthCheck(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a container's health is found out, as it was asked. Times in ns; 0 is the default of
    `supervisor/health.py`.

    Attributes:
        test: ("CMD", word, …), ("CMD-SHELL", line) or ("NONE",).
        interval: From the end of one probe to the next.
        timeout: A probe that takes longer is killed and has failed.
        retries: So many failures in a row make it unhealthy.
        start_period: Failures in this time after the start don't count.
        start_interval: The interval within the start period.
        on_failure: What becomes of an unhealthy container: "none", "kill", "restart" or "stop".
        shell: What stands before the line of CMD-SHELL.
    """

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    retries: int = 0
    start_period: int = 0
    start_interval: int = 0
    on_failure: str = "none"
    shell: tuple[str, ...] = ("/bin/sh", "-c")

    @property
    def is_on(self) -> bool:
        """Whether there is anything to run."""
        return self.test[:1] != ("NONE",)


class Namespaces(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which namespaces are its own, in Docker's words; `container:ID` is another container's.

    Attributes:
        pid: "" or "private", "host", or another's.
        ipc: "private", "shareable" (with others), "none" (without /dev/shm), "host", or another's.
        uts: "" or "host".
        cgroup: "" or "private", "host".
    """

    pid: str = ""
    ipc: str = "private"
    uts: str = ""
    cgroup: str = ""


Extents = tuple[tuple[int, int, int], ...]


class UserNamespace(msgspec.Struct, frozen=True, omit_defaults=True):
    """A user namespace that a container has.

    Attributes:
        name: Of this one; who shares it has the same.
        uids: Its map's extents: (first id inside, first outside, how many).
        gids: The same for groups.
    """

    name: str
    uids: Extents
    gids: Extents


class ContainerConfig(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What was asked for, with the image's defaults already merged in.

    Attributes:
        image: The image's name as it was typed.
        image_id: `sha256:…` of the image's configuration.
        entrypoint: Words that stand before `cmd`; the payload's argv is both together.
        env: `KEY=VALUE` words, and names alone, which took away what the image has.
        groups: Supplementary groups beside the user's own, by name or number.
        runtime: Which name of the one runtime was asked for.
        isolation: "" or "default", as it was asked: there is one kind.
        userns_mode: "" (as the engine has it), "host" for the machine's user namespace, "private"
            for one of its own (or of the container whose namespaces it shares).
        network_mode: "default", "none" or "host", as it was asked, or `container:ID`.
        init: A real init is PID 1 and runs the payload; None where nobody has said.
        exposed_ports: `80/tcp`; nothing but told until there are networks.
        ulimits: Docker's name, soft and hard limit; -1 is none.
        oom_score_adj: How readily the kernel kills it when memory is short; 0 for as any other.
        sysctls: By their names, as they were asked for.
        cgroup_parent: The cgroup that its own is in, without a slash before it; "" for the
            engine's.
        stop_signal: As it was asked ("SIGINT", "15"); empty for SIGTERM.
        stop_timeout: Seconds between the stop signal and SIGKILL; None for the default (10).
        privileges: Capabilities, --privileged, masked and read-only paths.
        devices: Nodes of the machine's, and what may be opened.
        security_options: Docker's words, such as "no-new-privileges".
        cid_file: Where the client has written the id, in its own words: shown, and nothing else.
        tty: stdin, stdout and stderr are a terminal of its own.
        open_stdin: It has an input, even while nobody is attached to it.
        stdin_once: Its input ends when the first who is attached to it ends theirs.
        console_size: Lines and columns of the terminal at its start, as the client knew them.
        of_build: A step of a build under way: it goes with the build, however that ends.
    """

    image: str
    image_id: str
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    groups: tuple[str, ...] = ()
    hostname: str = ""
    domainname: str = ""
    labels: dict[str, str] = {}
    exposed_ports: tuple[str, ...] = ()
    stop_signal: str = ""
    stop_timeout: int | None = None
    runtime: str = "mdocker"
    isolation: str = ""
    userns_mode: str = ""
    network_mode: str = "default"
    namespaces: Namespaces = Namespaces()
    resolving: Resolving = Resolving()
    init: bool | None = None
    resources: Resources = Resources()
    ulimits: tuple[tuple[str, int, int], ...] = ()
    oom_score_adj: int = 0
    sysctls: dict[str, str] = {}
    cgroup_parent: str = ""
    log_driver: str = "json-file"
    log_options: dict[str, str] = {}
    auto_remove: bool = False
    cid_file: str = ""
    restart: RestartPolicy = RestartPolicy()
    health: HealthCheck | None = None
    privileges: Privileges = Privileges()
    devices: Devices = Devices()
    security_options: tuple[str, ...] = ()
    shm_size: int = 64 * 1024 * 1024
    mounts: Mounts = Mounts()
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    console_size: tuple[int, int] = (0, 0)
    of_build: bool = False

    @property
    def args(self) -> tuple[str, ...]:
        """The payload's argv."""
        return self.entrypoint + self.cmd

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment without the names that stand alone: what a program is given."""
        return tuple(word for word in self.env if "=" in word)

    def no_new_privileges(self, by_default: bool) -> bool:
        """Whether no program in it may gain privileges by being executed.

        Args:
            by_default: What the engine does where a container says nothing.
        """
        asked = self.security.no_new_privileges
        return by_default if asked is None else asked

    @property
    def security(self) -> Security:
        """What its security options ask for."""
        return parse(self.security_options)


class Probe(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run of a health check's command. Times are ns since the epoch."""

    started_ns: int
    finished_ns: int
    exit_code: int
    output: str = ""


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the health check has found.

    Attributes:
        status: "starting", "healthy" or "unhealthy".
        failing_streak: Failures in a row.
        probes: The last five, newest last.
    """

    status: str = "starting"
    failing_streak: int = 0
    probes: tuple[Probe, ...] = ()


class PendingStop(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stop under way, on record so that the next supervisor goes on with it.

    Attributes:
        signal: The stop signal.
        deadline_boot_ns: When SIGKILL is due, on CLOCK_BOOTTIME; None for never.
        sent: The signal has been sent. A supervisor that dies between that and this record leaves
            its successor to send it again: twice in a blue moon, but never not at all.
    """

    signal: int
    deadline_boot_ns: int | None = None
    sent: bool = False


class Life(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Where the container is in its life. Times are ns since the epoch, 0 for never.

    Attributes:
        pid: The payload's process id on the host while it lives, else 0.
        pid_start_ticks: Field 22 of /proc/PID/stat, so that a reused pid is not mistaken.
        exit_code: Docker's number: the exit status, or 128 + signal.
        signal: The signal that ended it, 0 for none.
        oom_killed: The kernel has killed a process of this run, as memory had run out.
        oom_kills: How many, as far as it was told.
        error: Why the last start failed, empty if it did not.
        stopped_by_request: A `stop` or `kill` asked for the end that it has now. No policy restarts
            it then, and `unless-stopped` not after a reboot either.
        restart_count: Automatic restarts since the last start that somebody asked for.
        restart_asked: Its end is wanted for the sake of another run (it is unhealthy): that follows
            whatever the policy says.
        boot_id: The boot in which it was started last (/proc/sys/kernel/random/boot_id).
        stopping: The stop under way, if any.
        restart_at_ns: When the next attempt is due, 0 where none is awaited.
        restart_delay_ms: The last delay before a restart, which the next one doubles.
        health: What its health check has found; None without one.
        log_dropped_bytes: Output of this run that no log could take.
        memory_uncounted: It got its memory limit while it ran: what it held before is not counted.
        hostname: What it got at its last start from the one whose network it shares.
        remove_volumes: Its anonymous volumes go with it: for who has to finish its removal.
        user_namespace: That of its last start; None for the machine's.
        thaw_due: It is paused for a moment only: whoever finds it so without having asked ends it.
        timeline: The phases of it all with their times.
    """

    state: State = State.CREATED
    pid: int = 0
    pid_start_ticks: int = 0
    started_ns: int = 0
    finished_ns: int = 0
    exit_code: int = 0
    signal: int = 0
    core_dumped: bool = False
    oom_killed: bool = False
    oom_kills: int = 0
    error: str = ""
    restart_count: int = 0
    restart_asked: bool = False
    stopped_by_request: bool = False
    boot_id: str = ""
    stopping: PendingStop | None = None
    restart_at_ns: int = 0
    restart_delay_ms: int = 0
    health: Health | None = None
    log_dropped_bytes: int = 0
    memory_uncounted: bool = False
    hostname: str = ""
    remove_volumes: bool = False
    thaw_due: bool = False
    user_namespace: UserNamespace | None = None
    timeline: Timeline = Timeline()


class Container:
    """A container that the engine knows. Only the phases (`supervisor/lifecycle.py`) change one.

    `life` is replaced, never changed in place, so whoever reads it has a consistent snapshot.

    Attributes:
        id: 64 lower-case hex digits.
        name: Without a leading slash.
        created_ns: ns since the epoch.
        log_path: Where its log is, empty if the driver keeps none.
        run: Its process, pipes and log while it has any.
        attachments: Clients that get its live output; they may be there before the first start.
        restarting: A restart is under way: the end that comes now is not its last.
        unwanted: Somebody removes it by force: the end that comes now is its last, and nobody
            starts it any more.
        pause: The waiting for the next automatic restart, if that is what it does.
        is_written: Its last end is on record and the shim was told so (a full disk prevents it).
        next_exit: Told at the end of the run under way, or of the next one.
        removal: Told when it is gone, or can't be removed.
        claimed: Its removal waits for this, or for a while: a client may come back for its output.
    """

    __slots__ = (
        "attachments",
        "claimed",
        "config",
        "created_ns",
        "id",
        "is_written",
        "life",
        "lock",
        "log_path",
        "name",
        "next_exit",
        "pause",
        "removal",
        "restarting",
        "run",
        "unwanted",
    )

    def __init__(
        self,
        id: str,
        name: str,
        config: ContainerConfig,
        created_ns: int,
        life: Life | None = None,
        log_path: str = "",
    ) -> None:
        self.id = id
        self.name = name
        self.config = config
        self.created_ns = created_ns
        self.life = life or Life()
        self.log_path = log_path
        self.run: Run | None = None
        self.restarting = False
        self.unwanted = False
        self.pause: Pause | None = None
        self.is_written = True
        self.lock: anyio.Lock | None = None
        self.attachments: list[Attachment] = []
        self.next_exit: Notice | None = None
        self.removal: Notice | None = None
        self.claimed: anyio.Event | None = None

    @property
    def state(self) -> State:
        """Shorthand for `life.state`."""
        return self.life.state

    @property
    def short_id(self) -> str:
        """The first 12 digits, as people see it."""
        return self.id[:12]

    @property
    def phase_lock(self) -> anyio.Lock:
        """Held by the phase that is changing it: start, remove, rename. Made at first use."""
        if self.lock is None:
            self.lock = anyio.Lock(fast_acquire=True)
        return self.lock
