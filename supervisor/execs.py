"""A command in a running container: entered, read, ended with all that it has started.

What health checks are made of. The command has a cgroup of its own below the container's, so that
it can be ended with its children; whatever way the block of `entered` is left, nothing of it is
left but what the kernel holds in uninterruptible sleep.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import structlog

from runtime import kernel
from runtime.exec_spec import ExecSpec
from supervisor import network_files
from supervisor.container import Container
from supervisor.errors import NoSuchImage
from supervisor.exec_link import ExecLost, ExecRefused
from supervisor.exits import Ending
from supervisor.strays import bury_orphans, clear_below

if TYPE_CHECKING:
    from supervisor.engine import Engine

log = structlog.get_logger()

KILL_LIMIT_S = 10.0
"""A process that outlives SIGKILL this long is in uninterruptible sleep: reported, not awaited."""

_REPORT_LIMIT = 65536
_USERS = ("/etc", "/etc/passwd", "/etc/group")


class NotExecuted(Exception):
    """The command could not be brought to its execve; the text says why."""


class Execution:
    """A command under way.

    Attributes:
        id: 64 hexadecimal digits, as Docker names execs.
        output: Read end of the pipe that is both its stdout and its stderr; non-blocking.
        stuck: It has outlived SIGKILL, and was left behind.
    """

    __slots__ = ("_engine", "_pidfd", "_place", "_report", "id", "output", "stuck")

    def __init__(
        self, engine: Engine, place: str, exec_id: str, pidfd: int, report: int, output: int
    ) -> None:
        self._engine = engine
        self._place = place
        self._pidfd = pidfd
        self._report = report
        self.id = exec_id
        self.output = output
        self.stuck = False

    async def executed(self) -> None:
        """Wait for its execve.

        Raises:
            NotExecuted: It failed on the way.
        """
        words = b""
        while len(words) < _REPORT_LIMIT:
            try:
                piece = os.read(self._report, _REPORT_LIMIT)
            except BlockingIOError:
                await anyio.wait_readable(self._report)
                continue
            if not piece:
                break
            words += piece
        if words:
            raise NotExecuted(
                "exec failed: unable to start container process: " + json.loads(words)["words"]
            )

    async def ending(self) -> Ending:
        """Wait for the end of the command itself; what it started may go on."""
        return await self._engine.shim.execs.ending(self.id, self._pidfd)

    def kill(self) -> None:
        """SIGKILL to the command and to all that it has started."""
        self._engine.cgroups.kill(self._place)

    async def finish(self) -> None:
        """End what is left of it, and wait (bounded) until it is gone."""
        execs = self._engine.shim.execs
        if not execs.has_ended(self.id):
            self.kill()
            with anyio.move_on_after(KILL_LIMIT_S, shield=True):
                await self.ending()
        self.stuck = not execs.has_ended(self.id)
        execs.forget(self.id)
        try:
            if not self.stuck:
                await clear_below(self._engine.cgroups, self._place)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            self.stuck = True
        if self.stuck:
            log.error("exec.stuck", exec=self.id[:12], waited_s=KILL_LIMIT_S)


@contextlib.asynccontextmanager
async def entered(
    engine: Engine, container: Container, exec_id: str, name: str, args: tuple[str, ...]
) -> AsyncIterator[Execution]:
    """Run a command in a container that runs, as its payload's user, in its working directory.

    Args:
        name: Of the command's cgroup below the container's; two at once need two.

    Raises:
        ExecRefused: The kernel refused, or the container does not run any more.
        ExecLost: The shim died meanwhile.
        OSError: No descriptors or memory of our own; EBUSY where an earlier command of this name
            outlives SIGKILL.
    """
    place = f"{container.id}/{name}"
    limits = container.config.resources
    plan = engine.cgroups.below(container.id, name)
    with contextlib.ExitStack() as ours:
        with contextlib.ExitStack() as theirs:
            report, report_w = _pipe(ours, theirs)
            output, output_w = _pipe(ours, theirs)
            spec = ExecSpec(
                args=args,
                env=(f"HOSTNAME={network_files.hostname(container)}", *container.config.env),
                cwd=container.config.working_dir or "/",
                user=container.config.user,
                no_new_privileges=container.config.no_new_privileges,
                cgroup=plan.unified,
                joins=plan.joins,
                memory_limited=limits.memory > 0 or limits.memory_swap > 0,
                layers=_layers(engine, container),
            )
            memory = kernel.memfd_sealed("mdocker-exec", spec.to_json())
            theirs.callback(os.close, memory)
            ends = (memory, report_w, output_w, output_w)
            try:
                with anyio.CancelScope(shield=True):
                    pidfd = await engine.shim.execs.start(exec_id, container.id, ends)
            except (ExecRefused, ExecLost) as error:
                # Where nobody could tell us of it, it may be there all the same.
                await clear_below(engine.cgroups, place)
                if isinstance(error, ExecLost):
                    bury_orphans(engine.cgroups, place)
                raise
        ours.callback(os.close, pidfd)
        execution = Execution(engine, place, exec_id, pidfd, report, output)
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()  # the start was shielded
            yield execution
        finally:
            await execution.finish()


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


def _pipe(ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe whose read end is ours (non-blocking) and whose write end goes to the command."""
    read, write = os.pipe2(os.O_CLOEXEC)
    ours.callback(os.close, read)
    theirs.callback(os.close, write)
    os.set_blocking(read, False)
    return read, write
