"""A tar from a container becomes local files.

The container may have written anything into it, so nothing in it is believed: names that lead out
are refused, every directory is entered by its descriptor and never through a link, files are made
with O_EXCL. Links are made as they are, and nothing is written through one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tarfile
from collections import deque
from collections.abc import Callable, Iterator
from typing import IO, cast

from mdocker.connection import Stream
from mdocker.copy_rules import Refused, words
from mdocker.errors import EngineUnreachable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LARGEST_HEADER = 4 << 20
_NANO = 1_000_000_000
_XATTR = "SCHILY.xattr."
_IMPOSSIBLE = frozenset({errno.ENOTSUP, errno.EPERM, errno.EACCES})
_GARBLED = "the engine's archive is garbled"


class TarInput:
    """The bytes of an archive, forwards only: all that tarfile asks of a file.

    Attributes:
        received: How many have come.
        last_read: What the last `read` returned: zeros if that was the archive's end mark.
    """

    def __init__(self, stream: Stream, advance: Callable[[int], None]) -> None:
        self.received = 0
        self.last_read = b""
        self._stream = stream
        self._advance = advance
        self._pieces: deque[bytes] = deque()
        self._position = 0

    def tell(self) -> int:
        """Bytes consumed so far."""
        return self._position

    def seek(self, position: int) -> int:
        """Skip forwards."""
        while self._position < position:
            if not self.take(position - self._position):
                raise EngineUnreachable(f"{_GARBLED}: it is too short")
        return self._position

    def read(self, length: int) -> bytes:
        """So many bytes, fewer at the end only: headers, never content."""
        if not 0 <= length <= _LARGEST_HEADER:
            raise EngineUnreachable(f"{_GARBLED}: a header claims {length} bytes")
        parts = []
        while length and (part := self.take(length)):
            parts.append(part)
            length -= len(part)
        self.last_read = b"".join(parts)
        return self.last_read

    def take(self, length: int) -> bytes:
        """At least one and at most `length` bytes; empty at the end.

        Raises:
            EngineCut: The engine hung up in the middle.
        """
        while not self._pieces:
            if self._stream.ended:
                return b""
            came = [bytes(piece) for piece in self._stream.read() if len(piece)]
            self._pieces.extend(came)
            size = sum(map(len, came))
            self.received += size
            self._advance(size)
        piece = self._pieces.popleft()
        if len(piece) > length:
            self._pieces.appendleft(piece[length:])
            piece = piece[:length]
        self._position += len(piece)
        return piece

    def drain(self) -> None:
        """Read to the very end: it tells whether the archive is whole."""
        while self.take(_LARGEST_HEADER):
            pass


class Receiving:
    """One archive on its way into a local directory.

    Attributes:
        content: Bytes of the files that were made.
        warnings: What could not be kept.
    """

    def __init__(self, directory: str, *, owners: bool) -> None:
        """Open the directory.

        Args:
            owners: With the owners' numbers, which only root can set.

        Raises:
            Refused: It can't be opened.
        """
        self.content = 0
        self.warnings: set[str] = set()
        self._place = directory
        self._owners = owners
        self._finish_later: list[tuple[str, tarfile.TarInfo]] = []
        self._parent_name: str | None = ""
        try:
            self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Refused(f"open {directory}: {words(error)}") from error
        self._parent = os.dup(self._root)

    def close(self) -> None:
        """Let go of the directories."""
        for fd in (self._root, self._parent):
            if fd >= 0:
                os.close(fd)

    def unpack(self, source: TarInput, top: str, name: str | None) -> None:
        """Make all files of an archive.

        Args:
            top: What the first part of all names in it is; empty for a container's root.
            name: What it is called here; None to keep it.

        Raises:
            Refused: Something can't be made here.
            EngineUnreachable: The archive is garbled or cut.
        """
        for entry in _entries(source):
            place = _placed(entry.name, top, name)
            try:
                if entry.islnk():
                    self._hard_link(place, _placed(entry.linkname, top, name))
                elif place:
                    self._make(place, entry, source)
            except OSError as error:
                raise Refused(f"{self._shown(place)}: {words(error)}") from error
        source.drain()
        for place, entry in reversed(self._finish_later):
            with self._opened(place) as fd:
                self._set_all(fd, entry)

    def _shown(self, place: str) -> str:
        return f"{self._place.rstrip('/')}/{place}"

    def _make(self, place: str, entry: tarfile.TarInfo, source: TarInput) -> None:
        parent, base = self._above(place)
        if self._make_room(parent, base, place, entry):
            self._finish_later.append((place, entry))
        elif entry.isdir():
            os.mkdir(base, 0o700, dir_fd=parent)
            self._finish_later.append((place, entry))
        elif entry.isreg():
            self._file(parent, base, entry, source)
        elif entry.issym():
            os.symlink(entry.linkname, base, dir_fd=parent)
            self._set_unopened(parent, base, entry)
        elif entry.isfifo() or entry.isdev():
            kind = stat.S_IFIFO if entry.isfifo() else (
                stat.S_IFCHR if entry.ischr() else stat.S_IFBLK
            )  # fmt: skip
            device = 0 if entry.isfifo() else os.makedev(entry.devmajor, entry.devminor)
            os.mknod(base, kind | 0o600, device, dir_fd=parent)
            os.chmod(base, entry.mode & 0o7777, dir_fd=parent)
            self._set_unopened(parent, base, entry)
        else:
            raise EngineUnreachable(f"{_GARBLED}: unknown entry type {entry.type!r}")

    def _above(self, place: str) -> tuple[int, str]:
        """The descriptor of the directory that an entry is in, and its name there."""
        above, _, base = place.rpartition("/")
        if above != self._parent_name:
            os.close(self._parent)
            self._parent, self._parent_name = -1, None
            self._parent = self._open(above)
            self._parent_name = above
        return self._parent, base

    def _open(self, place: str) -> int:
        fd = os.dup(self._root)
        try:
            for part in place.split("/") if place else ():
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=fd)
                below = os.open(part, _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = below
        except BaseException:
            os.close(fd)
            raise
        return fd

    @contextlib.contextmanager
    def _opened(self, place: str) -> Iterator[int]:
        try:
            fd = self._open(place)
        except OSError as error:
            raise Refused(f"{self._shown(place)}: {words(error)}") from error
        try:
            yield fd
        finally:
            os.close(fd)

    def _make_room(self, parent: int, base: str, place: str, entry: tarfile.TarInfo) -> bool:
        """Remove what is in an entry's way; True for a directory that it is merged with."""
        try:
            mode = os.stat(base, dir_fd=parent, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return False
        is_directory = stat.S_ISDIR(mode)
        if is_directory and entry.isdir():
            return True
        if is_directory != entry.isdir():
            kinds = ("directory", "non-directory")
            old, new = kinds if is_directory else kinds[::-1]
            raise Refused(
                f'cannot overwrite {old} "{self._shown(place)}" with {new} "{self._place}"'
            )
        os.unlink(base, dir_fd=parent)
        return False

    def _file(self, parent: int, base: str, entry: tarfile.TarInfo, source: TarInput) -> None:
        fd = os.open(base, _NEW_FILE, 0o600, dir_fd=parent)
        try:
            sparse = cast("list[tuple[int, int]] | None", entry.sparse)
            for offset, length in [(0, entry.size)] if sparse is None else sparse:
                if length:
                    os.lseek(fd, offset, os.SEEK_SET)
                    _write(fd, source, length)
            os.ftruncate(fd, entry.size)
            self._set_all(fd, entry)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(base, dir_fd=parent)
            raise
        finally:
            os.close(fd)
        self.content += entry.size

    def _hard_link(self, place: str, target: str) -> None:
        above, _, source = target.rpartition("/")
        with self._opened(above) as fd:
            parent, base = self._above(place)
            self._make_room(parent, base, place, tarfile.TarInfo(place))
            os.link(source, base, src_dir_fd=fd, dst_dir_fd=parent, follow_symlinks=False)

    def _set_unopened(self, parent: int, base: str, entry: tarfile.TarInfo) -> None:
        if self._owners:
            os.chown(base, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        time = _mtime_ns(entry)
        os.utime(base, ns=(time, time), dir_fd=parent, follow_symlinks=False)

    def _set_all(self, fd: int, entry: tarfile.TarInfo) -> None:
        """Owner, attributes, mode, time, in this order: chown takes setuid bits away."""
        if self._owners:
            os.fchown(fd, entry.uid, entry.gid)
        for key, text in entry.pax_headers.items():
            if key.startswith(_XATTR):
                self._set_attribute(fd, key, text)
        os.fchmod(fd, entry.mode & 0o7777)
        time = _mtime_ns(entry)
        os.utime(fd, ns=(time, time))

    def _set_attribute(self, fd: int, key: str, text: str) -> None:
        name = key.removeprefix(_XATTR).replace("%3D", "=").replace("%25", "%")
        try:
            os.setxattr(fd, name, text.encode("utf-8", "surrogateescape"))
        except OSError as error:
            if error.errno not in _IMPOSSIBLE:
                raise
            self.warnings.add(f"{name.partition('.')[0]}.* attributes can't be kept here")


def _write(fd: int, source: TarInput, length: int) -> None:
    while length:
        piece = source.take(length)
        if not piece:
            raise EngineUnreachable(f"{_GARBLED}: it is too short")
        length -= len(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(fd, view) :]


def _entries(source: TarInput) -> Iterator[tarfile.TarInfo]:
    try:
        archive = tarfile.TarFile(
            fileobj=cast(IO[bytes], source), encoding="utf-8", errors="surrogateescape"
        )
        while (entry := archive.next()) is not None:
            yield entry
            archive.members.clear()  # type: ignore[attr-defined]
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise EngineUnreachable(f"{_GARBLED}: {error}") from None
    # tarfile takes any bad header after the first for the end.
    if source.last_read != bytes(tarfile.BLOCKSIZE):
        raise EngineUnreachable(f"{_GARBLED}: it has no end")


def _placed(name: str, top: str, new: str | None) -> str:
    """Where an entry belongs, relative to the directory; empty for that itself.

    Raises:
        EngineUnreachable: It leads out: no engine of ours has written that.
    """
    name = name.rstrip("/")
    if top and name != top and not name.startswith(f"{top}/"):
        raise EngineUnreachable(f"{_GARBLED}: {name!r} is not in {top!r}")
    rest = name[len(top) :].lstrip("/")
    parts = [top if new is None else new, *rest.split("/")]
    parts = [part for part in parts if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise EngineUnreachable(f"{_GARBLED}: {name!r} leads out")
    return "/".join(parts)


def _mtime_ns(entry: tarfile.TarInfo) -> int:
    text = entry.pax_headers.get("mtime")
    if text is None:
        return int(entry.mtime) * _NANO
    sign = -1 if text.startswith("-") else 1
    whole, _, fraction = text.lstrip("-").partition(".")
    return sign * (int(whole) * _NANO + int(fraction[:9].ljust(9, "0") or 0))
