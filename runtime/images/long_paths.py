"""Places deeper than the kernel takes a path for: 4095 bytes (PATH_MAX, limits.h).

Nobody can name them at once, but a payload makes them level by level, and what it has made is to be
in an image. They are reached by piece: this process goes to a directory above them.
"""

from __future__ import annotations

import errno
import os

_LONGEST = 4095
_PIECE = 1000
"""Characters, of four bytes at most."""


def reach(place: str) -> str:
    """The path of a place below "/" that the kernel takes; good until the next call.

    It is relative to where this process then is, if it is too long otherwise. As with any path,
    links above it are followed.

    Raises:
        OSError: A directory above it is not there, or its name is too long.
    """
    if len(place) < _PIECE or len(os.fsencode(place)) < _LONGEST:
        return f"/{place}"
    os.chdir("/")
    while len(place) > _PIECE:
        end = place.rfind("/", 0, _PIECE)
        if end < 0:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        os.chdir(place[:end])
        place = place[end + 1 :]
    return place


def link(source: str, place: str) -> None:
    """Make a hard link at a place to what is at another; of a symbolic link to itself.

    Raises:
        OSError: As link(2).
    """
    parent, _, name = source.rpartition("/")
    above = os.open(reach(parent), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(name, reach(place), src_dir_fd=above, follow_symlinks=False)
    finally:
        os.close(above)
