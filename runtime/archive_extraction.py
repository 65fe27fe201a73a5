"""A tar becomes files of a container, below one of its directories; runs inside its root.

Unlike an image's layer the tree was not made by the archive, and the payload may change it while
we write. So each parent is looked up by the kernel, which ends every link at the container's root,
and what is made there is made by descriptor and name: O_EXCL, never through a link. What is in the
way is removed first, as Docker does it; a file that can't be completed is taken away again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
import tarfile
from collections import Counter
from collections.abc import Iterator

from runtime import archive_paths
from runtime.archive_order import MISSING, READ_ONLY, REFUSED, Refused
from runtime.images.attributes import set_attributes
from runtime.images.entry_content import write_content
from runtime.images.entry_names import shown
from runtime.images.entry_numbers import check_numbers, mtime_ns
from runtime.images.tar_entries import entries
from runtime.images.tar_source import Refusal, TarSource

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 10


class Extraction:
    """One archive on its way into a directory.

    Attributes:
        warnings: What could not be kept, counted, such as attributes of another file system.
    """

    def __init__(
        self,
        source: TarSource,
        path: bytes,
        *,
        no_overwrite: bool = False,
        owner: tuple[int, int] | None = None,
    ) -> None:
        """Find the directory.

        Args:
            no_overwrite: A directory is not replaced by a file, nor a file by a directory.
            owner: (uid, gid) of everything; None for what the archive says.

        Raises:
            Refused: There is no such directory.
        """
        self.warnings: Counter[str] = Counter()
        self._source = source
        self._no_overwrite = no_overwrite
        self._owner = owner
        self._root = os.open(b"/", _DIRECTORY)
        # Its links are followed once, here. Later it is found by its real path.
        self._place = archive_paths.final_target(archive_paths.clean(path))
        found = archive_paths.Found(self._root, self._place)
        if not found.is_directory:
            raise Refused(REFUSED, "extraction point is not a directory")
        what = archive_paths.kernels_own(found.parent)
        if what:
            raise Refused(
                REFUSED, f"{os.fsdecode(path)} lies in a file system of the kernel's ({what})"
            )
        self._is_root_file_system = found.status.st_dev == os.fstat(self._root).st_dev
        self._parent_name: bytes | None = None
        self._parent = found.parent
        self._times: list[tuple[bytes, int]] = []

    def run(self) -> None:
        """Unpack all entries, then read the source to its end.

        Raises:
            Refused: The archive is damaged, or an entry can't be unpacked here; the text names it.
            OSError: `filename` is the entry's name, always.
        """
        try:
            self._unpack_all()
        except Refusal as refusal:
            raise Refused(REFUSED, str(refusal)) from None

    def _unpack_all(self) -> None:
        for entry in entries(self._source, end_mark=False):
            name = self._relative(entry.name)
            check_numbers(entry)
            try:
                if name:
                    self._unpack(name, entry)
            except OSError as error:
                if error.errno == errno.EROFS:
                    raise self._read_only() from None
                if error.errno == errno.EBUSY:
                    where = shown(os.fsdecode(self._full(name)))
                    raise Refused(
                        REFUSED,
                        f"unlinkat {where}: device or resource busy: something is mounted there; "
                        "write to it by a command in the container",
                    ) from None
                error.filename = entry.name
                raise
        for name, time in reversed(self._times):
            self._set_time(name, time)
        self._source.drain()

    def _read_only(self) -> Refused:
        what = "container rootfs" if self._is_root_file_system else "mounted volume"
        return Refused(READ_ONLY, f"{what} is marked read-only")

    def _relative(self, name: str) -> bytes:
        """The path below our directory; empty for itself.

        Raises:
            Refused: It leads out.
        """
        if "\0" in name:
            raise Refused(REFUSED, f"{shown(name)}: the name holds a NUL character")
        if name.startswith("/"):
            cleaned = posixpath.normpath("/" + name.lstrip("/")).lstrip("/") or "."
        else:
            cleaned = posixpath.normpath(name)
        if cleaned == ".." or cleaned.startswith("../"):
            where = os.fsdecode(self._place)
            raise Refused(REFUSED, f'"{shown(name)}" is outside of "{shown(where)}"')
        return b"" if cleaned == "." else os.fsencode(cleaned)

    def _unpack(self, name: bytes, entry: tarfile.TarInfo) -> None:
        above, _, base = name.rpartition(b"/")
        parent = self._directory_above(above)
        is_there = self._make_room(parent, base, name, entry)
        if entry.isdir():
            self._make_directory(parent, base, name, entry, is_there)
        elif entry.isreg():
            self._make_file(parent, base, entry)
        elif entry.issym():
            os.symlink(os.fsencode(entry.linkname), base, dir_fd=parent)
            self._finish(parent, base, entry)
        elif entry.islnk():
            self._make_hard_link(parent, base, entry)
        elif entry.isfifo() or entry.isdev():
            self._make_node(parent, base, entry)
        else:
            kind = entry.type.decode("ascii", "backslashreplace")
            raise Refused(REFUSED, f"{shown(entry.name)}: unknown entry type '{shown(kind)}'")

    def _directory_above(self, name: bytes) -> int:
        """The descriptor of a directory below ours; it is made where it is missing.

        Neighbours in an archive mostly have the same, so the last one stays open.
        """
        if self._parent_name == name:
            return self._parent
        os.close(self._parent)
        self._parent_name = None
        self._parent = self._open(name)
        self._parent_name = name
        return self._parent

    def _open(self, name: bytes) -> int:
        path = self._full(name) + b"/"
        try:
            return archive_paths.open_directory(self._root, path)
        except Refused as refused:
            if refused.kind != MISSING or not name:
                raise
        above, _, base = name.rpartition(b"/")
        fd = self._open(above)
        try:
            os.mkdir(base, 0o755, dir_fd=fd)
        except FileExistsError:
            pass  # a link to nowhere, or somebody was quicker
        finally:
            os.close(fd)
        return archive_paths.open_directory(self._root, path)

    def _full(self, name: bytes) -> bytes:
        return self._place.rstrip(b"/") + b"/" + name

    def _make_room(self, parent: int, base: bytes, name: bytes, entry: tarfile.TarInfo) -> bool:
        """Remove what is in an entry's way; True if a directory is there that it is merged with.

        Raises:
            Refused: It may not be replaced by this kind of thing (Docker's words).
        """
        try:
            status = os.stat(base, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        is_directory = stat.S_ISDIR(status.st_mode)
        if is_directory and entry.isdir():
            return True
        if self._no_overwrite and is_directory != entry.isdir():
            kinds = ("directory", "non-directory")
            old, new = kinds if is_directory else kinds[::-1]
            path, place = shown(os.fsdecode(self._full(name))), shown(os.fsdecode(self._place))
            raise Refused(REFUSED, f'cannot overwrite {old} "{path}" with {new} "{place}"')
        if is_directory:
            _remove_tree(parent, base)
        else:
            os.unlink(base, dir_fd=parent)
        return False

    def _make_directory(
        self, parent: int, base: bytes, name: bytes, entry: tarfile.TarInfo, is_there: bool
    ) -> None:
        if not is_there:
            os.mkdir(base, 0o700, dir_fd=parent)
        fd = os.open(base, _DIRECTORY, dir_fd=parent)
        try:
            self._set_all(fd, entry)
        finally:
            os.close(fd)
        # What is unpacked into it changes its time.
        self._times.append((name, mtime_ns(entry)))

    def _set_time(self, name: bytes, time: int) -> None:
        try:
            fd = archive_paths.open_directory(self._root, self._full(name) + b"/")
        except Refused:
            return  # a later entry, or the payload, has replaced it
        try:
            os.utime(fd, ns=(time, time))
        finally:
            os.close(fd)

    def _make_file(self, parent: int, base: bytes, entry: tarfile.TarInfo) -> None:
        fd = os.open(base, _NEW_FILE, 0o600, dir_fd=parent)
        try:
            self._fill(fd, entry)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(base, dir_fd=parent)
            raise
        finally:
            os.close(fd)

    def _fill(self, fd: int, entry: tarfile.TarInfo) -> None:
        write_content(fd, entry, self._source)
        self._set_all(fd, entry)
        time = mtime_ns(entry)
        os.utime(fd, ns=(time, time))

    def _make_hard_link(self, parent: int, base: bytes, entry: tarfile.TarInfo) -> None:
        target = self._relative(entry.linkname)
        above, _, source = target.rpartition(b"/")
        fd = self._open(above)
        try:
            if os.path.samestat(os.fstat(fd), os.fstat(parent)) and source == base:
                return
            os.link(source, base, src_dir_fd=fd, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            raise Refused(
                REFUSED,
                f"{shown(entry.name)}: hard link to {shown(entry.linkname)}, which is not there",
            ) from None
        finally:
            os.close(fd)

    def _make_node(self, parent: int, base: bytes, entry: tarfile.TarInfo) -> None:
        kind = stat.S_IFIFO if entry.isfifo() else stat.S_IFCHR if entry.ischr() else stat.S_IFBLK
        device = 0 if entry.isfifo() else os.makedev(entry.devmajor, entry.devminor)
        # The umask is 0 here. A chmod afterwards would follow a link that was put in its place.
        os.mknod(base, kind | entry.mode & 0o777, device, dir_fd=parent)
        self._finish(parent, base, entry)

    def _finish(self, parent: int, base: bytes, entry: tarfile.TarInfo) -> None:
        """Owner and times of what must not be opened: links, fifos, devices."""
        uid, gid = self._owner or (entry.uid, entry.gid)
        os.chown(base, uid, gid, dir_fd=parent, follow_symlinks=False)
        time = mtime_ns(entry)
        os.utime(base, ns=(time, time), dir_fd=parent, follow_symlinks=False)

    def _set_all(self, fd: int, entry: tarfile.TarInfo) -> None:
        """Owner, attributes and mode, in this order: chown takes setuid bits and capabilities."""
        uid, gid = self._owner or (entry.uid, entry.gid)
        os.fchown(fd, uid, gid)
        if entry.pax_headers:
            set_attributes(fd, entry, self.warnings)
        os.fchmod(fd, entry.mode & 0o7777)


def _remove_tree(parent: int, name: bytes) -> None:
    """Remove a directory with all that is in it, by descriptors: no link is followed.

    Others may add to it meanwhile, so it is tried a few times.
    """
    for _ in range(_TRIES):
        for fd, names in _bottom_up(parent, name):
            for one in names:
                _remove_one(fd, one)
        try:
            os.rmdir(name, dir_fd=parent)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))


def _bottom_up(parent: int, name: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Each directory with its names, those below it first; the descriptor is ours."""
    levels = [_level(parent, name)]
    try:
        while levels:
            fd, names, pending = levels[-1]
            if pending:
                try:
                    levels.append(_level(fd, pending.pop()))
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                        raise
                continue
            yield fd, names
            levels.pop()
            os.close(fd)
    finally:
        for fd, _, _ in levels:
            os.close(fd)


def _level(parent: int, name: bytes) -> tuple[int, list[bytes], list[bytes]]:
    fd = os.open(name, _DIRECTORY, dir_fd=parent)
    names, below = [], []
    with os.scandir(fd) as found:
        for one in found:
            names.append(os.fsencode(one.name))
            if one.is_dir(follow_symlinks=False):
                below.append(names[-1])
    return fd, names, below


def _remove_one(fd: int, name: bytes) -> None:
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        try:
            os.rmdir(name, dir_fd=fd)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
