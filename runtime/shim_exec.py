"""The shim's side of an exec: a command in a container that runs already.

The child has to be born into the container's pid namespace: setns(2) of a pid namespace changes
only where the caller's later children go, so the shim goes there, clones once, and comes home.

An exec belongs to the supervisor that asked for it and ends with it: when the connection is lost,
its whole cgroup is killed. Its exit is told once and not kept.
"""

from __future__ import annotations

# The C module of `signal`, which imports enum.
import _signal  # type: ignore[import-not-found]  # typeshed has none
import errno
import os
import time

from runtime import exec_child, flags, spawner
from runtime.exec_plan import compile_exec
from runtime.shim_protocol import ExecExited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.becoming import Host
    from runtime.exec_plan import ExecPlan
    from runtime.kernel import Kernel
    from runtime.shim_protocol import Exec

_CLONE_FLAGS = flags.CLONE_PIDFD | flags.CLONE_INTO_CGROUP | flags.CLONE_CLEAR_SIGHAND
_OPEN_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Entered:
    """An exec under way."""

    __slots__ = ("id", "pid", "pidfd", "unified")

    def __init__(self, exec_id: str, pid: int, pidfd: int, unified: bytes) -> None:
        self.id = exec_id
        self.pid = pid
        self.pidfd = pidfd
        self.unified = unified


class Execs:
    """The execs under way, by pidfd."""

    def __init__(self, door: Kernel, host: Host) -> None:
        self._door = door
        self._host = host
        self._home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._away = False
        self._entered: dict[int, Entered] = {}

    def __contains__(self, pidfd: int) -> bool:
        return pidfd in self._entered

    def start(self, message: Exec, container: spawner.Held | None) -> Entered:
        """Clone the child. The message's descriptors stay the caller's, whatever happens.

        Raises:
            Refused: nothing was made.
        """
        if container is None or container.wait_status is not None:
            raise spawner.Refused(errno.ESRCH, "the container is not running")
        try:
            size = os.fstat(message.spec).st_size
            plan = compile_exec(os.pread(message.spec, size, 0))
        except (ValueError, KeyError, TypeError) as error:
            raise spawner.Refused(errno.EINVAL, f"the spec can't be used: {error}") from error
        ends = exec_child.Ends(
            message.status_w, message.stdout_w, message.stderr_w, container.pidfd
        )
        self.be_home()
        pid, pidfd = self._clone(plan, ends)
        entered = Entered(message.id, pid, pidfd, plan.unified)
        self._entered[pidfd] = entered
        return entered

    def _clone(self, plan: ExecPlan, ends: exec_child.Ends) -> tuple[int, int]:
        door = self._door
        try:
            cgroup = door.open(plan.unified, _OPEN_DIRECTORY)
        except OSError as error:
            words = f"open the cgroup {os.fsdecode(plan.unified)}: {error.strerror}"
            raise spawner.Refused(error.errno or 0, words) from error
        try:
            self._away = True
            door.setns(ends.container, flags.CLONE_NEWPID)
            pid, pidfd = door.clone3(_CLONE_FLAGS, cgroup)
            if pid == 0:
                exec_child.run(door, plan, ends, self._host)  # never returns
        except OSError as error:
            # ENOMEM: the init of that pid namespace has ended (pid_namespaces(7)).
            gone = error.errno in (errno.ESRCH, errno.ENOMEM)
            words = "the container has ended" if gone else f"make a process: {error.strerror}"
            raise spawner.Refused(error.errno or 0, words) from error
        finally:
            self._return()
            door.close(cgroup)
        return pid, pidfd

    def _return(self) -> None:
        try:
            self._door.setns(self._home, flags.CLONE_NEWPID)
        except OSError:
            return  # no memory; `be_home` tries again before anything else is cloned
        self._away = False

    def be_home(self) -> None:
        """Be sure that what is cloned next is born into our own pid namespace.

        Raises:
            Refused: it would not be.
        """
        if self._away:
            self._return()
        if self._away:
            raise spawner.Refused(errno.ENOMEM, "return to the shim's own pid namespace")

    def reap(self, pidfd: int) -> ExecExited | None:
        """Take the status of one that has ended; None if it has not. Its pidfd stays open."""
        status = spawner.reap(pidfd)
        if status is None:
            return None
        entered = self._entered.pop(pidfd)
        return ExecExited(entered.id, entered.pid, status, time.time_ns())

    def undo(self, entered: Entered) -> None:
        """Kill and reap one that was just made, and that nobody has been told of."""
        del self._entered[entered.pidfd]
        spawner.undo(self._door, entered.pidfd)

    def end_all(self) -> None:
        """Kill each with its children: whoever asked for them is gone. They are reaped as ever."""
        for entered in self._entered.values():
            _kill(entered)


def _kill(entered: Entered) -> None:
    try:
        fd = os.open(entered.unified + b"/cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"1")
        finally:
            os.close(fd)
    except OSError:
        # Before Linux 5.14 there is no such file; the next supervisor clears the cgroup.
        try:
            _signal.pidfd_send_signal(entered.pidfd, _signal.SIGKILL)
        except OSError:
            return  # it has ended
