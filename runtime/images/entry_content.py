"""The content of a tar entry, written to a file."""

from __future__ import annotations

import os
import tarfile
from typing import cast

from runtime.images.entry_names import shown
from runtime.images.tar_source import Refusal, TarSource, Truncated


def write_content(fd: int, entry: tarfile.TarInfo, source: TarSource) -> None:
    """Write what belongs to an entry, from `source`, to a new file; holes stay holes.

    Raises:
        Truncated: The archive ends within it.
        Refusal: Its map of holes is impossible.
        OSError: Such as a full disk.
    """
    sparse = cast("list[tuple[int, int]] | None", entry.sparse)
    if sparse is None:
        _write(fd, entry.size, entry, source)
        return
    end = 0
    for offset, length in sparse:
        if length == 0:
            continue  # formats, the old GNU one among them, end their maps by empty parts
        if offset < end or length < 0 or offset + length > entry.size:
            raise Refusal(f"{shown(entry.name)}: impossible map of a sparse file")
        end = offset + length
        os.lseek(fd, offset, os.SEEK_SET)
        _write(fd, length, entry, source)
    os.ftruncate(fd, entry.size)


def _write(fd: int, length: int, entry: tarfile.TarInfo, source: TarSource) -> None:
    while length:
        piece = source.take(length)
        if not piece:
            raise Truncated(f"the archive is truncated within {shown(entry.name)}")
        length -= len(piece)
        while piece:
            piece = piece[os.write(fd, piece) :]
