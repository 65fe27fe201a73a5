"""Tar entries become files. Runs inside the chroot, where "/" is the new layer.

tarfile parses headers (and only that); every file is made here, so that nothing is followed,
opened or overwritten by accident: what is in the way is unlinked, never opened; files are made
with O_EXCL | O_NOFOLLOW; a directory's owner, mode and times are set at the very end, since
filling it changes them.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from runtime.images.attributes import set_attributes
from runtime.images.entry_content import write_content
from runtime.images.entry_names import (
    Links,
    check_symlink,
    checked_link_source,
    checked_name,
    shown,
)
from runtime.images.entry_numbers import check_numbers, mtime_ns
from runtime.images.long_paths import link, reach
from runtime.images.tar_entries import entries
from runtime.images.tar_source import Refusal, TarSource
from runtime.images.trees import remove_tree

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DRAFT_DIRECTORY = 0o700
WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"

_T = TypeVar("_T")


class Extraction:
    """One archive on its way to one layer.

    Attributes:
        size: Bytes of file content, holes of sparse files included.
        entries: How many were made.
        warnings: What could not be kept, counted, such as attributes of another file system.
        opaque: Names of directories that hide all that the layers below have in their place.
            Nobody but CAP_SYS_ADMIN can mark them as such: that is left to who reads this.
    """

    def __init__(self, source: TarSource, *, is_layer: bool = False) -> None:
        """Begin one.

        Args:
            is_layer: It lies above others: a link may lead where it likes, as there is more in the
                image than is known here.
        """
        self.size = 0
        self.entries = 0
        self.warnings: Counter[str] = Counter()
        self.opaque: list[str] = []
        self._is_layer = is_layer
        self._source = source
        self._links = Links()
        self._directories: dict[str, tarfile.TarInfo] = {}

    def run(self) -> None:
        """Unpacks all entries, then reads the source to its end.

        Raises:
            Refusal: The archive is damaged, truncated or leads out; the text names the entry.
            OSError: `filename` is the entry's name, always.
        """
        for entry in entries(self._source):
            try:
                self._unpack(entry)
            except OSError as error:
                error.filename = entry.name
                raise
            self.entries += 1
        for place, entry in self._directories.items():
            try:
                self._finish_directory(place, entry)
            except OSError as error:
                error.filename = entry.name
                raise
        os.chdir("/")
        self._source.drain()

    def _unpack(self, entry: tarfile.TarInfo) -> None:
        name = checked_name(entry.name)
        check_numbers(entry)
        parent, slash, base = name.rpartition("/")
        if base.startswith(WHITEOUT):
            # Also where nothing is below: another image may have the same archive above others.
            self._whiteout(entry, self._links.resolve_directory(parent), base)
            return
        place = f"{self._links.resolve_directory(parent)}/{base}".lstrip("/") if slash else base
        if entry.isdir():
            self._directory(place, entry)
            return
        if not place:
            raise Refusal(f"{shown(entry.name)}: the root of an image must be a directory")
        if entry.isreg():
            self._file(place, entry)
        elif entry.issym():
            self._symlink(place, entry)
        elif entry.islnk():
            self._hard_link(place, entry)
        elif entry.isfifo() or entry.isdev():
            self._node(place, entry)
        else:
            kind = entry.type.decode("ascii", "backslashreplace")
            raise Refusal(f"{shown(entry.name)}: unknown entry type '{shown(kind)}'")

    def _whiteout(self, entry: tarfile.TarInfo, directory: str, base: str) -> None:
        """What is below is not to be seen: overlayfs has a device 0:0 for that (overlayfs.rst).

        What names mean that: https://github.com/opencontainers/image-spec/blob/main/layer.md.
        """
        if base == OPAQUE:
            if directory:
                with contextlib.suppress(FileExistsError):
                    self._make_parents(f"{directory}/")
            self.opaque.append(directory)
            return
        hidden = base.removeprefix(WHITEOUT)
        if hidden in ("", ".", "..") or hidden.startswith(WHITEOUT):
            raise Refusal(f"{shown(entry.name)}: a whiteout of nothing")
        place = f"{directory}/{hidden}".lstrip("/")
        try:
            os.mknod(reach(place), stat.S_IFCHR, 0)
        except FileNotFoundError:
            self._make_parents(place)
            os.mknod(reach(place), stat.S_IFCHR, 0)
        except FileExistsError:
            # What the layer has in its place hides what is below, if it is told to.
            if stat.S_ISDIR(os.lstat(reach(place)).st_mode):
                self.opaque.append(place)

    def _directory(self, place: str, entry: tarfile.TarInfo) -> None:
        if place:
            try:
                os.mkdir(reach(place), _DRAFT_DIRECTORY)
            except FileNotFoundError:
                self._make_parents(place)
                os.mkdir(reach(place), _DRAFT_DIRECTORY)
            except FileExistsError:
                found = os.lstat(reach(place))
                if not stat.S_ISDIR(found.st_mode):
                    self._clear(place)
                    os.mkdir(reach(place), _DRAFT_DIRECTORY)
                    if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
                        self.opaque.append(place)
        # Of two entries for one directory the later one counts.
        self._directories[place] = entry

    def _file(self, place: str, entry: tarfile.TarInfo) -> None:
        fd = self._make(place, lambda: os.open(reach(place), _NEW_FILE, 0o600))
        try:
            write_content(fd, entry, self._source)
            if entry.uid or entry.gid:
                os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode & 0o7777)
            if entry.pax_headers:
                set_attributes(fd, entry, self.warnings)
            time = mtime_ns(entry)
            os.utime(fd, ns=(time, time))
        finally:
            os.close(fd)
        self.size += entry.size

    def _symlink(self, place: str, entry: tarfile.TarInfo) -> None:
        if not self._is_layer:
            check_symlink(place, entry.linkname)
        self._make(place, lambda: os.symlink(entry.linkname, reach(place)))
        self._links.add(place, entry.linkname)
        self._finish_unopened(reach(place), entry)

    def _hard_link(self, place: str, entry: tarfile.TarInfo) -> None:
        parent, _, base = checked_link_source(entry.name, entry.linkname).rpartition("/")
        source = f"{self._links.resolve_directory(parent)}/{base}".lstrip("/")
        try:
            kind = os.lstat(reach(source)).st_mode
        except (FileNotFoundError, NotADirectoryError):
            raise Refusal(
                f"{shown(entry.name)}: hard link to {shown(entry.linkname)},"
                " which is not in the archive before it"
            ) from None
        if stat.S_ISDIR(kind):
            raise Refusal(f"{shown(entry.name)}: hard link to a directory")
        if source == place:
            return
        target = self._links.get(source)
        if target is not None and not self._is_layer:
            check_symlink(place, target)
        self._make(place, lambda: link(source, place))
        if target is not None:
            self._links.add(place, target)

    def _node(self, place: str, entry: tarfile.TarInfo) -> None:
        kind = stat.S_IFIFO if entry.isfifo() else stat.S_IFCHR if entry.ischr() else stat.S_IFBLK
        device = 0 if entry.isfifo() else os.makedev(entry.devmajor, entry.devminor)
        self._make(place, lambda: os.mknod(reach(place), kind | 0o600, device))
        self._finish_unopened(reach(place), entry)

    def _finish_unopened(self, path: str, entry: tarfile.TarInfo) -> None:
        """Owner, mode and times of what must not be opened: links, fifos, devices."""
        if entry.uid or entry.gid:
            os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
        if not entry.issym():
            # O_EXCL-made by us a moment ago, so it is no link.
            os.chmod(path, entry.mode & 0o7777)
        if entry.pax_headers:
            set_attributes(path, entry, self.warnings)
        time = mtime_ns(entry)
        os.utime(path, ns=(time, time), follow_symlinks=False)

    def _finish_directory(self, place: str, entry: tarfile.TarInfo) -> None:
        fd = os.open(reach(place), _DIRECTORY)
        try:
            os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode & 0o7777)
            set_attributes(fd, entry, self.warnings)
            time = mtime_ns(entry)
            os.utime(fd, ns=(time, time))
        finally:
            os.close(fd)

    def _make(self, place: str, make: Callable[[], _T]) -> _T:
        """Makes one file, after clearing its place or making its parents if that is needed."""
        try:
            return make()
        except FileExistsError:
            self._clear(place)
        except FileNotFoundError:
            self._make_parents(place)
        return make()

    def _make_parents(self, place: str) -> None:
        """Directories that the archive uses but does not list (or not yet): root's, 0755."""
        parts = place.split("/")[:-1]
        above = ""
        for part in parts:
            above += f"/{part}" if above else part
            with contextlib.suppress(FileExistsError):
                os.mkdir(reach(above), 0o755)

    def _clear(self, place: str) -> None:
        """Removes what an earlier entry put here: the later one wins."""
        path = reach(place)
        if stat.S_ISDIR(os.lstat(path).st_mode):
            remove_tree(path)
            self._links.discard_below(place)
            self._directories.pop(place, None)
            below = f"{place}/"
            for name in [name for name in self._directories if name.startswith(below)]:
                del self._directories[name]
        else:
            os.unlink(path)
            self._links.discard(place)
