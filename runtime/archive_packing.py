"""A container's files become a tar, streamed: memory holds a directory's names, not its files.

Directories are walked by descriptor, one component at a time and without following a link, so a
payload that exchanges a directory for a link while we look gets nobody out. What has vanished
between its listing and its turn is left out; a file that grew or shrank meanwhile has the length
that its header says. Sockets can't be in a tar and are left out, as by Docker; a file system of the
kernel's (/proc, /sys …) is an empty directory.
"""

from __future__ import annotations

import errno
import os
import stat

from runtime import archive_headers as headers
from runtime import archive_paths
from runtime.archive_order import REFUSED, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO})
"""Errors that say: it is not any more what it was when we looked."""

_NO_SENDFILE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_NO_ATTRIBUTES = frozenset({errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.EACCES, *_GONE})
_PIECE = 1 << 20
_BUFFERED = 1 << 16
_LEAST_HOLES = 1 << 16
"""Fewer bytes of holes than this are not worth a map."""

# Labels belong to where a file lies, not to the file.
_LEFT_OUT = (b"security.selinux",)
# Between overlayfs and itself, and seen by CAP_SYS_ADMIN alone.
_OVERLAYS_OWN = b"trusted.overlay."
_METACOPY = b"trusted.overlay.metacopy"

_KINDS = {
    stat.S_IFREG: headers.REGULAR,
    stat.S_IFDIR: headers.DIRECTORY,
    stat.S_IFLNK: headers.SYMLINK,
    stat.S_IFCHR: headers.CHARACTER,
    stat.S_IFBLK: headers.DEVICE,
    stat.S_IFIFO: headers.FIFO,
}


