"""An image that is being made: begun, and finished or taken back whatever happens."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.to_thread

from runtime.images.unpacking import UnpackJob

if TYPE_CHECKING:
    from supervisor.engine import Engine

ABORT_SECONDS = 10.0

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
        with anyio.move_on_after(ABORT_SECONDS, shield=True):
            await anyio.to_thread.run_sync(job.abort, limiter=limiter)
        raise


async def finish(engine: Engine, job: UnpackJob[_T]) -> _T:
    """Wait for the process that unpacks it, and put what it made into the store.

    Raises:
        ImageError: It can't become an image, or the machine failed.
    """
    await anyio.wait_readable(job.result_fd)
    return await anyio.to_thread.run_sync(job.finish, limiter=engine.limits.removals)
