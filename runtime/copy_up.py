"""Copy-up: an empty volume gets what the image has in its place, once, all of it or nothing.

Done by the init, which has the image's tree before it and no container in it yet. Beside the
volume's directory (`VOLUME/_data`) it works in two of its own:

    VOLUME/_fill.ID      the copy while it is being made; of no meaning to anybody else
    VOLUME/_fill         a whole copy, renamed from the former: it only has to be moved in

The volume's own directory stays the same one, since a container that runs may have it mounted.
A death before the second rename leaves an empty volume, one after it a copy that `move_in` (the
supervisor calls it before each start) moves in. Nothing is ever put over what is there.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

WHOLE = b"_fill"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_AT_ONCE = 1 << 30
_DEEPEST = 200


def draft_of(volume: bytes, name: bytes) -> bytes:
    """Where a container makes its copy for a volume."""
    return os.path.dirname(volume) + b"/" + WHOLE + b"." + name


def fill(source: int, volume: bytes, name: bytes) -> None:
    """Copy the directory `source` (a descriptor) to `volume`, an empty directory.

    Ownership, modes, times, hard links, holes, extended attributes and devices come along.

    Args:
        name: The container's id, so that two who copy at once don't meet.

    Raises:
        OSError: The disk refused; the volume is as empty as it was.
    """
    if os.listdir(volume):
        return
    above = os.path.dirname(volume)
    draft = draft_of(volume, name)
    remove_tree(draft)
    try:
        os.mkdir(draft, 0o700)
        target = os.open(draft, _DIRECTORY)
        try:
            _Copy(target).tree(source, target)
        finally:
            os.close(target)
        try:
            os.rename(draft, above + b"/" + WHOLE)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            remove_tree(draft)  # another one was first
    except OSError:
        remove_tree(draft)
        raise
    move_in(volume)


def move_in(volume: bytes) -> None:
    """Finish what a `fill` has begun: move a whole copy into the volume.

    Raises:
        OSError: The disk refused; the rest is moved at the next call.
    """
    whole = os.path.dirname(volume) + b"/" + WHOLE
    try:
        from_fd = os.open(whole, _DIRECTORY)
    except FileNotFoundError:
        return
    try:
        for name in os.listdir(from_fd):
            target = volume + b"/" + os.fsencode(name)
            if os.path.lexists(target):
                remove_tree(whole + b"/" + os.fsencode(name))  # never over what is there
            else:
                os.rename(name, target, src_dir_fd=from_fd)
        to_fd = os.open(volume, _DIRECTORY)
        try:
            _attributes(from_fd, to_fd, os.fstat(from_fd))
        finally:
            os.close(to_fd)
    finally:
        os.close(from_fd)
    os.rmdir(whole)


def remove_tree(path: bytes) -> None:
    """Delete a file or a directory with all below it; nothing is no error.

    Raises:
        OSError: The disk refused.
    """
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
    except FileNotFoundError:
        return
    for name in os.listdir(path):
        remove_tree(path + b"/" + name)
    os.rmdir(path)


class _Copy:
    """One copy under way: it knows the hard links that it has seen."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._links: dict[tuple[int, int], bytes] = {}

    def tree(self, source: int, target: int, below: bytes = b"") -> None:
        """Copy what is in one directory into another, then its own attributes."""
        if below.count(b"/") > _DEEPEST:
            raise OSError(errno.ENAMETOOLONG, "directories are nested too deeply", below)
        for entry in os.listdir(source):
            name = os.fsencode(entry)
            self._entry(source, target, name, below + name)
        _attributes(source, target, os.fstat(source))

    def _entry(self, source: int, target: int, name: bytes, path: bytes) -> None:
        about = os.lstat(name, dir_fd=source)
        kind = stat.S_IFMT(about.st_mode)
        if kind == stat.S_IFDIR:
            os.mkdir(name, 0o700, dir_fd=target)
            self._opened(
                source,
                target,
                name,
                (_DIRECTORY, _DIRECTORY),
                lambda from_fd, to_fd: self.tree(from_fd, to_fd, path + b"/"),
            )
            return
        if about.st_nlink > 1:
            key = (about.st_dev, about.st_ino)
            known = self._links.setdefault(key, path)
            if known != path:
                os.link(known, name, src_dir_fd=self._top, dst_dir_fd=target, follow_symlinks=False)
                return
        if kind == stat.S_IFREG:
            self._opened(
                source,
                target,
                name,
                (_READ, _WRITE),
                lambda from_fd, to_fd: _content(from_fd, to_fd, about),
            )
            return
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        else:
            os.mknod(name, about.st_mode, about.st_rdev, dir_fd=target)
        os.chown(name, about.st_uid, about.st_gid, dir_fd=target, follow_symlinks=False)
        if kind != stat.S_IFLNK:
            os.chmod(name, stat.S_IMODE(about.st_mode), dir_fd=target)
        times = (about.st_atime_ns, about.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)

    @staticmethod
    def _opened(
        source: int,
        target: int,
        name: bytes,
        how: tuple[int, int],
        work: Callable[[int, int], None],
    ) -> None:
        from_fd = os.open(name, how[0], dir_fd=source)
        try:
            to_fd = os.open(name, how[1], 0o600, dir_fd=target)
            try:
                work(from_fd, to_fd)
            finally:
                os.close(to_fd)
        finally:
            os.close(from_fd)


def _content(source: int, target: int, about: os.stat_result) -> None:
    """A file's content with its holes, then its attributes."""
    at = 0
    while at < about.st_size:
        try:
            begin = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # nothing but a hole is left
        end = os.lseek(source, begin, os.SEEK_HOLE)
        os.lseek(target, begin, os.SEEK_SET)
        while begin < end:
            moved = os.sendfile(target, source, begin, min(end - begin, _AT_ONCE))
            if not moved:
                break  # it was cut short meanwhile
            begin += moved
        at = end
    os.ftruncate(target, about.st_size)
    _attributes(source, target, about)


def _attributes(source: int, target: int, about: os.stat_result) -> None:
    """Owner, mode, extended attributes, times: each may change what comes before it."""
    os.fchown(target, about.st_uid, about.st_gid)
    os.fchmod(target, stat.S_IMODE(about.st_mode))
    try:
        names = os.listxattr(source)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        names = []
    for name in names:
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            # Another file system than the image's may not have the kind.
            if error.errno not in (errno.ENOTSUP, errno.ENODATA):
                raise
    os.utime(target, ns=(about.st_atime_ns, about.st_mtime_ns))
