"""What the supervisor has in hands of one init, so that it can be handed to another shim."""

from __future__ import annotations

import anyio

from runtime import endings
from runtime import shim_protocol as protocol


class Holding:
    """An init's process and our ends of its pipes; the descriptors are a `Run`'s.

    Attributes:
        pidfd: -1 where it had ended before an adoption, and once closed.
        with_shim: The shim that lives now has duplicates, and will tell the end.
        wait_status: None until it is known that it ended; `UNKNOWN_STATUS` if nobody can tell how.
        time_ns: When it ended, ns since the epoch.
    """

    __slots__ = (
        "_news",
        "pid",
        "pidfd",
        "start_ticks",
        "stderr",
        "stdin",
        "stdout",
        "time_ns",
        "wait_status",
        "with_shim",
    )

    def __init__(
        self, pid: int, start_ticks: int, pidfd: int, stdout: int, stderr: int, stdin: int = -1
    ) -> None:
        self.pid = pid
        self.start_ticks = start_ticks
        self.pidfd = pidfd
        self.stdout = stdout
        self.stderr = stderr
        self.stdin = stdin
        self.with_shim = False
        self.wait_status: int | None = None
        self.time_ns = 0
        self._news: anyio.Event | None = None

    async def news(self) -> None:
        """Wait until its end is told, or its shim has died."""
        if self._news is None:
            self._news = anyio.Event()
        await self._news.wait()

    def ended(self, wait_status: int, time_ns: int) -> None:
        """Its end is known."""
        self.wait_status = wait_status
        self.time_ns = time_ns
        self._tell()

    def without_shim(self) -> None:
        """Its shim has died."""
        self.with_shim = False
        self._tell()

    def let_go(self) -> None:
        """Its descriptors are about to be closed. Reaped only now: until its end is on record, its
        status must be there for others too."""
        if self.pidfd >= 0:
            endings.bury(self.pidfd)
        self.pidfd = self.stdout = self.stderr = self.stdin = -1

    def message(self, container_id: str) -> protocol.HandOver:
        """What another shim is told of it."""
        process = () if self.wait_status is not None else (self.pidfd,)
        streams = tuple(fd for fd in (self.stdout, self.stderr, self.stdin) if fd >= 0)
        return protocol.HandOver(
            id=container_id,
            pid=self.pid,
            start_ticks=self.start_ticks,
            wait_status=self.wait_status,
            time_ns=self.time_ns,
            fds=(*process, *streams),
        )

    def _tell(self) -> None:
        news, self._news = self._news, None
        if news is not None:
            news.set()
