"""Commands that somebody asked to have run in running containers: `exec`.

    create ──▶ known by an id ──start──▶ a task of its own enters the container
                                             │ executed            │ it can't be
                                             ▼                     ▼
                                          it runs ──exit──▶ its exit code is told for a while

The task belongs to the engine, not to the request that started it: a client that leaves changes
nothing for the command. While a client is there it reads the output, at its own pace; afterwards,
and where nobody ever comes, the task reads and drops it.
"""

from __future__ import annotations

import collections
import errno
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
import msgspec
import structlog

from runtime import terminal
from runtime.cgroups import Cgroups
from supervisor.container import Container
from supervisor.errors import Conflict, EngineError, EngineFault, NotFound
from supervisor.exec_link import ExecLost, ExecRefused
from supervisor.exec_output import Patience, drop, pass_on
from supervisor.execs import Command, Execution, NotExecuted, entered
from supervisor.lifecycle import attributes
from supervisor.states import ALIVE, State

if TYPE_CHECKING:
    from supervisor.engine import Engine
    from supervisor.stdin import Stdin

log = structlog.get_logger()

MOST_IDLE = 1024
"""So many that have not been started, and as many that have ended, are known at once."""

FORGOTTEN_AFTER_S = 300.0
"""An ended one is known for so long (Docker: five to ten minutes)."""

START_LIMIT_S = 10.0
"""How long whoever needs a command that is starting waits for it, as in Docker."""

_SWEPT_AT_ONCE = 8
_FAILED = 126
_NOT_FOUND = 127


class NoSuchExec(NotFound):
    """No exec has this id, or none has it any more."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"No such exec instance: {reference}")


class CommandFailed(EngineError):
    """The command could not be executed."""

    status = 400


class Session:
    """One command, from its create on.

    Attributes:
        id: 64 hexadecimal digits.
        detach_keys: As they were asked for.
        began: It was started, be it in vain.
        ready: Set once it was executed, or can't be.
        refusal: Why it could not be executed.
        pid: On the host, 0 before it runs.
        exit_code: None before it has ended.
        stdin: Its input, while it runs and if it has one.
    """

    def __init__(
        self, exec_id: str, container: Container, command: Command, detach_keys: str
    ) -> None:
        self.id = exec_id
        self.container = container
        self.command = command
        self.detach_keys = detach_keys
        self.began = False
        self.ready = anyio.Event()
        self.refusal: EngineError | None = None
        self._pid = 0
        self.exit_code: int | None = None
        self.stdin: Stdin | None = None
        self._execution: Execution | None = None
        self._ended = anyio.Event()
        self._left = anyio.Event()
        self._patience = Patience()
        self.ended_at = 0.0

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.began and self.exit_code is None

    async def started(self) -> None:
        """Wait (bounded) for one that is starting, until it was executed or can't be."""
        with anyio.move_on_after(START_LIMIT_S):
            await self.ready.wait()

    # ── for whoever is attached ─────────────────────────────────────────────────────────────

    async def show(self, take: Callable[[int, bytes], Awaitable[None]]) -> None:
        """Give what it prints, with the number of the stream, until it has ended.

        `take` is called for one piece after the other of a stream, for the two at once.

        Raises:
            What `take` raises.
        """
        trouble: Exception | None = None
        execution = self._execution
        if execution is None:
            return
        async with anyio.create_task_group() as tasks:

            async def read(number: int, descriptor: int) -> None:
                nonlocal trouble
                try:
                    await pass_on(descriptor, lambda piece: take(number, piece), self._patience)
                except Exception as error:  # noqa: BLE001 - raised below, not in a group
                    trouble = error
                    tasks.cancel_scope.cancel()

            for number, descriptor in ((1, execution.output), (2, execution.errors)):
                if descriptor >= 0:
                    tasks.start_soon(read, number, descriptor)
            await self._ended.wait()
        if trouble is not None:
            raise trouble

    @property
    def pid(self) -> int:
        """On the host; 0 before it runs. One that enters apart is told of twice, with two pids."""
        if self._execution is not None and not self._ended.is_set():
            self._pid = self._execution.pid
        return self._pid

    def leave(self) -> None:
        """Nobody reads what it prints, or types, any more; for good."""
        self._left.set()
        self._end_input()

    def _end_input(self) -> None:
        # At a terminal there is no such thing as an end; as in Docker the command goes on waiting.
        if self.stdin is not None and self.command.terminal is None:
            self.stdin.end()

    # ── for its task ────────────────────────────────────────────────────────────────────────

    def runs(self, execution: Execution) -> None:
        """It was executed."""
        self._execution = execution
        self.stdin = execution.stdin
        if self._left.is_set():
            self._end_input()
        self.ready.set()

    async def drain(self, execution: Execution) -> None:
        """Once nobody else reads what it prints, read it up to the end."""
        await self._left.wait()
        async with anyio.create_task_group() as tasks:
            for descriptor in (execution.output, execution.errors):
                if descriptor >= 0:
                    tasks.start_soon(drop, descriptor)

    def has_ended(self, exit_code: int) -> None:
        """It has ended; what it printed may still be on its way."""
        self._pid = self.pid  # while it is known
        self.exit_code = exit_code
        self.ended_at = anyio.current_time()
        self._patience.has_ended()
        self._ended.set()

    def failed(self, refusal: EngineError, exit_code: int = _FAILED) -> None:
        """It could not be executed."""
        self.refusal = refusal
        if self.exit_code is None:
            self.has_ended(exit_code)
        self.ready.set()

    def is_over(self) -> None:
        """Nothing of it is left but what is told of it."""
        self._execution = None
        self.stdin = None

    @property
    def terminal_fd(self) -> int:
        """The master of its terminal; -1 where it has none (any more)."""
        if self._execution is None or self.command.terminal is None:
            return -1
        return self._execution.output


