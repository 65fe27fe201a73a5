"""What trees that containers write to weigh. They may be of any depth, and change meanwhile."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from runtime.images.trees import walk


def disk_bytes(directory: Path | str) -> int:
    """Bytes that the files below a directory take on disk (st_blocks, in 512-byte units).

    A file with several names counts once. What is gone, can't be looked at, or is moved away
    meanwhile counts nothing, and nothing outside is looked at, whatever a container does.
    """
    total = 0
    linked: set[tuple[int, int]] = set()

    def enter(fd: int) -> list[str]:
        nonlocal total
        directories = []
        with contextlib.suppress(OSError), os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.name)
                else:
                    total += _weight(entry, linked)
        return directories

    with contextlib.suppress(OSError):
        walk(directory, enter)
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
