"""Moving what a container writes into its log and to attached clients.

One task for each stream. A batch is moved by `logs.pump.Stage` without an await inside; between
two batches every other task gets its turn. A log whose disk turns out to be slow is moved to a
thread with a stage of its own, so that it stalls nobody else.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable

import anyio
import anyio.lowlevel
import anyio.to_thread
import structlog

from logs.pump import LogStream, Stage

log = structlog.get_logger()

SLOW_WRITE_S = 0.2
"""A batch of at most 256 KiB takes well under a millisecond; a disk that needs this long is slow."""


async def pump(
    stage: Stage,
    source: int,
    stream: LogStream,
    number: int,
    attachments: Iterable[Callable[[int, bytes], None]],
    spare_stage: Callable[[], Stage],
    slow_logs: anyio.CapacityLimiter,
) -> None:
    """Move all that comes out of `source` until its last writer has closed it.

    Args:
        stage: The event loop's own stage.
        source: Read end of the container's pipe, non-blocking.
        stream: Where it goes.
        number: 1 for stdout, 2 for stderr.
        attachments: Who else gets the bytes; looked at anew for each batch.
        spare_stage: Makes a stage for a thread; used once the log proves slow.
        slow_logs: Limits those threads.
    """
    own_thread: Stage | None = None
    try:
        while True:
            try:
                if own_thread is None:
                    began = time.perf_counter()
                    data = stage.pump(source, stream)
                    if time.perf_counter() - began > SLOW_WRITE_S:
                        own_thread = spare_stage()
                        log.warning("log.slow", limit_s=SLOW_WRITE_S, moved_to="thread")
                else:
                    data = await anyio.to_thread.run_sync(
                        functools.partial(own_thread.pump, source, stream), limiter=slow_logs
                    )
            except BlockingIOError:
                await anyio.wait_readable(source)
                continue
            if not data:
                return
            for feed in attachments:
                feed(number, data)
            await anyio.lowlevel.checkpoint()
    finally:
        if own_thread is not None:
            own_thread.close()