class Sessions:
    """All of an engine's that are known."""

    def __init__(self, cgroups: Cgroups) -> None:
        self._cgroups = cgroups
        self._created: dict[str, Session] = {}
        self._running: dict[str, Session] = {}
        self._ended: dict[str, Session] = {}
        self._left_over: collections.deque[str] = collections.deque()

    def add(self, session: Session) -> None:
        """A new one."""
        self._forget_old()
        self._created[session.id] = session
        if len(self._created) > MOST_IDLE:
            del self._created[next(iter(self._created))]

    def find(self, reference: str) -> Session:
        """The one of this id. One that has ended may have outlived its container (`run --rm`).

        Raises:
            NoSuchExec: There is none, or its container went before it was started.
        """
        self._forget_old()
        session = (
            self._running.get(reference)
            or self._created.get(reference)
            or self._ended.get(reference)
        )
        if session is None or (not session.began and session.container.state is State.GONE):
            raise NoSuchExec(reference)
        return session

    def of(self, container: Container) -> list[str]:
        """The ids of a container's that have not ended."""
        known = (*self._created.values(), *self._running.values())
        return [session.id for session in known if session.container is container]

    def begins(self, session: Session) -> None:
        """One is started."""
        session.began = True
        self._created.pop(session.id, None)
        self._running[session.id] = session

    def ended(self, session: Session) -> None:
        """One has ended, or could not be executed."""
        if self._running.pop(session.id, None) is not None:
            self._ended[session.id] = session

    def container_ended(self, container: Container) -> None:
        """Forget what was to run in it and was not started: as in Docker it was for that run."""
        for session in list(self._created.values()):
            if session.container is container:
                del self._created[session.id]

    def left_over(self, place: str) -> None:
        """The cgroup of an ended command is in use by what it has started."""
        self._left_over.append(place)

    def sweep(self) -> None:
        """Remove cgroups that nobody uses any more: a few of those left over, in turn.

        What an earlier supervisor has left goes with its container.
        """
        for _ in range(min(_SWEPT_AT_ONCE, len(self._left_over))):
            place = self._left_over.popleft()
            try:
                self._cgroups.remove_below(place)
            except OSError as error:
                if error.errno == errno.EBUSY:
                    self._left_over.append(place)

    def _forget_old(self) -> None:
        if not self._ended:
            return
        latest = anyio.current_time() - FORGOTTEN_AFTER_S
        for session in list(self._ended.values()):
            if session.ended_at > latest and len(self._ended) <= MOST_IDLE:
                break
            del self._ended[session.id]


def create(engine: Engine, container: Container, command: Command, detach_keys: str) -> Session:
    """Note a command that is to be run.

    Raises:
        Conflict: The container does not run, or is paused.
    """
    check_running(container)
    session = Session(os.urandom(32).hex(), container, command, detach_keys)
    engine.exec_sessions.add(session)
    _tell(engine, session, f"exec_create: {' '.join(command.args)}")
    return session


