"""What a layer's directory must look like, by its archive: `extraction` in memory.

Entries are read once more, in their order, by the same rules of names, links and whiteouts, and
become a tree of what should be there; no file is written. Content is not kept: while it goes by it
is held against the file in its place, and only whether it is the same is remembered. Whichever
entry is the last at a place counts, as when they were unpacked.

Runs confined, like the unpacking; "/" is the layer.
"""

from __future__ import annotations

import os
import stat
import tarfile
from typing import cast

from runtime.images.attributes import kept_attributes
from runtime.images.entry_names import Links, checked_link_source, checked_name, shown
from runtime.images.entry_numbers import check_numbers, mtime_ns
from runtime.images.extraction import OPAQUE, WHITEOUT
from runtime.images.long_paths import reach
from runtime.images.tar_entries import entries
from runtime.images.tar_source import CHUNK, Refusal, TarSource

_NONE: dict[str, bytes] = {}  # of most files, of which there may be a million
_OLD_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME | os.O_CLOEXEC


class Expected:
    """One file, whatever its kind; hard links share it.

    Attributes:
        mode: Kind and permissions, as in `stat`.
        mtime_ns: None where the archive does not say.
        same: Whether a regular file's content is what its archive has.
        names: How many hard links it has in the layer.
        children: What is in it, if it is a directory.
        opaque: Whether it hides what is below.
    """

    __slots__ = ("attributes", "children", "device", "gid", "mode", "mtime_ns", "names", "opaque",
                 "same", "size", "target", "uid")  # fmt: skip

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.uid = self.gid = self.size = self.device = 0
        self.mtime_ns: int | None = None
        self.target = ""
        self.same = True
        self.names = 1
        self.opaque = False
        self.attributes = _NONE
        self.children: dict[str, Expected] | None = {} if stat.S_ISDIR(mode) else None

    def describe(self, entry: tarfile.TarInfo) -> None:
        """Owner, permissions, times and attributes of an entry."""
        self.uid, self.gid = entry.uid, entry.gid
        if not entry.issym():
            self.mode = stat.S_IFMT(self.mode) | entry.mode & 0o7777
        self.mtime_ns = mtime_ns(entry)
        self.attributes = kept_attributes(entry) or _NONE

    @property
    def is_whiteout(self) -> bool:
        """overlayfs's mark of what is not to be seen: a device 0:0."""
        return stat.S_ISCHR(self.mode) and not self.device


def expected_of(source: TarSource, *, is_layer: bool) -> Expected:
    """Read an archive to its end; returns the root of what it makes.

    Args:
        is_layer: As it was when it was unpacked.

    Raises:
        Refusal: It could not be unpacked today.
        OSError: A file can't be read.
    """
    expectation = _Expectation(source, is_layer)
    for entry in entries(source):
        expectation.add(entry)
    source.drain()
    return expectation.root


