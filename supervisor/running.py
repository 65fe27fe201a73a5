"""What the engine holds of a container while it has a process."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import anyio
import structlog

from logs.drivers import ContainerLog
from runtime import process_stat
from runtime.cgroups import Cgroups
from supervisor.stdin import Stdin, receive_terminal

if TYPE_CHECKING:
    from supervisor.feeds import Feeds
    from supervisor.stop import Escalation

log = structlog.get_logger()


class Run:
    """One run of a container: its pidfd, our ends of its pipes, its log.

    Attributes:
        pidfd: -1 where it had ended before an adoption, and once closed.
        stdout: With a terminal, as `stderr`, the socket that its master was sent to.
        terminal: The master of its terminal; -1 where there is none, or it was not received yet.
        stdin: None where it has no input, or where its terminal was not received yet.
        opened: Set once its output is pumped and its input can be written to.
        exited: Set once the process has ended.
        ended: Set once the end is on record: output drained, exit code known, state written.
        escalation: The stop under way, if any.
        feeds: Who gets its output; None until it is pumped.
    """

    __slots__ = (
        "_cgroups",
        "container_id",
        "ended",
        "escalation",
        "exited",
        "feeds",
        "log",
        "opened",
        "pid",
        "pidfd",
        "start_ticks",
        "stderr",
        "stdin",
        "stdout",
        "terminal",
    )

    def __init__(
        self,
        container_id: str,
        cgroups: Cgroups,
        pid: int,
        start_ticks: int,
        pidfd: int,
        stdout: int,
        stderr: int,
        log: ContainerLog,
        stdin: Stdin | None = None,
    ) -> None:
        self.container_id = container_id
        self._cgroups = cgroups
        self.pid = pid
        self.start_ticks = start_ticks
        self.pidfd = pidfd
        self.stdout = stdout
        self.stderr = stderr
        self.stdin = stdin
        self.terminal = -1
        self.opened = anyio.Event()
        self.log = log
        self.exited = anyio.Event()
        self.ended = anyio.Event()
        self.escalation: Escalation | None = None
        self.feeds: Feeds | None = None

    async def open_terminal(self) -> None:
        """Receive its terminal: output comes from there from now on, and input goes there.

        Raises:
            OSError: It has ended without having made one; or we have no descriptors.
        """
        self.terminal = await receive_terminal(self.stdout)
        self.stdin = Stdin(os.dup(self.terminal), lambda: None)

    @property
    def is_ending(self) -> bool:
        """Whether its process ends or has ended, which goes on record later."""
        return process_stat.is_ending(self.pid, self.start_ticks)

    def send_signal(self, number: int) -> None:
        """Send a signal to the init, by its pidfd; one that has ended already gets nothing."""
        if self.pidfd < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def kill_all(self) -> None:
        """SIGKILL to the init and to whatever else is in the container's cgroup."""
        self.send_signal(signal.SIGKILL)
        self.kill_rest()

    def kill_rest(self) -> None:
        """SIGKILL to what is in the container's cgroup, if a descriptor can be had for that.

        Where it can't, the init's own end does as much: it is the first of its pid namespace.
        """
        try:
            self._cgroups.kill(self.container_id)
        except OSError as error:
            log.error("cgroup.not_killed", container=self.container_id[:12], error=str(error))

    def oom_kills(self) -> int:
        """How many of its processes the memory limit has killed; 0 where it can't be read."""
        try:
            return self._cgroups.oom_kills(self.container_id)
        except OSError as error:
            log.error("cgroup.not_read", container=self.container_id[:12], error=str(error))
            return 0

    def stuck_words(self) -> str:
        """Say in which state the kernel holds the init (proc(5), /proc/PID/stat field 3)."""
        try:
            state = process_stat.fields(self.pid)[process_stat.STATE].decode()
        except OSError as error:
            return f"process {self.pid} does not end after SIGKILL ({error.strerror})"
        kind = "uninterruptible sleep" if state == "D" else f"state {state}"
        return f"process {self.pid} does not end after SIGKILL: it is in {kind}"

    def close(self) -> None:
        """Close our descriptors; the shim's duplicates are its own.

        Whoever still holds this run finds no numbers: they may be another container's by then.
        """
        descriptors = (self.pidfd, self.stdout, self.stderr, self.terminal)
        self.pidfd = self.stdout = self.stderr = self.terminal = -1
        if self.stdin is not None:
            self.stdin.close()
        # Both refer back to us or to the log's file, which must not wait for the collector.
        self.feeds = None
        self.escalation = None
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)
