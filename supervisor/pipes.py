"""Pipes to processes of ours."""

from __future__ import annotations

import os

import anyio


async def write_all(descriptor: int, data: bytes) -> bool:
    """Write all of it to a descriptor that does not block; False if the reader is gone."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            await anyio.wait_writable(descriptor)
        except BrokenPipeError:
            return False
    return True
