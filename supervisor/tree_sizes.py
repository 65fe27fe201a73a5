"""What trees that containers write to weigh. They may be of any depth, and change meanwhile."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def disk_bytes(directory: Path | str) -> int:
    """Bytes that the files below a directory take on disk (st_blocks, in 512-byte units).

    A file with several names counts once. What is gone or can't be looked at (paths beyond
    PATH_MAX) counts nothing. Not os.walk: it recurses, and a container makes a thousand levels in
    no time.
    """
    total = 0
    linked: set[tuple[int, int]] = set()
    pending = [os.fspath(directory)]
    while pending:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    total += _weight(entry, linked)
    return total


def _weight(entry: os.DirEntry[str], linked: set[tuple[int, int]]) -> int:
    try:
        about = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    if about.st_nlink > 1:
        key = (about.st_dev, about.st_ino)
        if key in linked:
            return 0
        linked.add(key)
    return about.st_blocks * 512
