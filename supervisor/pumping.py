"""Moving what a container writes into its log and to attached clients.

One task for each stream. A batch is moved by `logs.pump.Stage` without an await inside; between
two batches every other task gets its turn. A log whose disk turns out to be slow is moved to a
thread with a stage of its own, so that it stalls nobody else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import anyio
import anyio.lowlevel
import anyio.to_thread
import structlog

from logs.marks import MAX_STAGES, MarkFile
from logs.pump import LogStream, Stage
from runtime import kernel

log = structlog.get_logger()

SLOW_WRITE_S = 0.2
"""A batch (256 KiB at most) takes well under a millisecond; a disk that needs this is slow."""

MAIN_STAGE = 0


class Stages:
    """The event loop's own stage, and spare ones for the threads of slow logs.

    Attributes:
        main: Serves every container whose log is not slow.
    """

    def __init__(self, marks: MarkFile, held: tuple[int, int] | None = None) -> None:
        """Make them.

        Args:
            held: The staging pipe of an earlier supervisor, which the shim kept.
        """
        self._marks = marks
        self._free = list(range(MAX_STAGES - 1, MAIN_STAGE, -1))
        self.main = Stage(marks, tee=kernel.tee, number=MAIN_STAGE, fds=held)

    def take(self) -> tuple[int, Stage] | None:
        """A numbered stage for a thread; None where all are taken."""
        if not self._free:
            return None
        number = self._free.pop()
        return number, Stage(self._marks, tee=kernel.tee, number=number)

    def give_back(self, number: int, stage: Stage) -> None:
        """The thread needs it no more."""
        stage.close()
        self._free.append(number)


class Lane:
    """The way of one container's output: the main stage, or a thread's own once its log is slow."""

    __slots__ = ("_limiter", "_lock", "_own", "_stages")

    def __init__(self, stages: Stages, limiter: anyio.CapacityLimiter) -> None:
        self._stages = stages
        self._limiter = limiter
        self._own: tuple[int, Stage] | None = None
        self._lock: anyio.Lock | None = None

    async def move(self, source: int, stream: LogStream) -> bytes:
        """Move one batch.

        Returns:
            The bytes; empty at the end of input.

        Raises:
            BlockingIOError: Nothing is there.
        """
        if self._own is None:
            data = self._stages.main.pump(source, stream)
            if stream.log.write_s > SLOW_WRITE_S:
                self._leave_the_loop(stream)
            return data
        assert self._lock is not None
        async with self._lock:  # a log is not for two threads at once
            return await anyio.to_thread.run_sync(
                functools.partial(self._own[1].pump, source, stream), limiter=self._limiter
            )

    def _leave_the_loop(self, stream: LogStream) -> None:
        self._own = self._stages.take()
        if self._own is None:
            return
        self._lock = anyio.Lock()
        log.warning("log.slow", write_s=round(stream.log.write_s, 3), moved_to="thread")

    def close(self) -> None:
        """The container has ended."""
        if self._own is not None:
            self._stages.give_back(*self._own)
            self._own = None


async def pump(
    lane: Lane,
    source: int,
    stream: LogStream,
    attachments: Iterable[Callable[[int, bytes], None]],
) -> None:
    """Move all that comes out of `source` until its last writer has closed it.

    Args:
        source: Read end of the container's pipe, non-blocking.
        stream: Where it goes.
        attachments: Who else gets the bytes; looked at anew for each batch.
    """
    number = int(stream.stream)
    while True:
        try:
            data = await lane.move(source, stream)
        except BlockingIOError:
            await anyio.wait_readable(source)
            continue
        if not data:
            return
        for feed in attachments:
            feed(number, data)
        await anyio.lowlevel.checkpoint()