class _Expectation:
    def __init__(self, source: TarSource, is_layer: bool) -> None:
        self.root = Expected(stat.S_IFDIR | 0o755)
        self._source = source
        self._is_layer = is_layer
        self._links = Links()

    def add(self, entry: tarfile.TarInfo) -> None:
        name = checked_name(entry.name)
        check_numbers(entry)
        parent, slash, base = name.rpartition("/")
        if base.startswith(WHITEOUT):
            if self._is_layer:
                self._whiteout(self._links.resolve_directory(parent), base)
            return
        place = f"{self._links.resolve_directory(parent)}/{base}".lstrip("/") if slash else base
        if entry.isdir():
            self._directory(place).describe(entry)
        elif entry.islnk():
            self._hard_link(place, entry)
        else:
            self._put(place, self._file(place, entry))
            if entry.issym():
                self._links.add(place, entry.linkname)

    def _file(self, place: str, entry: tarfile.TarInfo) -> Expected:
        if entry.isreg():
            file = Expected(stat.S_IFREG)
            file.size = entry.size
            file.same = _has_content(place, entry, self._source)
        elif entry.issym():
            file = Expected(stat.S_IFLNK | 0o777)
            file.target = entry.linkname
        elif entry.isfifo():
            file = Expected(stat.S_IFIFO)
        elif entry.isdev():
            file = Expected(stat.S_IFCHR if entry.ischr() else stat.S_IFBLK)
            file.device = os.makedev(entry.devmajor, entry.devminor)
        else:
            raise Refusal(f"{shown(entry.name)}: unknown entry type")
        file.describe(entry)
        return file

    def _whiteout(self, directory: str, base: str) -> None:
        if base == OPAQUE:
            self._made(directory).opaque = True
            return
        place = f"{directory}/{base.removeprefix(WHITEOUT)}".lstrip("/")
        found = self._found(place)
        if found is None:
            self._put(place, Expected(stat.S_IFCHR))
        elif found.children is not None:
            found.opaque = True

    def _directory(self, place: str) -> Expected:
        if not place:
            return self.root
        found = self._found(place)
        if found is not None and found.children is not None:
            return found
        made = Expected(stat.S_IFDIR)
        made.opaque = found is not None and found.is_whiteout
        self._put(place, made)
        return made

    def _hard_link(self, place: str, entry: tarfile.TarInfo) -> None:
        parent, _, base = checked_link_source(entry.name, entry.linkname).rpartition("/")
        source = f"{self._links.resolve_directory(parent)}/{base}".lstrip("/")
        file = self._found(source)
        if file is None or file.children is not None:
            raise Refusal(f"{shown(entry.name)}: hard link to {shown(entry.linkname)}")
        if source == place:
            return
        target = self._links.get(source)
        self._put(place, file)
        file.names += 1
        if target is not None:
            self._links.add(place, target)

    def _put(self, place: str, file: Expected) -> None:
        """In the place of whatever was there."""
        parent, _, base = place.rpartition("/")
        children = self._made(parent).children
        assert children is not None
        before = children.get(base)
        if before is not None:
            before.names -= 1
            if before.children is None:
                self._links.discard(place)
            else:
                _forget_below(before)
                self._links.discard_below(place)
        children[base] = file

    def _found(self, place: str) -> Expected | None:
        at = self.root
        for part in place.split("/"):
            below = at.children.get(part) if at.children is not None else None
            if below is None:
                return None
            at = below
        return at

    def _made(self, place: str) -> Expected:
        """A directory, which an archive may use without listing it: then it is root's, 0755."""
        at = self.root
        for part in place.split("/") if place else ():
            if at.children is None:
                break
            at = at.children.setdefault(part, Expected(stat.S_IFDIR | 0o755))
        if at.children is None:
            raise Refusal(f"{shown(place)}: not a directory")
        return at


def _forget_below(directory: Expected) -> None:
    """Count the names of hard links that go with a directory."""
    pending = [directory]
    while pending:
        for child in (pending.pop().children or {}).values():
            child.names -= 1
            if child.children is not None:
                pending.append(child)


def _has_content(place: str, entry: tarfile.TarInfo, source: TarSource) -> bool:
    """Whether the file in this place has the content of the entry, which is read away."""
    end = source.tell() + _stored(entry)
    try:
        path = reach(place)
        # Looked at first: to open a device may do something.
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return False
        fd = os.open(path, _OLD_FILE)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return False
    else:
        try:
            return _compared(fd, entry, source)
        finally:
            os.close(fd)
    finally:
        source.seek(end)


def _stored(entry: tarfile.TarInfo) -> int:
    sparse = cast("list[tuple[int, int]] | None", entry.sparse)
    return entry.size if sparse is None else sum(length for _, length in sparse)


def _compared(fd: int, entry: tarfile.TarInfo, source: TarSource) -> bool:
    sparse = cast("list[tuple[int, int]] | None", entry.sparse)
    if sparse is None:
        return _same(fd, 0, entry.size, source)
    at = 0
    for offset, length in sparse:
        if length and not (_hole(fd, at, offset - at) and _same(fd, offset, length, source)):
            return False
        at = max(at, offset + length)
    return _hole(fd, at, entry.size - at)


def _same(fd: int, offset: int, length: int, source: TarSource) -> bool:
    while length:
        wanted = source.take(length)
        if not wanted:
            return False
        found = os.pread(fd, len(wanted), offset)
        if found != wanted:
            return False
        offset += len(wanted)
        length -= len(wanted)
    return True


def _hole(fd: int, offset: int, length: int) -> bool:
    """Whether there are zeros only; what was never written is not read."""
    end = offset + length
    while offset < end:
        try:
            offset = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError:
            return True  # ENXIO: nothing but a hole behind it
        piece = os.pread(fd, min(CHUNK, end - offset), offset) if offset < end else b""
        if piece.count(0) != len(piece):
            return False
        offset += len(piece) or end
    return True
