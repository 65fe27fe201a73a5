"""A layer's directory, held against what its archive says: every file, and nothing beside them.

Runs confined, like the unpacking; "/" is the layer. Opaque marks need CAP_SYS_ADMIN to be seen and
are left to whoever reads `opaque`.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator

from runtime.images.entry_names import shown
from runtime.images.expectation import Expected
from runtime.images.trees import walk

_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a fifo",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}
_OF_IMAGES = ("user.", "security.capability")
"""Attributes that nothing but the archive can have brought, unlike labels of SELinux."""

# Times before 1901 and after 2038 are cut short by file systems, each in its way.
_KEPT_SECONDS = range(-(1 << 31), 1 << 31)
_SECOND = 1_000_000_000


def compare(root: Expected, differs: Callable[[str, str], None]) -> None:
    """Go through the layer.

    Args:
        differs: Told of each difference: the path, and what is wrong, in words.

    Raises:
        OSError: A directory can't be read, or is changed meanwhile.
    """
    _Comparison(root, differs).run()


def opaque_of(root: Expected) -> Iterator[str]:
    """The places of directories that hide what is below them."""
    pending = [("", root)]
    while pending:
        place, directory = pending.pop()
        if directory.opaque:
            yield place
        pending += [
            (f"{place}/{name}".lstrip("/"), child)
            for name, child in (directory.children or {}).items()
            if child.children is not None
        ]


class _Comparison:
    def __init__(self, root: Expected, differs: Callable[[str, str], None]) -> None:
        self._root = root
        self._differs = differs
        # For each level: the directory's place, what it should be, and the names to go into, of
        # which `walk` takes one after the other from the end.
        self._levels: list[tuple[str, Expected, list[str], list[str]]] = []
        self._first_names: dict[Expected, tuple[tuple[int, int], str]] = {}

    def run(self) -> None:
        self._file("/", self._root, os.stat("/"), "/", None)
        walk("/", self._enter, self._leave)

    def _enter(self, fd: int) -> list[str]:
        place, directory = "", self._root
        if self._levels:
            above, parent, names, pending = self._levels[-1]
            name = names[len(pending)]
            place = f"{above}/{name}".lstrip("/")
            directory = (parent.children or {})[name]
        inside = self._inside(fd, place, directory)
        self._levels.append((place, directory, list(inside), inside))
        return inside

    def _leave(self, _parent: int, _name: str, _pending: list[str]) -> None:
        self._levels.pop()

    def _inside(self, fd: int, place: str, directory: Expected) -> list[str]:
        """Compare what is in a directory; returns the names of directories to go into."""
        expected = directory.children or {}
        below = []
        here = set(os.listdir(fd))
        above = f"/{place}/" if place else "/"
        for name in sorted(here - expected.keys()):
            self._differs(above + name, "is not in the layer's archive")
        for name, file in expected.items():
            path = above + name
            if name not in here:
                self._differs(path, f"is missing: the archive has {_kind(file.mode)} there")
                continue
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if self._file(path, file, found, name, fd):
                below.append(name)
        return below

    def _file(
        self, path: str, file: Expected, found: os.stat_result, name: str, fd: int | None
    ) -> bool:
        """Compare one file; whether it is a directory, as it should be.

        Args:
            path: In the layer, for people.
            name: In the directory `fd`, if there is one.
        """
        if stat.S_IFMT(file.mode) != stat.S_IFMT(found.st_mode):
            self._differs(path, f"is {_kind(found.st_mode)}, not {_kind(file.mode)}")
            return False
        for words in self._differences(path, file, found, name, fd):
            self._differs(path, words)
        return file.children is not None

    def _differences(
        self, path: str, file: Expected, found: os.stat_result, name: str, fd: int | None
    ) -> Iterator[str]:
        kind = stat.S_IFMT(found.st_mode)
        if found.st_mode != file.mode and kind != stat.S_IFLNK:
            yield f"has mode {stat.S_IMODE(found.st_mode):04o}, not {stat.S_IMODE(file.mode):04o}"
        if (found.st_uid, found.st_gid) != (file.uid, file.gid):
            yield f"belongs to {found.st_uid}:{found.st_gid}, not to {file.uid}:{file.gid}"
        if file.mtime_ns is not None and not _same_time(file.mtime_ns, found.st_mtime_ns):
            yield f"was changed at {_moment(found.st_mtime_ns)}, not at {_moment(file.mtime_ns)}"
        if kind == stat.S_IFREG:
            if found.st_size != file.size:
                yield f"has {found.st_size} bytes, not {file.size}"
            elif not file.same:
                yield "has another content than in the archive"
        elif kind == stat.S_IFLNK:
            target = os.readlink(name, dir_fd=fd)
            if target != file.target:
                yield f"leads to {shown(target)}, not to {shown(file.target)}"
        elif kind in (stat.S_IFCHR, stat.S_IFBLK) and found.st_rdev != file.device:
            yield f"is device {_numbers(found.st_rdev)}, not {_numbers(file.device)}"
        if kind != stat.S_IFDIR:
            yield from self._links(path, file, found)
        yield from _attributes(file, name, fd)

    def _links(self, path: str, file: Expected, found: os.stat_result) -> Iterator[str]:
        if found.st_nlink != file.names:
            yield f"has {found.st_nlink} hard links, not {file.names}"
        if file.names > 1:
            which = found.st_dev, found.st_ino
            first, elsewhere = self._first_names.setdefault(file, (which, path))
            if first != which:
                yield f"is not the same file as {shown(elsewhere)}, of which it is a hard link"


def _attributes(file: Expected, name: str, fd: int | None) -> Iterator[str]:
    if fd is not None:
        # They are asked for by a path, and a link's not below a descriptor.
        os.fchdir(fd)
    try:
        here = set(os.listxattr(name, follow_symlinks=False))
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        here = set()
    is_plain = stat.S_ISREG(file.mode) or file.children is not None
    for one, value in file.attributes.items():
        # Nothing but files and directories can have those of users: xattr(7).
        words = _attribute(one, value, name) if is_plain or not one.startswith("user.") else ""
        if words:
            yield words
    for one in sorted(here - file.attributes.keys()):
        if one.startswith(_OF_IMAGES):
            yield f"has the attribute {shown(one)}, which is not in the archive"


def _attribute(one: str, value: bytes, name: str) -> str:
    try:
        found = os.getxattr(name, one, follow_symlinks=False)
    except OSError as error:
        # What this file system can't have was left out when it was unpacked, too.
        if error.errno == errno.ENODATA and one.startswith(_OF_IMAGES):
            return f"lacks the attribute {shown(one)}"
        return ""
    return "" if found == value else f"has another value of the attribute {shown(one)}"


def _same_time(expected: int, found: int) -> bool:
    if expected // _SECOND not in _KEPT_SECONDS:
        return True
    return found == expected or found == expected // _SECOND * _SECOND


def _moment(time_ns: int) -> str:
    seconds, fraction = divmod(time_ns, _SECOND)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:09}Z"


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "something unknown")


def _numbers(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"
