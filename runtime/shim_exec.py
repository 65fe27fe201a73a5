"""The shim's side of an exec: a command in a container that runs already.

The child has to be born into the container's pid namespace (`runtime.joining`), unless those inside
could take it over there (`runtime.exec_apart`).

An exec belongs to the supervisor that asked for it and ends with it: when the connection is lost,
its whole cgroup is killed, unless it is a `lasting` one. Its exit is told once and not kept.

As with inits there is a fast way (`runtime.native`). A fast child that gives up is killed, and a
Python one (`runtime.exec_child`) goes the same way on the descriptors that it had, to find words.
"""

from __future__ import annotations

# The C module of `signal`, which imports enum.
import _signal  # type: ignore[import-not-found]  # typeshed has none
import errno
import os
import select
import sys
import time

from runtime import exec_child, flags, spawner
from runtime.becoming import Ends
from runtime.exec_plan import compile_exec
from runtime.shim_protocol import Execed, ExecExited, ExecRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.becoming import Host
    from runtime.exec_plan import ExecPlan
    from runtime.fast import FastStarts
    from runtime.joining import Joining
    from runtime.kernel import Kernel
    from runtime.shim_protocol import Exec, Message

_CLONE_FLAGS = flags.CLONE_PIDFD | flags.CLONE_INTO_CGROUP | flags.CLONE_CLEAR_SIGHAND


class Entered:
    """An exec under way.

    Attributes:
        pid: As it was told to the supervisor; another child may follow a fast one.
        token: Names a fast child to its slot; 0 for others.
        code: The errno that a fast child has met.
        taken: Its descriptors, taken back for the Python child that follows.
        birth: The memory in which the pid of another child of ours may be that follows an `apart`
            one; -1 for none.
    """

    __slots__ = ("birth", "code", "container", "id", "pid", "plan", "taken", "token")

    def __init__(self, exec_id: str, plan: ExecPlan, container: spawner.Held) -> None:
        self.id = exec_id
        self.plan = plan
        self.container = container
        self.pid = 0
        self.token = 0
        self.code = 0
        self.taken: list[int] = []
        self.birth = -1

    def let_go_of_birth(self) -> int:
        """Look for a pid there, the last time; returns it, if it is a child of ours, or 0."""
        if self.birth < 0:
            return 0
        pid = int.from_bytes(os.pread(self.birth, 4, 0), sys.byteorder)
        os.close(self.birth)
        self.birth = -1
        try:
            if pid:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return 0
        return pid