def check_running(container: Container) -> None:
    """Refuse what can only be done in a container that runs.

    Raises:
        Conflict: It does not, or is paused.
    """
    if container.state is State.PAUSED:
        raise Conflict(f"container {container.id} is paused, unpause the container before exec")
    if container.state is State.RESTARTING:
        raise Conflict(
            f"container {container.id} is restarting, wait until the container is running"
        )
    if container.state not in ALIVE:
        raise _not_running(container)


def begin(
    engine: Engine,
    session: Session,
    *,
    attached: bool,
    size: tuple[int, int] = (0, 0),
) -> None:
    """Start it; `session.ready` tells of its execve.

    Args:
        attached: Somebody will `show` what it prints, and `leave`. Without, its streams are
            nobody's, and it outlives this supervisor if it has no terminal.
        size: Lines and columns of its terminal, if they are better known by now.

    Raises:
        Conflict: The container does not run, or it was started before.
    """
    check_running(session.container)
    if session.exit_code is not None:
        raise Conflict(f"Error: Exec command {session.id} has already run")
    if session.began:
        raise Conflict(f"Error: Exec command {session.id} is already running")
    command = session.command
    if command.terminal is not None and size != (0, 0):
        command = msgspec.structs.replace(command, terminal=size)
    if not attached:
        session.leave()
        command = msgspec.structs.replace(
            command, stdin=False, stdout=False, stderr=False, lasting=command.terminal is None
        )
    engine.exec_sessions.begins(session)
    engine.begin(_live, engine, session, command)


async def resize(session: Session, height: int, width: int) -> None:
    """Tell a command's terminal its size, in lines and columns; none is told nothing.

    Waits for one that is starting.

    Raises:
        Conflict: It does not run.
    """
    check_running(session.container)
    if session.command.terminal is None:
        return
    await session.started()
    if session.terminal_fd < 0:
        raise Conflict(f"exec {session.id} is not running")
    try:
        terminal.resize(session.terminal_fd, height, width)
    except OSError as error:
        raise Conflict(f"exec {session.id} is not running") from error


def detached(engine: Engine, session: Session) -> None:
    """A client has left it by its keys."""
    _tell(engine, session, "exec_detach")


async def _live(engine: Engine, session: Session, command: Command) -> None:
    container = session.container
    structlog.contextvars.bind_contextvars(container=container.short_id, exec=session.id[:12])
    name = f"exec-{session.id[:32]}"
    try:
        async with entered(engine, container, session.id, name, command) as execution:
            await execution.executed()
            session.runs(execution)
            _tell(engine, session, f"exec_start: {' '.join(command.args)}")
            async with anyio.create_task_group() as reading:
                reading.start_soon(session.drain, execution)
                ending = await execution.ending()
                engine.exec_sessions.ended(session)
                session.has_ended(ending.code)
                _tell(engine, session, "exec_die", exitCode=str(ending.code))
        if execution.left_over:
            engine.exec_sessions.left_over(f"{container.id}/{name}")
    except NotExecuted as error:
        code = _NOT_FOUND if error.exit_code == _NOT_FOUND else _FAILED
        session.failed(CommandFailed(f"OCI runtime exec failed: {error}"), code)
    except (ExecRefused, ExecLost, OSError) as error:
        session.failed(_refusal(container, error))
    finally:
        session.is_over()
        if not session.ready.is_set():
            session.failed(EngineFault("the engine ends"))
        engine.exec_sessions.ended(session)
        engine.exec_sessions.sweep()


def _refusal(container: Container, error: ExecRefused | ExecLost | OSError) -> EngineError:
    if isinstance(error, ExecLost):
        return EngineFault(f"cannot exec in container {container.name}: {error}: try again")
    gone = (errno.ESRCH, errno.ENOENT, errno.ENODEV)
    if error.errno in gone or container.run is None:
        return _not_running(container)
    words = str(error) if isinstance(error, ExecRefused) else error.strerror or str(error)
    return EngineFault(f"cannot exec in container {container.name}: {words}")


def _not_running(container: Container) -> Conflict:
    return Conflict(f"container {container.id} is not running")


def _tell(engine: Engine, session: Session, action: str, **more: str) -> None:
    container = session.container
    told = attributes(container, execID=session.id, **more)
    engine.events.publish("container", action, container.id, told)
