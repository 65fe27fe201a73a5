"""An image that is being made: begun, and finished or taken back whatever happens."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.to_thread
import structlog

from runtime.images.unpacking import UnpackJob

if TYPE_CHECKING:
    from supervisor.engine import Engine

log = structlog.get_logger()

ABORT_SECONDS = 10.0
"""What takes something back keeps who gave it up no longer."""

_T = TypeVar("_T")


@contextlib.asynccontextmanager
async def making(
    engine: Engine, begin: Callable[[], UnpackJob[_T]]
) -> AsyncGenerator[UnpackJob[_T], None]:
    """Have an image, or a layer, made while the block runs.

    Left by an error, or cancelled, nothing remains.

    Args:
        begin: Starts it, in a thread.

    Raises:
        ImageError: It can't be begun.
    """
    limiter = engine.limits.removals
    job = await anyio.to_thread.run_sync(begin, limiter=limiter)
    try:
        yield job
    except BaseException:
        await taken_back(engine, job.abort, limiter)
        raise


async def taken_back(
    engine: Engine, step: Callable[[], None], limiter: anyio.CapacityLimiter
) -> None:
    """Take something back in a thread, whoever is cancelled.

    Where all threads are at work on something slow a task of its own waits for one: what is left
    out here would stay until the engine ends.

    Args:
        step: Harmless if it is done once more.
    """
    with anyio.move_on_after(ABORT_SECONDS, shield=True) as scope:
        await anyio.to_thread.run_sync(step, limiter=limiter)
    if scope.cancelled_caught:
        log.warning("image.taken_back_later", limit_s=ABORT_SECONDS)
        engine.begin(_in_thread, step, limiter)


async def _in_thread(step: Callable[[], None], limiter: anyio.CapacityLimiter) -> None:
    await anyio.to_thread.run_sync(step, limiter=limiter)


async def finish(engine: Engine, job: UnpackJob[_T]) -> _T:
    """Wait for the process that unpacks it, and put what it made into the store.

    Raises:
        ImageError: It can't become an image, or the machine failed.
    """
    await anyio.wait_readable(job.result_fd)
    return await anyio.to_thread.run_sync(job.finish, limiter=engine.limits.removals)
