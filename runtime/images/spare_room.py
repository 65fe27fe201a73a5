"""Room for a file to be replaced on a full disk, so that what gives room back can be noted.

Beside the file lies a spare one, that nobody reads, with blocks of its own. Where a shorter
content finds no room it is written into the spare, which takes the file's place; the file before
becomes the spare. So a removal needs no block that it is itself about to free.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from runtime.images.durable import sync_directory

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_STEP = 64 * 1024
"""Bytes by which a spare grows: it is made anew for few of the changes."""


def keep(path: Path, size: int) -> None:
    """Has a spare for a file of that many bytes; on a disk that has none there is none.

    posix_fallocate(3): subsequent writes to these bytes do not fail for want of space.
    """
    spare = _spare(path)
    with contextlib.suppress(OSError):
        try:
            if spare.stat().st_size >= size:
                return
        except FileNotFoundError:
            pass
        fd = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, -(-size // _STEP) * _STEP)
        finally:
            os.close(fd)


def replace(path: Path, data: bytes, refusal: OSError) -> None:
    """Replaces a file by a shorter one, atomically and durably, after that was refused.

    Raises:
        OSError: Nothing was replaced; the refusal itself if that is about something else than
            room, if the content is no shorter, or if there is no spare.
    """
    spare, former = _spare(path), path.with_name(f".{path.name}.former")
    try:
        if refusal.errno not in _DISK_FULL or len(data) > path.stat().st_size:
            raise refusal
        fd = os.open(spare, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise refusal from None
    with open(fd, "wb") as file:
        file.write(data)
        file.truncate()
        file.flush()
        os.fsync(fd)
    former.unlink(missing_ok=True)  # of an engine that was killed here
    os.link(path, former)
    spare.replace(path)
    with contextlib.suppress(OSError):
        former.replace(spare)
    sync_directory(path.parent)


def _spare(path: Path) -> Path:
    return path.with_name(f".{path.name}.spare")
