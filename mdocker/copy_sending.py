"""Local files become a tar, piece by piece, as the engine takes them.

What is not in tarfile: times to the nanosecond, extended attributes, and the holes of sparse files
(GNU's format 1.0).
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from typing import cast

from mdocker.copy_rules import words

_PIECE = 1024 * 1024
_LEAST_HOLES = 64 * 1024
_NANO = 1_000_000_000
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NO_ATTRIBUTES = frozenset({errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.EACCES, errno.ENOENT})
# Labels belong to where a file lies, not to the file.
_LEFT_OUT = ("security.selinux",)


class Sending:
    """One archive of local files.

    Attributes:
        content: Bytes of the files in it so far.
    """

    def __init__(self, trouble: Callable[[str], None], warn: Callable[[str], None]) -> None:
        """Begin one.

        Args:
            trouble: Told of each file that can't be read; it is left out.
            warn: Told of each that no archive can hold.
        """
        self.content = 0
        self._trouble = trouble
        self._warn = warn
        self._linked: dict[tuple[int, int], str] = {}

    def pieces(self, path: str, name: str) -> Iterator[bytes]:
        """The archive of a file or directory, called `name` in it, with its end mark.

        None of its pieces is empty: to who sends them, that would be the end.
        """
        return filter(None, self._pieces(path, name))

    def _pieces(self, path: str, name: str) -> Iterator[bytes]:
        todo = [(path, name)]
        while todo:
            path, name = todo.pop()
            try:
                status = os.lstat(path)
                yield from self._member(path, name, status)
                if stat.S_ISDIR(status.st_mode):
                    inner = sorted(os.listdir(path), reverse=True)
                    todo.extend((f"{path.rstrip('/')}/{one}", f"{name}/{one}") for one in inner)
            except OSError as error:
                self._trouble(f"{path}: {words(error)}")
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _member(self, path: str, name: str, status: os.stat_result) -> Iterator[bytes]:
        kind = stat.S_IFMT(status.st_mode)
        entry = self._entry(name, status)
        if kind == stat.S_IFSOCK:
            self._warn(f"{path} is a socket: it is left out")
            return
        if kind != stat.S_IFDIR and status.st_nlink > 1:
            first = self._linked.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                entry.type, entry.linkname = tarfile.LNKTYPE, first
                yield _header(entry)
                return
        if kind == stat.S_IFREG:
            yield from self._file(path, entry)
            return
        if kind == stat.S_IFLNK:
            entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(path)
        elif kind == stat.S_IFDIR:
            entry.type = tarfile.DIRTYPE
            entry.name += "/"
            self._add_attributes(entry, path)
        elif kind == stat.S_IFIFO:
            entry.type = tarfile.FIFOTYPE
        else:
            entry.type = tarfile.CHRTYPE if kind == stat.S_IFCHR else tarfile.BLKTYPE
            entry.devmajor, entry.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        yield _header(entry)

    def _file(self, path: str, entry: tarfile.TarInfo) -> Iterator[bytes]:
        fd = os.open(path, _FILE)
        try:
            size = os.fstat(fd).st_size
            self._add_attributes(entry, fd)
            pieces = _data_pieces(fd, size)
            if pieces is None:
                entry.size = size
                yield _header(entry)
                pieces = [(0, size)]
            else:
                numbers = [len(pieces), *(number for piece in pieces for number in piece)]
                table = "".join(f"{number}\n" for number in numbers).encode()
                table += bytes(-len(table) % tarfile.BLOCKSIZE)
                entry.size = len(table) + sum(length for _, length in pieces)
                yield _sparse_header(entry, size) + table
            self.content += size
            for offset, length in pieces:
                yield from _content(fd, offset, length)
            yield bytes(-entry.size % tarfile.BLOCKSIZE)
        finally:
            os.close(fd)

    def _entry(self, name: str, status: os.stat_result) -> tarfile.TarInfo:
        """What stands in front of a file in the archive, but for its kind and size."""
        entry = tarfile.TarInfo(name)
        entry.mode = stat.S_IMODE(status.st_mode)
        entry.uid, entry.gid = status.st_uid, status.st_gid
        seconds, rest = divmod(status.st_mtime_ns, _NANO)
        entry.mtime = max(seconds, 0)
        if rest or seconds < 0:
            sign, whole = ("-", -status.st_mtime_ns) if seconds < 0 else ("", status.st_mtime_ns)
            _set(entry, "mtime", f"{sign}{whole // _NANO}.{whole % _NANO:09d}")
        return entry

    def _keeps(self, attribute: str) -> bool:
        """Whether an extended attribute goes along."""
        return attribute not in _LEFT_OUT

    def _add_attributes(self, entry: tarfile.TarInfo, file: int | str) -> None:
        try:
            for name in filter(self._keeps, os.listxattr(file)):
                value = os.getxattr(file, name).decode("utf-8", "surrogateescape")
                key = name.replace("%", "%25").replace("=", "%3D")
                _set(entry, f"SCHILY.xattr.{key}", value)
        except OSError as error:
            if error.errno not in _NO_ATTRIBUTES:
                raise


def _content(fd: int, offset: int, length: int) -> Iterator[bytes]:
    """So many bytes from there; zeros for what the file has lost meanwhile."""
    while length:
        piece = os.pread(fd, min(length, _PIECE), offset) or bytes(min(length, _PIECE))
        yield piece
        offset += len(piece)
        length -= len(piece)


def _set(entry: tarfile.TarInfo, key: str, value: str) -> None:
    """Set a PAX record (typeshed calls the dictionary a mapping)."""
    cast("dict[str, str]", entry.pax_headers)[key] = value


def _header(entry: tarfile.TarInfo) -> bytes:
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _sparse_header(entry: tarfile.TarInfo, size: int) -> bytes:
    _set(entry, "GNU.sparse.major", "1")
    _set(entry, "GNU.sparse.minor", "0")
    _set(entry, "GNU.sparse.name", entry.name)
    _set(entry, "GNU.sparse.realsize", str(size))
    entry.name = "GNUSparseFile.0/file"
    return _header(entry)


def _data_pieces(fd: int, size: int) -> list[tuple[int, int]] | None:
    """Where a file has data, as (offset, length); None where it has no holes worth a map."""
    pieces: list[tuple[int, int]] = []
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break  # nothing but a hole up to the end
            return None  # a file system that does not tell
        if start >= size:
            break
        end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        pieces.append((start, end - start))
    if size - sum(length for _, length in pieces) < _LEAST_HOLES:
        return None
    return pieces or [(size, 0)]
