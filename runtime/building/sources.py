"""What COPY and ADD mean by their sources: found in a root, summed up for the cache.

A root is a context, or an image: links in it are followed, and end at it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat

from runtime import archive_headers as headers
from runtime import flags
from runtime.archive_order import MISSING, REFUSED, Refused
from runtime.archive_packing import Packing
from runtime.kernel import DOOR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_INSIDE = flags.RESOLVE_IN_ROOT | flags.RESOLVE_NO_MAGICLINKS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NOTHING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})
_PIECE = 1 << 20


class Source:
    """A path in a root that is there.

    Attributes:
        root: The root's descriptor.
        path: As it was named, or as a pattern found it; without slashes around it.
        status: What it is; links are followed.
    """

    __slots__ = ("path", "root", "status")

    def __init__(self, root: int, path: bytes) -> None:
        """Look at it.

        Raises:
            Refused: It is not there.
            OSError: The kernel refuses.
        """
        self.root = root
        self.path = path
        fd = self._open(os.O_PATH)
        self.status = os.fstat(fd)
        os.close(fd)

    @property
    def name(self) -> bytes:
        """What it is called in a directory that it is copied into."""
        return self.path.rpartition(b"/")[2]

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)

    def open_directory(self) -> int:
        """Open it, a directory."""
        return self._open(_DIRECTORY & ~os.O_NOFOLLOW)

    def open_file(self) -> int:
        """Open it, a file."""
        return self._open(_FILE)

    def _open(self, how: int) -> int:
        try:
            return DOOR.openat2(self.root, self.path or b".", how, _INSIDE)
        except OSError as error:
            if error.errno not in _NOTHING:
                raise
            raise Refused(MISSING, os.fsdecode(self.path)) from None


def find(roots: list[int], asked: list[dict[str, Any]]) -> list[Source]:
    """Find all sources, in order.

    Args:
        asked: {"root": number, "path": "a/b"}, or "pattern" with a regular expression for each part
            of the path.

    Raises:
        Refused: One is not there, or there is none at all.
    """
    found = []
    for one in asked:
        root = roots[one["root"]]
        if "path" in one:
            found.append(Source(root, os.fsencode(one["path"])))
            continue
        parts = [re.compile(part, re.DOTALL) for part in one["pattern"]]
        found += [Source(root, os.fsencode(path)) for path in _matches(root, parts, "")]
    if asked and not found:
        raise Refused(REFUSED, "no source files were specified")
    return found


def _matches(fd: int, parts: list[re.Pattern[str]], above: str) -> list[str]:
    """The paths below a directory that fit, in order; no link is followed on the way."""
    found: list[str] = []
    first, *rest = parts
    for name in sorted(os.listdir(fd), key=os.fsencode):
        if not first.fullmatch(name):
            continue
        if not rest:
            found.append(above + name)
            continue
        try:
            inner = os.open(name, _DIRECTORY, dir_fd=fd)
        except OSError as error:
            if error.errno not in _NOTHING:
                raise
            continue
        try:
            found += _matches(inner, rest, f"{above}{name}/")
        finally:
            os.close(inner)
    return found


class Checksum(Packing):
    """Sums up what an archive of a source would hold, without times."""

    def __init__(self, *, with_owners: bool) -> None:
        """Begin one.

        Args:
            with_owners: Whose it is will count where it is copied to.
        """
        super().__init__(-1)
        self._sum = hashlib.sha256()
        self._with_owners = with_owners

    def of(self, source: Source) -> list[str]:
        """What a source is, `file` or `dir`, and its sum.

        Raises:
            Refused: It can't be copied.
            OSError: It can't be read.
        """
        if source.is_directory:
            self.below(source.open_directory(), b"")
            return ["dir", self._sum.hexdigest()]
        if source.is_file:
            fd = source.open_file()
            self._open_file(fd, source.name)
            os.close(fd)
        else:
            self._node(source.name, source.status)
        return ["file", self._sum.hexdigest()]

    def _entry(self, as_name: bytes, status: os.stat_result) -> headers.Entry:
        entry = super()._entry(as_name, status)
        entry.mtime_ns = 0
        if not self._with_owners:
            entry.uid = entry.gid = 0
        return entry

    def _write(self, data: bytes) -> None:
        self._sum.update(data)

    def _content(self, fd: int, offset: int, length: int) -> None:
        os.lseek(fd, offset, os.SEEK_SET)
        while length and (piece := os.read(fd, min(length, _PIECE))):
            self._sum.update(piece)
            length -= len(piece)
