"""The shim's side of a start: from a Spawn message to a running init, or to nothing at all."""

from __future__ import annotations

import errno
import os
import select

from runtime import becoming, flags, init
from runtime.becoming import Ends
from runtime.kernel import Kernel, wait_status
from runtime.plan import compile_plan
from runtime.process_stat import start_ticks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.becoming import Host
    from runtime.fast import FastStarts
    from runtime.joining import Joining
    from runtime.network import NamespacePool
    from runtime.plan import Plan
    from runtime.shim_protocol import Spawn

CLONE_FLAGS = (
    flags.CLONE_PIDFD | flags.CLONE_NEWPID | flags.CLONE_INTO_CGROUP | flags.CLONE_CLEAR_SIGHAND
)
ENDS = (becoming.STATUS_FD, 1, 2)
"""A child's own numbers for its status pipe, stdout and stderr."""

_OPEN_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Refused(Exception):
    """No init, or no other process, was made.

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
        token: Names a fast start to its slot; 0 for others.
        ours: We are its parent; another shim was that of one which was handed over.
        stdin_w: -1 where it has no stdin, or has no more.
    """

    __slots__ = (
        "id",
        "ours",
        "pid",
        "pidfd",
        "start_ticks",
        "stderr_r",
        "stdin_w",
        "stdout_r",
        "time_ns",
        "token",
        "wait_status",
    )

    @property
    def streams(self) -> tuple[int, ...]:
        """What is held of its stdout, its stderr, and its stdin if there is one."""
        held = (self.stdout_r, self.stderr_r, self.stdin_w)
        return tuple(fd for fd in held if fd >= 0)

    def __init__(self, container_id: str, pid: int, pidfd: int, start_ticks: int) -> None:
        self.id = container_id
        self.pid = pid
        self.pidfd = pidfd
        self.start_ticks = start_ticks
        self.stdout_r = -1
        self.stderr_r = -1
        self.stdin_w = -1
        self.wait_status: int | None = None
        self.time_ns = 0
        self.token = 0
        self.ours = True


def spawn(
    door: Kernel,
    message: Spawn,
    pool: NamespacePool,
    host: Host,
    joining: Joining,
    fast: FastStarts | None = None,
) -> Held:
    """Clone the init. The message's descriptors stay the caller's, whatever happens.

    Raises:
        Refused: nothing was made, or it is gone again.
    """
    try:
        size = os.fstat(message.spec).st_size
        plan = compile_plan(os.pread(message.spec, size, 0))
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(errno.EINVAL, f"the container's spec can't be used: {error}") from error
    made_later = plan.host_network or plan.network_of is not None or plan.uids
    ready = -1 if made_later else pool.take()
    try:
        stdin = message.fds[0] if message.fds else -1
        entered = ready if plan.network_of is None else joining.pidfd(plan.network_of)
        ipc = -1 if plan.ipc_of is None else joining.pidfd(plan.ipc_of)
        ends = Ends(message.status_w, message.stdout_w, message.stderr_w, entered, stdin, ipc)
        pid, pidfd, token = _clone(door, plan, ends, host, joining, fast)
    finally:
        if ready >= 0:
            door.close(ready)
    try:
        held = Held(plan.id, pid, pidfd, start_ticks(pid))
        held.token = token
        return held
    except OSError as error:
        undo(door, pidfd)
        raise Refused(error.errno or 0, f"read /proc/{pid}/stat: {error.strerror}") from error


def _clone(
    door: Kernel, plan: Plan, ends: Ends, host: Host, joining: Joining, fast: FastStarts | None
) -> tuple[int, int, int]:
    """(pid, pidfd, token); the token is 0 for a Python init."""
    joined = None if plan.pid_of is None else joining.pidfd(plan.pid_of)
    bits = clone_flags(plan)
    cgroup = open_cgroup(door, plan.unified)
    try:
        if fast is not None and (packed := fast.pack_init(plan, ends)) is not None:
            return packed.spawn(bits, cgroup)
        if joined is not None:
            joining.enter(joined)
        pid, pidfd = door.clone3(bits, cgroup)
        if pid == 0:
            init.run(door, plan, ends, host)  # never returns
    except OSError as error:
        words = f"make a process for the container: {error.strerror}"
        raise Refused(error.errno or 0, words) from error
    finally:
        if joined is not None:
            joining.come_home()
        door.close(cgroup)
    return pid, pidfd, 0