class Packing:
    """One archive on its way to a descriptor."""

    def __init__(self, out: int, *, sparse: bool = False) -> None:
        """Begin one.

        Args:
            sparse: Holes are told as such (GNU's format 1.0), not written out as zeros.
        """
        self._out = out
        self._sparse = sparse
        self._buffer = bytearray()
        self._linked: dict[tuple[int, int], bytes] = {}

    def resource(self, found: archive_paths.Found) -> None:
        """Put in what a path stands for, called by its last component.

        Raises:
            OSError: It can't be read.
        """
        name = archive_paths.archive_name(found.path)
        if found.is_directory:
            self._directory(name + b"/", found.status, found.parent)
            self.below(found.parent, name + b"/")
        else:
            self._member(found.parent, found.name, name)

    def below(self, fd: int, prefix: bytes) -> None:
        """Put in all that is in a directory, and close its descriptor.

        Args:
            prefix: Stands before their names; ends in a slash, or is empty.

        Raises:
            OSError: Something can't be read.
        """
        # Of each level's prefix only the length is kept: all are beginnings of the deepest one, and
        # a payload makes levels by the thousand.
        deepest = prefix
        levels = [(fd, len(prefix), _names(fd))]
        try:
            while levels:
                fd, length, names = levels[-1]
                name = next(names, None)
                if name is None:
                    levels.pop()
                    os.close(fd)
                    continue
                as_name = deepest[:length] + name
                inner = self._member(fd, name, as_name)
                if inner >= 0:
                    deepest = as_name + b"/"
                    levels.append((inner, len(deepest), _names(inner)))
        finally:
            for fd, _, _ in levels:
                os.close(fd)

    def end(self) -> None:
        """Write the end mark, and all that is still here."""
        self._buffer += headers.END
        self._flush()

    def _member(self, parent: int, name: bytes, as_name: bytes) -> int:
        """Put in one; for a directory to go into, returns its descriptor, else -1."""
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFDIR:
                fd = os.open(name, _DIRECTORY, dir_fd=parent)
                status = os.fstat(fd)
                self._directory(as_name + b"/", status, fd)
                if status.st_dev != os.fstat(parent).st_dev and archive_paths.kernels_own(fd):
                    os.close(fd)
                    return -1
                return fd
            if kind not in _KINDS:
                return -1
            if status.st_nlink > 1 and self._again(status, as_name):
                return -1
            if kind == stat.S_IFREG:
                self._file(parent, name, as_name)
            else:
                self._special(parent, name, as_name, status)
        except OSError as error:
            if error.errno not in _GONE:
                error.filename = as_name
                raise
        return -1

    def _again(self, status: os.stat_result, as_name: bytes) -> bool:
        """Whether it is a further name of a file that is in the archive already."""
        first = self._linked.setdefault((status.st_dev, status.st_ino), as_name)
        if first == as_name:
            return False
        entry = self._entry(as_name, status)
        entry.kind, entry.target = headers.HARD_LINK, first
        self._write(entry.spell())
        return True

    def _entry(self, as_name: bytes, status: os.stat_result) -> headers.Entry:
        """The header of a file, without what its kind has beyond that."""
        return entry_of(as_name, status)

    def _directory(self, as_name: bytes, status: os.stat_result, fd: int) -> None:
        entry = self._entry(as_name, status)
        entry.attributes = attributes_of(fd)
        self._write(entry.spell())

    def _special(self, parent: int, name: bytes, as_name: bytes, status: os.stat_result) -> None:
        if not stat.S_ISLNK(status.st_mode):
            self._node(as_name, status)
            return
        entry = self._entry(as_name, status)
        try:
            entry.target = os.readlink(name, dir_fd=parent)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return  # no link any more (readlink(2)): next time
        self._write(entry.spell())

    def _node(self, as_name: bytes, status: os.stat_result) -> None:
        """Put in a device or a fifo, which only its status tells of."""
        entry = self._entry(as_name, status)
        if entry.kind != headers.FIFO:
            entry.device = os.major(status.st_rdev), os.minor(status.st_rdev)
        self._write(entry.spell())

    def _file(self, parent: int, name: bytes, as_name: bytes) -> None:
        fd = os.open(name, _FILE, dir_fd=parent)
        try:
            self._open_file(fd, as_name)
        finally:
            os.close(fd)

    def _open_file(self, fd: int, as_name: bytes) -> None:
        """Put in a file by its descriptor."""
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return  # exchanged meanwhile: next time
        entry = self._entry(as_name, status)
        entry.attributes = attributes_of(fd)
        size = status.st_size
        pieces = _data_pieces(fd, size) if self._sparse else None
        if pieces is None:
            entry.size = size
            self._write(entry.spell())
            self._content(fd, 0, size)
        else:
            table = headers.sparse_map(pieces)
            entry.real_size = size
            entry.size = len(table) + sum(length for _, length in pieces)
            self._write(entry.spell() + table)
            for offset, length in pieces:
                self._content(fd, offset, length)
        self._write(bytes(-entry.size % headers.BLOCK))

    def _content(self, fd: int, offset: int, length: int) -> None:
        """So many bytes from there; zeros for what the file has lost meanwhile."""
        if length > _BUFFERED:
            self._flush()
            offset, length = self._sendfile(fd, offset, length)
        while length:
            piece = os.pread(fd, min(length, _PIECE), offset)
            if not piece:
                break
            self._write(piece)
            offset += len(piece)
            length -= len(piece)
        while length:
            self._write(bytes(min(length, _BUFFERED)))
            length -= min(length, _BUFFERED)

    def _sendfile(self, fd: int, offset: int, length: int) -> tuple[int, int]:
        """As much as the kernel moves by itself; returns what is left to do."""
        while length:
            try:
                sent = os.sendfile(self._out, fd, offset, min(length, _PIECE))
            except OSError as error:
                if error.errno in _NO_SENDFILE:
                    break
                raise
            if not sent:
                break
            offset += sent
            length -= sent
        return offset, length

    def _write(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= _BUFFERED:
            self._flush()

    def _flush(self) -> None:
        with memoryview(self._buffer) as view:
            done = 0
            while done < len(view):
                done += os.write(self._out, view[done:])
        self._buffer.clear()


def check(found: archive_paths.Found) -> None:
    """See that a path can be in an archive.

    Raises:
        Refused: It is a socket, or lies where the kernel's answers are and no files.
    """
    path = os.fsdecode(found.path)
    what = archive_paths.kernels_own(found.parent)
    if what:
        raise Refused(
            REFUSED,
            f"{path} lies in a file system of the kernel's ({what}), whose files can't be copied: "
            "read it by a command in the container",
        )
    if stat.S_ISSOCK(found.status.st_mode):
        raise Refused(REFUSED, f"{path} is a socket: it can't be copied")


def _names(fd: int) -> Iterator[bytes]:
    """A directory's names in order, so that the same tree makes the same archive."""
    return iter(sorted(os.fsencode(name) for name in os.listdir(fd)))


def entry_of(name: bytes, status: os.stat_result) -> headers.Entry:
    """The header of a file without what its kind has beyond that."""
    mode = status.st_mode
    kind = _KINDS[stat.S_IFMT(mode)]
    return headers.Entry(
        name, kind, stat.S_IMODE(mode), status.st_uid, status.st_gid, status.st_mtime_ns
    )


def attributes_of(fd: int) -> dict[bytes, bytes]:
    """The extended attributes that go along with a file.

    Raises:
        Refused: What is open has its content elsewhere.
        OSError: They can't be read.
    """
    found = {}
    try:
        for name in os.listxattr(fd):
            raw = os.fsencode(name)
            if raw == _METACOPY:
                raise Refused(
                    REFUSED,
                    "overlayfs keeps the content of a file apart from it here (metacopy): switch "
                    "that off (/sys/module/overlay/parameters/metacopy) and write the file anew",
                )
            if raw not in _LEFT_OUT and not raw.startswith(_OVERLAYS_OWN):
                found[raw] = os.getxattr(fd, name)
    except OSError as error:
        if error.errno not in _NO_ATTRIBUTES:
            raise
    return found


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
