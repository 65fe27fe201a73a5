"""A command in a running container: entered, read, and what is left of it when it ends.

Health checks and the sessions of `exec` are made of this. The command has a cgroup of its own
below the container's, so that it can be ended with its children. Whatever way the block of
`entered` is left, the command has ended then (but for a `lasting` one); what it has started and
left behind has, too, unless it is to be left alone (`leave_others`).
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import msgspec
import structlog

from runtime import kernel
from runtime.exec_spec import ExecSpec
from runtime.spec import CgroupPlan
from supervisor import network_files, remapping
from supervisor.confinement import Filter, apparmor
from supervisor.container import Container
from supervisor.errors import EngineFault, NoSuchImage
from supervisor.exec_link import ExecLost, ExecRefused
from supervisor.exits import Ending
from supervisor.kernel_limits import ulimits_of
from supervisor.privileges import CapabilityRefused, at_hand
from supervisor.process_streams import console, input_pipe, output_pipe
from supervisor.shared_namespaces import shares_pids, traceable
from supervisor.stdin import Stdin, receive_terminal
from supervisor.strays import bury_orphans, clear_below

if TYPE_CHECKING:
    from supervisor.engine import Engine

log = structlog.get_logger()

KILL_LIMIT_S = 10.0
"""A process that outlives SIGKILL this long is in uninterruptible sleep: reported, not awaited."""

_REPORT_LIMIT = 65536
_USERS = ("/etc", "/etc/passwd", "/etc/group")


class NotExecuted(Exception):
    """The command could not be brought to its execve; the text says why.

    Attributes:
        exit_code: 127 for a command that is not there, 126 for one that can't be executed, else
            125.
    """

    def __init__(self, words: str, exit_code: int = 125) -> None:
        super().__init__(words)
        self.exit_code = exit_code


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. What is not asked for is the payload's.

    Attributes:
        args: Its argv.
        env: `KEY=VALUE` words, over those of the container; a `KEY` alone takes one away.
        user: "" for the payload's.
        cwd: "" for the payload's.
        privileged: With all capabilities that there are, instead of the payload's.
        terminal: Lines and columns of a terminal of its own; None for no terminal.
        stdin: It has an input that somebody writes to.
        stdout: Somebody reads it; it is /dev/null otherwise. A terminal is always read.
        stderr: The same.
        merged: stderr goes where stdout does.
        leave_others: What it has started goes on when it has ended.
        lasting: It goes on when this supervisor ends.
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str = ""
    cwd: str = ""
    privileged: bool = False
    terminal: tuple[int, int] | None = None
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    merged: bool = False
    leave_others: bool = False
    lasting: bool = False


class _Report(msgspec.Struct):
    """What a process tells that could not become the command (`runtime.becoming`)."""

    words: str
    exit_code: int


class _Streams(msgspec.Struct):
    """Our ends of what a command was given; -1 for what it has not."""

    report: int
    output: int = -1
    errors: int = -1
    console: int = -1
    stdin: Stdin | None = None


class Execution:
    """A command under way.

    Attributes:
        id: 64 hexadecimal digits, as Docker names execs.
        output: What it prints: its stdout, with `merged` its stderr too, or its terminal once it
            was executed; -1 for nothing. Non-blocking.
        errors: Its stderr; -1 where it has none of its own.
        stdin: None without one; with a terminal it is there once it was executed.
        stuck: It has outlived SIGKILL, and was left behind.
        left_over: Its cgroup is still there, as what it has started goes on.
    """

    __slots__ = (
        "_command",
        "_engine",
        "_executed",
        "_ours",
        "_pidfd",
        "_place",
        "_streams",
        "errors",
        "id",
        "left_over",
        "output",
        "stdin",
        "stuck",
    )

    def __init__(
        self,
        engine: Engine,
        place: str,
        exec_id: str,
        pidfd: int,
        command: Command,
        streams: _Streams,
        ours: ExitStack,
    ) -> None:
        self._engine = engine
        self._place = place
        self._pidfd = pidfd
        self._command = command
        self._streams = streams
        self._ours = ours
        self.id = exec_id
        self.output = streams.output
        self.errors = streams.errors
        self.stdin = streams.stdin
        self._executed = False
        self.stuck = False
        self.left_over = False

    @property
    def pid(self) -> int:
        """On the host, while it is under way."""
        return self._engine.shim.execs.pid_of(self.id)

    async def executed(self) -> None:
        """Wait for its execve.

        Raises:
            NotExecuted: It failed on the way.
            OSError: No descriptors for its terminal, or it was killed before it had made one.
        """
        words = b""
        while len(words) < _REPORT_LIMIT:
            try:
                piece = os.read(self._streams.report, _REPORT_LIMIT)
            except BlockingIOError:
                await anyio.wait_readable(self._streams.report)
                continue
            if not piece:
                break
            words += piece
        if words:
            raise _not_executed(words)
        if self._streams.console >= 0:
            self.output = await receive_terminal(self._streams.console)
            self._ours.callback(os.close, self.output)
            self.stdin = _stdin(os.dup(self.output), self._ours)
        self._executed = True

    async def ending(self) -> Ending:
        """Wait for the end of the command itself; what it started may go on."""
        return await self._engine.shim.execs.ending(self.id, self._pidfd)

    def kill(self) -> None:
        """SIGKILL to the command and to all that it has started."""
        self._engine.cgroups.kill(self._place)

    async def finish(self) -> None:
        """End what is to be ended of it, and wait (bounded) until it is gone."""
        execs = self._engine.shim.execs
        has_ended = execs.has_ended(self.id)
        if self._executed and self._command.lasting and not has_ended:
            execs.forget(self.id)
            self.left_over = True
            return
        if not has_ended:
            self.kill()
            with anyio.move_on_after(KILL_LIMIT_S, shield=True):
                await self.ending()
        self.stuck = not execs.has_ended(self.id)
        execs.forget(self.id)
        try:
            if has_ended and self._command.leave_others:
                self._engine.cgroups.remove_below(self._place)
            elif not self.stuck:
                await clear_below(self._engine.cgroups, self._place)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            self.left_over = has_ended and self._command.leave_others
            self.stuck = not self.left_over
        if self.stuck:
            log.error("exec.stuck", exec=self.id[:12], waited_s=KILL_LIMIT_S)


def _not_executed(report: bytes) -> NotExecuted:
    """What a report says. One who may trace others may have written it, so it may say anything."""
    begun = "exec failed: unable to start container process"
    try:
        told = msgspec.json.decode(report, type=_Report)
    except msgspec.MsgspecError:
        return NotExecuted(f"{begun}: its report makes no sense")
    return NotExecuted(f"{begun}: {told.words}", told.exit_code)


def _stdin(descriptor: int, ours: ExitStack) -> Stdin:
    """The input behind a descriptor, which is closed with `ours`; nobody has duplicates of it."""
    stdin = Stdin(descriptor, lambda: None)
    ours.callback(stdin.close)
    return stdin


@contextlib.asynccontextmanager
async def entered(
    engine: Engine, container: Container, exec_id: str, name: str, command: Command
) -> AsyncIterator[Execution]:
    """Run a command in a container that runs.

    Args:
        name: Of the command's cgroup below the container's; two at once need two.

    Raises:
        ExecRefused: The kernel refused, or the container does not run any more.
        ExecLost: The shim died meanwhile.
        OSError: No descriptors or memory of our own; EBUSY where an earlier command of this name
            outlives SIGKILL.
    """
    place = f"{container.id}/{name}"
    granted, apart = _rights(engine, container, command)
    filter = await _filter(engine, container)
    plan = engine.cgroups.below(container.id, name)
    with ExitStack() as ours:
        with ExitStack() as theirs:
            streams, written, read = _streams(command, ours, theirs)
            spec = _spec(engine, container, plan, command, granted, apart, filter)
            memory = kernel.memfd_sealed("mdocker-exec", spec.to_json())
            theirs.callback(os.close, memory)
            try:
                with anyio.CancelScope(shield=True):
                    ends = (memory, *written)
                    pidfd = await engine.shim.execs.start(exec_id, container.id, ends, read)
            except (ExecRefused, ExecLost) as error:
                # Where nobody could tell us of it, it may be there all the same.
                await clear_below(engine.cgroups, place)
                if isinstance(error, ExecLost):
                    bury_orphans(engine.cgroups, place)
                raise
        ours.callback(os.close, pidfd)
        execution = Execution(engine, place, exec_id, pidfd, command, streams, ours)
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()  # the start was shielded
            yield execution
        finally:
            await execution.finish()
            if shares_pids(container):
                # What earlier ones have left behind may have ended, with us for its parent.
                bury_orphans(engine.cgroups, container.id, container.life.pid)


def _streams(
    command: Command, ours: ExitStack, theirs: ExitStack
) -> tuple[_Streams, tuple[int, int, int], tuple[int, ...]]:
    """Make its ends; returns ours, what it reports and writes to, and what it reads from."""
    report, report_w = output_pipe(ours, theirs)
    streams = _Streams(report)
    # In place of a stream that is silent; it is replaced before the execve.
    output_w = errors_w = report_w
    if command.terminal is not None:
        streams.console, output_w = console(ours, theirs)
        return streams, (report_w, output_w, output_w), ()
    if command.stdout:
        streams.output, output_w = output_pipe(ours, theirs)
    if command.merged:
        errors_w = output_w
    elif command.stderr:
        streams.errors, errors_w = output_pipe(ours, theirs)
    if not command.stdin:
        return streams, (report_w, output_w, errors_w), ()
    with ExitStack() as until_taken:
        stdin_r, stdin_w = input_pipe(until_taken, theirs)
        until_taken.pop_all()
    streams.stdin = _stdin(stdin_w, ours)
    return streams, (report_w, output_w, errors_w), (stdin_r,)


def _spec(
    engine: Engine,
    container: Container,
    plan: CgroupPlan,
    command: Command,
    granted: tuple[str, ...],
    apart: bool,
    filter: Filter,
) -> ExecSpec:
    config = container.config
    limits = config.resources
    remapped = container.life.user_namespace
    term = ("TERM=xterm",) if command.terminal is not None else ()
    silent = []
    if command.terminal is None:
        silent += [] if command.stdout else [1]
        silent += [] if command.stderr or command.merged else [2]
    return ExecSpec(
        args=command.args,
        env=(
            f"HOSTNAME={network_files.hostname(container)}",
            *term,
            *config.variables,
            *command.env,
        ),
        cwd=command.cwd or config.working_dir or "/",
        user=command.user or config.user,
        groups=config.groups,
        capabilities=granted,
        apart=apart,
        no_new_privileges=config.no_new_privileges(engine.settings.no_new_privileges),
        seccomp=filter.program,
        seccomp_flags=filter.flags,
        apparmor=apparmor(config),
        uid_map=remapped.uids if remapped else (),
        gid_map=remapped.gids if remapped else (),
        container=container.id,
        terminal=command.terminal,
        silent=tuple(silent),
        lasting=command.lasting,
        cgroup=plan.unified,
        joins=plan.joins,
        rlimits=ulimits_of(config, engine.settings.default_ulimits),
        oom_score_adj=config.oom_score_adj or None,
        memory_limited=limits.memory > 0 or limits.memory_swap > 0 or bool(config.cgroup_parent),
        # Who may trace anybody must not share the shim's memory on its way.
        layers=() if command.privileged else _layers(engine, container),
    )


async def _filter(engine: Engine, container: Container) -> Filter:
    """The payload's, also where the command is privileged: as in Docker, where it gets its rights
    beside the filter of its container."""
    config = container.config
    try:
        return await engine.filters.of(config, config.privileges.capabilities(_there(container)))
    except (EngineFault, CapabilityRefused) as error:
        raise ExecRefused(errno.EPERM, str(error)) from error


def _rights(engine: Engine, container: Container, command: Command) -> tuple[tuple[str, ...], bool]:
    """Its capabilities, and whether it has to enter apart from those inside.

    They are the payload's, or all that there are; what its container is privileged to, it is, too.
    """
    privileges = container.config.privileges
    if command.privileged:
        privileges = msgspec.structs.replace(privileges, privileged=True)
    try:
        return privileges.capabilities(_there(container)), traceable(engine, container)
    except CapabilityRefused as error:
        raise ExecRefused(errno.EPERM, str(error)) from error


def _there(container: Container) -> int:
    """The capabilities that there are for it, as it was started, whatever the engine does now."""
    return remapping.EVERY_CAPABILITY if container.life.user_namespace else at_hand()


def _layers(engine: Engine, container: Container) -> tuple[str, ...]:
    """Where its /etc/passwd is, if nothing is mounted over it."""
    try:
        image = engine.layers(container)
    except NoSuchImage:
        return ()  # deleted behind our back; the container has it all the same
    mounted = [bind.target for bind in image.binds]
    mounted += [point.target for point in container.config.mounts.points]
    if any(target in _USERS for target in mounted):
        return ()
    return (f"{engine.directory(container)}/upper", *image.lower)
