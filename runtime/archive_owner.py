"""Whose files are to be that somebody brings into a root, which is this process's own."""

from __future__ import annotations

import os

from runtime import users
from runtime.archive_order import REFUSED, Refused
from runtime.errors import InitRefused

_MOST = 4 * 1024 * 1024


def resolve(words: str) -> tuple[int, int]:
    """The numbers that `user[:group]` means here.

    Raises:
        Refused: A name that neither /etc/passwd nor /etc/group has.
    """
    files = (_content(b"/etc/passwd"), _content(b"/etc/group"))
    try:
        found = users.resolve(os.fsencode(words), *files)
    except InitRefused as refused:
        raise Refused(REFUSED, str(refused)) from None
    return found.uid, found.gid


def _content(path: bytes) -> bytes:
    """A small file, b"" if there is none that can be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            return os.read(fd, _MOST)
        finally:
            os.close(fd)
    except OSError:
        return b""
