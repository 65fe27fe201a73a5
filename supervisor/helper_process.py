"""Processes that look into, read and write files which nobody of ours should open himself.

Each is a fresh one for one order (`runtime.archive_order`), with nothing in reach but what that
names. Its streams are pipes, so memory is flat and a slow client holds up nobody but its own.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
import structlog

from runtime.archive_job import PIPE_BYTES, ArchiveJob
from supervisor import pipes
from supervisor.errors import EngineFault

if TYPE_CHECKING:
    from supervisor.engine import Engine

log = structlog.get_logger()

KILL_LIMIT_S = 10.0
"""A killed helper that has not ended by then hangs in its disk; it is reaped when it does."""


class Unread(EngineFault):
    """Who was to take the archive has ended: what it says counts."""


class HelperProcess:
    """One at work.

    Attributes:
        job: Its ends.
    """

    def __init__(self, job: ArchiveJob, called: str) -> None:
        """Talk to one that was started.

        Args:
            called: What it is called in words about its end.
        """
        self.job = job
        self._called = called
        self._unread = bytearray()

    def refusal(self, kind: str, words: str) -> Exception:
        """What a refusal of its is for who has asked."""
        raise NotImplementedError

    async def answer(self) -> dict[str, Any]:
        """Wait for its next answer.

        Raises:
            EngineError: It refuses, or has ended without one.
        """
        looked_at = 0
        while (end := self._unread.find(b"\n", looked_at)) < 0:
            looked_at = len(self._unread)
            piece = await _read(self.job.result_fd, PIPE_BYTES)
            if not piece:
                raise EngineFault(f"{self._called} has ended ({self.job.fate()})")
            self._unread += piece
        told: dict[str, Any] = msgspec.json.decode(self._unread[:end])
        del self._unread[: end + 1]
        if "error" in told:
            raise self.refusal(told["kind"], told["error"])
        return told

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The archive as it is made.

        Raises:
            EngineError: It could not be completed.
        """
        while piece := await _read(self.job.output_fd, PIPE_BYTES):
            yield piece
        await self.answer()

    async def feed(self, data: bytes) -> bool:
        """Hand on a piece of an archive; False if it has seen enough: its answer says why."""
        return await pipes.write_all(self.job.input_fd, data)


async def _read(fd: int, size: int) -> bytes:
    """What has come, at least a byte; b"" at the end."""
    while True:
        try:
            data = os.read(fd, size)
        except BlockingIOError:
            await anyio.wait_readable(fd)
        else:
            # A stream that always has more must not keep the others waiting.
            await anyio.lowlevel.checkpoint()
            return data


async def start(
    engine: Engine, order: dict[str, Any], container: int = -1, output: int = -1
) -> ArchiveJob:
    """Start one, in a thread; `end` must follow.

    Args:
        container: The pidfd of the init whose files are meant; -1 for none.
        output: Where a layer is to be written; it stays the caller's.

    Raises:
        EngineFault: The machine refuses.
    """
    try:
        return await anyio.to_thread.run_sync(
            ArchiveJob, order, container, output, limiter=engine.limits.helpers
        )
    except OSError as error:
        raise EngineFault(f"cannot start a process for files: {error.strerror}") from error


async def end(engine: Engine, job: ArchiveJob) -> None:
    """Let go of one. One that hangs in its disk is waited for by a task of its own."""
    job.close()
    with anyio.move_on_after(KILL_LIMIT_S, shield=True):
        await anyio.wait_readable(job.pidfd)
        job.reap()
        return
    log.error("archive.helper_hangs", pid=job.pid)
    engine.begin(_await_end, job)


async def _await_end(job: ArchiveJob) -> None:
    await anyio.wait_readable(job.pidfd)
    job.reap()
