"""The shim's side of a start: from a Spawn message to a running init, or to nothing at all."""

from __future__ import annotations

import errno
import os

from runtime import flags, init
from runtime.kernel import wait_status
from runtime.plan import compile_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.init import Ends, Host
    from runtime.kernel import Kernel
    from runtime.network import NamespacePool
    from runtime.plan import Plan
    from runtime.shim_protocol import Spawn

_CLONE = (
    flags.CLONE_PIDFD | flags.CLONE_NEWPID | flags.CLONE_INTO_CGROUP | flags.CLONE_CLEAR_SIGHAND
)
_OPEN_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Refused(Exception):
    """No init was made.

    Attributes:
        errno: The kernel's number, or EINVAL for a spec that can't be used.
    """

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.errno = code


class Held:
    """What the shim holds for one container.

    Attributes:
        pidfd: -1 once reaped.
        wait_status: None until reaped.
        time_ns: When it was reaped, since the epoch.
    """

    __slots__ = (
        "id",
        "pid",
        "pidfd",
        "start_ticks",
        "stderr_r",
        "stdout_r",
        "time_ns",
        "wait_status",
    )

    def __init__(self, container_id: str, pid: int, pidfd: int, start_ticks: int) -> None:
        self.id = container_id
        self.pid = pid
        self.pidfd = pidfd
        self.start_ticks = start_ticks
        self.stdout_r = -1
        self.stderr_r = -1
        self.wait_status: int | None = None
        self.time_ns = 0


def spawn(door: Kernel, message: Spawn, pool: NamespacePool, host: Host) -> Held:
    """Clone the init. The message's descriptors stay the caller's, whatever happens.

    Raises:
        Refused: nothing was made, or it is gone again.
    """
    try:
        size = os.fstat(message.spec).st_size
        plan = compile_plan(os.pread(message.spec, size, 0))
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(errno.EINVAL, f"the container's spec can't be used: {error}") from error
    network = -1 if plan.host_network else pool.take()
    try:
        ends = init.Ends(message.status_w, message.stdout_w, message.stderr_w, network)
        pid, pidfd = _clone(door, plan, ends, host)
    finally:
        if network >= 0:
            door.close(network)
    try:
        return Held(plan.id, pid, pidfd, start_ticks(pid))
    except OSError as error:
        undo(door, pidfd)
        raise Refused(error.errno or 0, f"read /proc/{pid}/stat: {error.strerror}") from error


def _clone(door: Kernel, plan: Plan, ends: Ends, host: Host) -> tuple[int, int]:
    try:
        cgroup = door.open(plan.unified, _OPEN_DIRECTORY)
    except OSError as error:
        words = f"open the cgroup {os.fsdecode(plan.unified)}: {error.strerror}"
        raise Refused(error.errno or 0, words) from error
    try:
        pid, pidfd = door.clone3(_CLONE, cgroup)
        if pid == 0:
            init.run(door, plan, ends, host)  # never returns
    except OSError as error:
        words = f"make a process for the container: {error.strerror}"
        raise Refused(error.errno or 0, words) from error
    finally:
        door.close(cgroup)
    return pid, pidfd


def undo(door: Kernel, pidfd: int) -> None:
    """Kill and reap an init that was just made, and that nobody has been told of."""
    door.pidfd_send_signal(pidfd, 9)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    door.close(pidfd)


def start_ticks(pid: int) -> int:
    """Field 22 of /proc/PID/stat: when it started, in clock ticks since the boot."""
    # Not open(): its buffer and its questions to the kernel are a tenth of a start's cost here.
    fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(fd, 4096)
    finally:
        os.close(fd)
    # The command's name, field 2, may hold anything but ends at the last bracket.
    return int(text[text.rindex(b")") + 2 :].split(b" ", 20)[19])


def reap(pidfd: int) -> int | None:
    """wait(2)'s status of the process behind `pidfd`, None if it has not ended."""
    result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    return None if result is None else wait_status(result.si_code, result.si_status)
