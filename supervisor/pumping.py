"""Moving what a container writes into its log and to attached clients.

One task for each stream. A batch is moved by `logs.pump.Stage` without an await inside; between
two batches every other task gets its turn. A log whose disk turns out to be slow is moved to a
thread with a stage of its own, so that it stalls nobody else.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping

import anyio
import anyio.lowlevel
import anyio.to_thread
import structlog

from logs.marks import MAX_STAGES, MarkFile
from logs.pump import ContainerLog, LogStream, Recovered, Stage
from runtime import kernel

log = structlog.get_logger()

SLOW_WRITE_S = 0.2
"""A batch (256 KiB at most) takes well under a millisecond; a disk that needs this is slow."""

MAIN_STAGE = 0

Hold = Callable[[str, tuple[int, ...]], Awaitable[None]]


class Stages:
    """The event loop's own stage, and spare ones for the threads of slow logs.

    Attributes:
        main: Serves every container whose log is not slow.
    """

    def __init__(
        self, marks: MarkFile, hold: Hold, found: Mapping[str, tuple[int, ...]] | None = None
    ) -> None:
        """Make them.

        Args:
            hold: Leaves duplicates of descriptors with the shim under a name; none drops them.
            found: What an earlier supervisor left so. Its staging pipes become ours.
        """
        self._marks = marks
        self._hold = hold
        self._free = list(range(MAX_STAGES - 1, MAIN_STAGE, -1))
        self._orphans: list[tuple[int, Stage]] = []
        main: tuple[int, int] | None = None
        for name, fds in (found or {}).items():
            number = _stage_number(name)
            if number is None or len(fds) != 2:
                for descriptor in fds:
                    os.close(descriptor)
            elif number == MAIN_STAGE:
                main = (fds[0], fds[1])
            else:
                stage = Stage(marks, tee=kernel.tee, number=number, fds=(fds[0], fds[1]))
                self._orphans.append((number, stage))
                self._free.remove(number)
        self.main = Stage(marks, tee=kernel.tee, number=MAIN_STAGE, fds=main)

    async def recover(self, find_log: Callable[[str], ContainerLog | None]) -> list[Recovered]:
        """Finish what an earlier supervisor had in its staging pipes, and hold our own.

        Raises:
            OSError: A log can't be cut back to its mark.
        """
        await self._hold(_stage_name(MAIN_STAGE), self.main.fds)
        told = [self.main.recover(find_log)]
        while self._orphans:
            number, stage = self._orphans.pop()
            told.append(stage.recover(find_log))
            await self.give_back(number, stage)
        return told

    async def take(self) -> tuple[int, Stage] | None:
        """A numbered stage for a thread, which the shim holds too; None where all are taken."""
        if not self._free:
            return None
        number = self._free.pop()
        stage = Stage(self._marks, tee=kernel.tee, number=number)
        await self._hold(_stage_name(number), stage.fds)
        return number, stage

    async def give_back(self, number: int, stage: Stage) -> None:
        """The thread needs it no more."""
        stage.close()
        await self._hold(_stage_name(number), ())
        self._free.append(number)


def _stage_name(number: int) -> str:
    return f"stage-{number}"


def _stage_number(name: str) -> int | None:
    word, _, number = name.partition("-")
    return int(number) if word == "stage" and number.isdigit() else None


class Lane:
    """The way of one container's output: the main stage, or a thread's own once its log is slow."""

    __slots__ = ("_limiter", "_lock", "_own", "_stages")

    def __init__(self, stages: Stages, limiter: anyio.CapacityLimiter) -> None:
        self._stages = stages
        self._limiter = limiter
        self._own: tuple[int, Stage] | None = None
        self._lock = anyio.Lock()

    async def move(self, source: int, stream: LogStream) -> bytes:
        """Move one batch.

        Returns:
            The bytes; empty at the end of input.

        Raises:
            BlockingIOError: Nothing is there.
        """
        if self._own is None:
            data = self._stages.main.pump(source, stream)
            if stream.log.write_s > SLOW_WRITE_S and not self._lock.locked():
                async with self._lock:
                    await self._leave_the_loop(stream)
            return data
        async with self._lock:  # a log is not for two threads at once
            return await anyio.to_thread.run_sync(
                functools.partial(self._own[1].pump, source, stream), limiter=self._limiter
            )

    async def _leave_the_loop(self, stream: LogStream) -> None:
        self._own = await self._stages.take()
        if self._own is None:
            return
        log.warning("log.slow", write_s=round(stream.log.write_s, 3), moved_to="thread")

    async def close(self) -> None:
        """The container has ended."""
        own, self._own = self._own, None
        if own is not None:
            await self._stages.give_back(*own)


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