def clone_flags(plan: Plan) -> int:
    """Those of its clone: with a pid namespace of its own, or without."""
    shares = plan.host_pid or plan.pid_of is not None
    return CLONE_FLAGS & ~flags.CLONE_NEWPID if shares else CLONE_FLAGS


def open_cgroup(door: Kernel, path: bytes) -> int:
    """The descriptor of a v2 directory, for clone3.

    Raises:
        Refused: It can't be opened.
    """
    try:
        return door.open(path, _OPEN_DIRECTORY)
    except OSError as error:
        words = f"open the cgroup {os.fsdecode(path)}: {error.strerror}"
        raise Refused(error.errno or 0, words) from error


def watch(door: Kernel, poll: select.epoll, pidfd: int) -> None:
    """Hear of the end of a process that was just made.

    Raises:
        Refused: Nobody would; it is gone again.
    """
    try:
        poll.register(pidfd, select.EPOLLIN)
    except OSError as error:
        undo(door, pidfd)
        raise Refused(error.errno or 0, f"watch the process: {error.strerror}") from error


def undo(door: Kernel, pidfd: int) -> None:
    """Kill and reap a process that was just made, and that nobody has been told of."""
    door.pidfd_send_signal(pidfd, 9)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    door.close(pidfd)


def reap(pidfd: int) -> int | None:
    """wait(2)'s status of the process behind `pidfd`, None if it has not ended."""
    result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    return None if result is None else wait_status(result.si_code, result.si_status)


class Diagnosis:
    """A fast start that failed: its descriptors, taken back, and a Python init on the same way.

    The child is killed, and once it is gone the Python init, which has words for people, repeats
    what it did; it reports over the same status pipe and never becomes the payload.

    Attributes:
        held: The container; its exit is told when the diagnosis is done.
        code: The errno that the child met.
        pidfd: Of the Python init, -1 before it runs.
        too_late: Somebody has killed the child meanwhile, so nobody waits for words.
    """

    def __init__(self, door: Kernel, held: Held, plan: Plan, code: int) -> None:
        self.too_late = False
        self.held = held
        self.code = code
        self.pidfd = -1
        self._door = door
        self._plan = plan
        self._fds: list[int] = []
        try:
            for fd in ENDS:
                self._fds.append(door.pidfd_getfd(held.pidfd, fd))
        except OSError as error:
            # A dead process has no descriptors (EBADF), or is no process any more (ESRCH).
            self.too_late = error.errno in (errno.EBADF, errno.ESRCH)
            self.close()
        door.pidfd_send_signal(held.pidfd, 9)

    @property
    def hopeful(self) -> bool:
        """The descriptors could be taken back, so the reason can be found and told."""
        return bool(self._fds)

    def run(self, host: Host, joining: Joining) -> bool:
        """Start the Python init, once the child is gone; False if there is nothing to wait for."""
        if not self.hopeful:
            return False
        door = DiagnosisDoor(self.code)
        try:
            status, stdout, stderr = self._fds
            donor = self._plan.network_of
            entered = -1 if donor is None else joining.pidfd(donor)
            ends = Ends(status, stdout, stderr, entered)
            _, self.pidfd, _ = _clone(door, self._plan, ends, host, joining, None)
        except Refused as refused:
            becoming.report(self._fds[0], "start", refused.errno, str(refused), 125)
            return False
        finally:
            self.close()
        return True

    def close(self) -> None:
        """Close what was taken back."""
        while self._fds:
            self._door.close(self._fds.pop())


class DiagnosisDoor(Kernel):
    """The kernel's door for a diagnosis: execve answers what it answered before."""

    def __init__(self, code: int) -> None:
        self._code = code

    def execve(self, *_: object) -> None:  # type: ignore[override]  # it takes no names
        """Refuse."""
        raise OSError(self._code, os.strerror(self._code))
