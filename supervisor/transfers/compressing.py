"""What a push sends of a layer: its archive as it is kept, or compressed on the way.

Files are read, and compressed, piece by piece in a thread: neither a hung disk nor a big layer
reaches anybody else.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import BinaryIO

import anyio
import anyio.to_thread

PIECE = 1024 * 1024
"""Bytes read at a time."""

LEVEL = 5
"""Of gzip; 6, the default, takes half as long again for a hundredth less."""

_GZIP = 16 + zlib.MAX_WBITS


async def pieces_of(
    path: Path,
    limiter: anyio.CapacityLimiter,
    *,
    compress: bool,
    read: Callable[[int], None],
) -> AsyncGenerator[bytes, None]:
    """Yield a file's bytes, or those of its gzip; the same file makes the same gzip.

    Args:
        read: Told how many bytes of the file were read so far.

    Raises:
        OSError: It can't be read.
    """
    run = functools.partial(anyio.to_thread.run_sync, limiter=limiter)
    file = await run(_open, path)
    try:
        compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP) if compress else None
        done = 0
        while True:
            size, piece = await run(_next, file, compressor)
            if piece:
                yield piece
            done += size
            read(done)
            if not size:
                return
    finally:
        file.close()


def _open(path: Path) -> BinaryIO:
    return open(path, "rb", buffering=0)


def _next(file: BinaryIO, compressor: zlib._Compress | None) -> tuple[int, bytes]:
    """Read a piece; returns its size and what is to be sent for it."""
    piece = file.read(PIECE)
    if compressor is None:
        return len(piece), piece
    return len(piece), compressor.compress(piece) if piece else compressor.flush()
