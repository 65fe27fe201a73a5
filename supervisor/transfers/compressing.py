"""What a push sends of a layer: its archive as it is kept, or compressed on the way.

Files are read, hashed and compressed piece by piece in a thread: neither a hung disk nor a big
layer reaches anybody else, and what was damaged on the disk does not become somebody's layer.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

import anyio.to_thread

from runtime.images.model import Blob
from supervisor.kept_blobs import BlobReader

if TYPE_CHECKING:
    from supervisor.engine import Engine

LEVEL = 5
"""Of gzip; 6, the default, takes half as long again for a hundredth less."""

_GZIP = 16 + zlib.MAX_WBITS


async def pieces_of(
    engine: Engine, blob: Blob, *, compress: bool, read: Callable[[int], None]
) -> AsyncGenerator[bytes, None]:
    """Yield an archive, or the gzip of it; the same one makes the same gzip.

    Args:
        read: Told how many bytes of the archive were read so far.

    Raises:
        DamagedBlob: It is not what it was; before the last piece.
    """
    reader = BlobReader(engine.images, blob)
    run = functools.partial(anyio.to_thread.run_sync, limiter=engine.limits.images)
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP) if compress else None
    try:
        await run(reader.open)
        done = 0
        while True:
            size, piece = await run(_next, reader, compressor)
            if piece:
                yield piece
            done += size
            read(done)
            if not size:
                return
    finally:
        reader.close()


def _next(reader: BlobReader, compressor: zlib._Compress | None) -> tuple[int, bytes]:
    """Read a piece; returns its size and what is to be sent for it."""
    piece = reader.read()
    if compressor is None:
        return len(piece), piece
    return len(piece), compressor.compress(piece) if piece else compressor.flush()