class Execs:
    """The execs under way, by pidfd."""

    def __init__(
        self,
        door: Kernel,
        host: Host,
        fast: FastStarts | None,
        poll: select.epoll,
        send: Callable[[Message], None],
        release: Callable[[tuple[int, ...]], None],
        joining: Joining,
    ) -> None:
        self._door = door
        self._host = host
        self._fast = fast
        self._poll = poll
        self._send = send
        self._release = release
        self._joining = joining
        self._entered: dict[int, Entered] = {}

    def __contains__(self, pidfd: int) -> bool:
        return pidfd in self._entered

    def start(self, message: Exec, container: spawner.Held | None) -> int:
        """Clone the child and answer the supervisor; the message's descriptors stay the caller's.

        Returns:
            The errno that it was refused for, else 0.
        """
        try:
            entered = self._compiled(message, container)
            streams = (message.status_w, message.stdout_w, message.stderr_w)
            ends = Ends(*streams, entered.container.pidfd, *message.fds)
            pidfd = self._clone(entered, ends, self._door, self._fast, message.spec)
        except spawner.Refused as refused:
            self._send(ExecRefused(message.id, refused.errno, str(refused)))
            return refused.errno
        self._send(Execed(entered.id, entered.pid, pidfd))
        return 0

    def _compiled(self, message: Exec, container: spawner.Held | None) -> Entered:
        if container is None or container.wait_status is not None:
            raise spawner.Refused(errno.ESRCH, "the container is not running")
        try:
            size = os.fstat(message.spec).st_size
            plan = compile_exec(os.pread(message.spec, size, 0))
        except (ValueError, KeyError, TypeError) as error:
            raise spawner.Refused(errno.EINVAL, f"the spec can't be used: {error}") from error
        return Entered(message.id, plan, container)

    def _clone(
        self,
        entered: Entered,
        ends: Ends,
        door: Kernel,
        fast: FastStarts | None,
        spec: int = -1,
    ) -> int:
        """Have a child, watch it, return its pidfd."""
        self._joining.be_home()
        plan = entered.plan
        cgroup = spawner.open_cgroup(door, plan.unified)
        try:
            program = None
            if not plan.apart:
                program = fast.pack_exec(plan, ends) if fast is not None else None
                self._joining.enter(ends.entered)
            if plan.apart:
                entered.birth = os.memfd_create("mdocker-birth")
                os.ftruncate(entered.birth, exec_child.BIRTH_BYTES)
                entered.pid, pidfd = door.clone3(_CLONE_FLAGS, cgroup)
                if entered.pid == 0:
                    exec_child.leave(door, plan, ends, spec, entered.birth, self._host)
            elif program is not None:
                entered.pid, pidfd, entered.token = program.spawn(_CLONE_FLAGS, cgroup)
            else:
                entered.pid, pidfd = door.clone3(_CLONE_FLAGS, cgroup)
                if entered.pid == 0:
                    exec_child.run(door, plan, ends, self._host)  # never returns
        except OSError as error:
            entered.let_go_of_birth()
            # ENOMEM: the init of that pid namespace has ended (pid_namespaces(7)).
            gone = error.errno in (errno.ESRCH, errno.ENOMEM)
            words = "the container has ended" if gone else f"make a process: {error.strerror}"
            raise spawner.Refused(error.errno or 0, words) from error
        finally:
            self._joining.come_home()
            door.close(cgroup)
        try:
            spawner.watch(self._door, self._poll, pidfd)
        except spawner.Refused:
            if pid := entered.let_go_of_birth():
                _end(pid)
            raise
        self._entered[pidfd] = entered
        return pidfd

    def ended(self, pidfd: int) -> None:
        """Take the status of one that has ended, and tell it; or let a Python child follow."""
        status = spawner.reap(pidfd)
        if status is None:
            return
        entered = self._entered.pop(pidfd)
        self._poll.unregister(pidfd)
        self._release((pidfd,))
        if entered.taken and self._follow(entered):
            return
        if (pid := entered.let_go_of_birth()) and self._go_on_with(entered, pid):
            return
        self._send(ExecExited(entered.id, entered.pid, status, time.time_ns()))

    def _go_on_with(self, entered: Entered, pid: int) -> bool:
        """Watch the sibling of one that has ended, and tell of it; False if nobody could."""
        try:
            # Our child, so nobody else can have taken its pid.
            pidfd = os.pidfd_open(pid)
        except OSError:
            _end(pid)
            return False
        try:
            spawner.watch(self._door, self._poll, pidfd)
        except spawner.Refused:
            return False
        entered.pid = pid
        self._entered[pidfd] = entered
        self._send(Execed(entered.id, pid, pidfd))
        return True

    def diagnose(self, token: int, code: int) -> bool:
        """A fast child has given up; True if it was one of these."""
        for pidfd, entered in self._entered.items():
            if entered.token == token:
                entered.code = code
                try:
                    for fd in spawner.ENDS:
                        entered.taken.append(self._door.pidfd_getfd(pidfd, fd))
                except OSError:
                    self._give_up(entered)  # killed meanwhile; its end will be told
                _kill_one(pidfd)
                return True
        return False

    def _follow(self, entered: Entered) -> bool:
        """The Python child that finds the words for what a fast one has met."""
        try:
            door = spawner.DiagnosisDoor(entered.code)
            status, stdout, stderr = entered.taken
            ends = Ends(status, stdout, stderr, entered.container.pidfd)
            self._clone(entered, ends, door, None)
        except spawner.Refused:
            return False
        finally:
            self._give_up(entered)
        return True

    def _give_up(self, entered: Entered) -> None:
        while entered.taken:
            self._door.close(entered.taken.pop())

    def end_all(self) -> None:
        """Kill each with its children: whoever asked for them is gone. They are reaped as ever."""
        for pidfd, entered in self._entered.items():
            if entered.plan.lasting:
                continue
            self._give_up(entered)
            _kill_all(entered.plan.unified, pidfd)


def _kill_all(unified: bytes, pidfd: int) -> None:
    try:
        fd = os.open(unified + b"/cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"1")
        finally:
            os.close(fd)
    except OSError:
        # Before Linux 5.14 there is no such file; the next supervisor clears the cgroup.
        _kill_one(pidfd)


def _end(pid: int) -> None:
    """Kill and reap a child of ours that nobody has been told of."""
    os.kill(pid, _signal.SIGKILL)
    os.waitpid(pid, 0)


def _kill_one(pidfd: int) -> None:
    try:
        _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
    except OSError:
        return  # it has ended
