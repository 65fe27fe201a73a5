"""A check of the image store, step by step, while everything else goes on.

The files are read by a child of the lowest priority, one layer at a time; here it is only waited
for. Left by an error, or cancelled, nothing of it remains.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, NamedTuple

import anyio
import anyio.to_thread

from runtime.images.checking import Finding
from supervisor.image_making import ABORT_SECONDS

if TYPE_CHECKING:
    from supervisor.engine import Engine


class Progress(NamedTuple):
    """How far it is: bytes of archives that were read, of how many."""

    done: int
    total: int


class Summary(NamedTuple):
    """What was looked at, in numbers; the last that is told.

    Attributes:
        without_archive: Layers that an older engine made: nothing to compare them with.
        size: Bytes of archives that were read.
    """

    images: int
    layers: int
    blobs: int
    without_archive: int
    size: int
    findings: int


async def check(engine: Engine) -> AsyncGenerator[Finding | Progress | Summary, None]:
    """Check the store; to be closed in the task that began it (`contextlib.aclosing`).

    Raises:
        OSError: This machine failed: no process, no descriptors.
    """
    limiter = engine.limits.readers
    store_check = engine.images.check()
    findings = 0
    for finding in await anyio.to_thread.run_sync(store_check.begin, limiter=limiter):
        findings += 1
        yield finding
    total = sum(layer.size for layer in store_check.layers)
    done = 0
    yield Progress(done, total)
    for layer in store_check.layers:
        job = await anyio.to_thread.run_sync(store_check.begin_layer, layer, limiter=limiter)
        if job is not None:
            try:
                while job.read():
                    yield Progress(done + min(job.done, layer.size), total)
                    await anyio.wait_readable(job.result_fd)
                found = await anyio.to_thread.run_sync(job.finish, limiter=limiter)
            except BaseException:
                with anyio.move_on_after(ABORT_SECONDS, shield=True):
                    await anyio.to_thread.run_sync(job.abort, limiter=limiter)
                raise
            for finding in found:
                findings += 1
                yield finding
        done += layer.size
        yield Progress(done, total)
    for finding in await anyio.to_thread.run_sync(store_check.end, limiter=limiter):
        findings += 1
        yield finding
    yield Summary(**store_check.counts, size=total, findings=findings)
