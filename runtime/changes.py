"""What a container has changed: its upper directory beside what its image shows there.

overlayfs writes down deletions as whiteouts (character devices 0:0), directories that hide all
below them by trusted.overlay.opaque, and renamed ones by trusted.overlay.redirect
(Documentation/filesystems/overlayfs.rst). Everything else in the upper directory was made or
changed there. Only names are looked up, one at a time and without following a link.
"""

from __future__ import annotations

import errno
import os
import stat

from runtime import archive_view, flags
from runtime.archive_order import REFUSED, Refused
from runtime.images.entry_names import shown
from runtime.kernel import DOOR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

MODIFIED, ADDED, DELETED = 0, 1, 2
"""The Engine API's numbers."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Marks of directories: nothing of the image is to be seen in it; it was elsewhere in the image.
OPAQUE = "trusted.overlay.opaque"
REDIRECT = "trusted.overlay.redirect"
_INSIDE = flags.RESOLVE_IN_ROOT | flags.RESOLVE_NO_MAGICLINKS

LONGEST_PATH = 4095
"""PATH_MAX (limits.h) without its NUL. A payload can make what nobody can name."""

MOST_BYTES = 64 << 20
"""Of all paths of a list, which the engine has in its memory: a million or so."""

Change = tuple[bytes, int]


def open_layers(view: dict[str, Any]) -> tuple[int, int]:
    """Open the upper directory, and the image's layers as one tree.

    Both are mounted, read-only, in a mount namespace of this process's own, and without devices: a
    payload that exchanges a file for a node while we look has nobody open it.

    Raises:
        OSError: The kernel refuses.
    """
    lower = [os.fsencode(path) for path in view["lower"]]
    merged = os.fsencode(view["merged"])
    DOOR.unshare(flags.CLONE_NEWNS)
    DOOR.mount(None, b"/", None, flags.MS_REC | flags.MS_PRIVATE, None)
    image = archive_view.open_readonly(merged, lower)
    return archive_view.open_readonly(merged, [os.fsencode(view["upper"])]), image


def compare(upper: int, below: int, hidden: Sequence[bytes] = ()) -> list[Change]:
    """All changes in order, a directory before what is in it. Closes both descriptors.

    Args:
        hidden: Absolute paths that the engine has made to mount something there. They, and that
            their directories were touched for them, are no changes.

    Raises:
        Refused: There are more than can be listed, or deeper ones.
    """
    return _Comparison(below, frozenset(path.strip(b"/") for path in hidden)).run(upper)


class _Comparison:
    def __init__(self, image: int, hidden: frozenset[bytes]) -> None:
        self._image = image
        self._hidden = hidden
        self._found: list[Change] = []
        self._bytes = 0

    def run(self, upper: int) -> list[Change]:
        try:
            self._directory(b"", upper, self._image, self._image)
        finally:
            os.close(upper)
            os.close(self._image)
        return self._found

    def _directory(self, path: bytes, upper: int, through: int, before: int) -> tuple[bool, bool]:
        """What has changed in one directory.

        Args:
            upper: Its upper directory, -1 where there is none.
            through: What of the image is to be seen in it now, -1 for nothing.
            before: What the image has at its path, -1 for nothing.

        Returns:
            Whether something was added or deleted in it, and whether something of it is hidden.
        """
        turned = left_out = False
        ours = _names(upper)
        names = set(ours)
        if through != before:
            names.update(_names(through), _names(before))
        for name in sorted(names):
            place = path + b"/" + name if path else name
            if len(place) >= LONGEST_PATH:
                words = shown(os.fsdecode(place))
                raise Refused(
                    REFUSED,
                    f"/{words}: file name too long: a path has {LONGEST_PATH} bytes at most",
                )
            if place in self._hidden and is_bare(upper, name):
                left_out = True
                continue
            old = look(before, name)
            new = look(upper, name) if name in ours else look(through, name)
            if new is not None and name in ours and is_whiteout(new):
                new = None
            if new is None:
                if old is not None:
                    self._note(place, DELETED)
                    turned = True
                continue
            where = (upper, through, before)
            is_new, is_for_mounts = self._one(place, name, old, new, where, name in ours)
            turned |= is_new
            left_out |= is_for_mounts
        return turned, left_out

    def _one(
        self,
        place: bytes,
        name: bytes,
        old: os.stat_result | None,
        new: os.stat_result,
        where: tuple[int, int, int],
        is_ours: bool,
    ) -> tuple[bool, bool]:
        """One name that is there now.

        Returns:
            Whether it was not before, and whether it is there for what is mounted in it alone.
        """
        kind = ADDED if old is None else MODIFIED
        if not stat.S_ISDIR(new.st_mode):
            if is_ours or old is None or _differs(old, new):
                self._note(place, kind)
            return kind == ADDED, False
        at = len(self._found)
        upper = open_directory(where[0], name) if is_ours else -1
        before = open_directory(where[2], name)
        through = self._through(name, upper, where, before)
        try:
            turned, left_out = self._directory(place, upper, through, before)
        finally:
            for fd in {upper, through, before} - {-1}:
                os.close(fd)
        if kind == ADDED and left_out and len(self._found) == at:
            return False, True
        if old is None or turned or (not left_out and _differs(old, new)) or _has_other_rights(
            old, new
        ):  # fmt: skip
            self._note(place, kind, at)
        return kind == ADDED, False

    def _note(self, place: bytes, kind: int, at: int | None = None) -> None:
        self._bytes += len(place) + 1
        if self._bytes > MOST_BYTES:
            raise Refused(
                REFUSED,
                f"too many changes to list: their paths have more than {MOST_BYTES >> 20} MiB",
            )
        self._found.insert(len(self._found) if at is None else at, (b"/" + place, kind))

    def _through(self, name: bytes, upper: int, where: tuple[int, int, int], before: int) -> int:
        """What of the image is to be seen in a directory now; may be `before` itself."""
        if upper < 0:
            return open_directory(where[1], name)
        if attribute(upper, OPAQUE) in (b"y", b"x"):
            return -1
        if attribute(upper, REDIRECT):
            return moved_from(self._image, where[1], upper)
        return before if where[1] == where[2] else open_directory(where[1], name)


def moved_from(image: int, parent: int, upper: int) -> int:
    """Open what of the image shows in a directory that was renamed; -1 for nothing.

    Args:
        image: The image's root.
        parent: What of the image shows in its parent; that may have been renamed, too.
        upper: The directory.
    """
    redirect = attribute(upper, REDIRECT)
    if not redirect.startswith(b"/"):
        return open_directory(parent, redirect)
    try:
        return DOOR.openat2(image, redirect.lstrip(b"/"), os.O_RDONLY | os.O_DIRECTORY, _INSIDE)
    except OSError:
        return -1


def _names(fd: int) -> set[bytes]:
    return {os.fsencode(name) for name in os.listdir(fd)} if fd >= 0 else set()


def look(fd: int, name: bytes) -> os.stat_result | None:
    """What a directory has by that name, None for nothing; -1 is a directory that is not there."""
    if fd < 0:
        return None
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def open_directory(fd: int, name: bytes) -> int:
    """Open a directory in a directory; -1 where there is none, or something else."""
    if fd < 0:
        return -1
    try:
        return os.open(name, _DIRECTORY, dir_fd=fd)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return -1
        raise


def attribute(fd: int, name: str) -> bytes:
    """An extended attribute; b"" where there is none."""
    try:
        return os.getxattr(fd, name)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return b""
        raise


def is_whiteout(status: os.stat_result) -> bool:
    """Whether it says that what the image has in its place was deleted."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_bare(upper: int, name: bytes) -> bool:
    """Whether it is an empty file or directory: what is needed to mount something, and no more."""
    status = look(upper, name)
    if status is None:
        return False
    if stat.S_ISDIR(status.st_mode):
        fd = open_directory(upper, name)
        try:
            return not os.listdir(fd)
        finally:
            os.close(fd)
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def _differs(old: os.stat_result, new: os.stat_result) -> bool:
    return old.st_mtime_ns != new.st_mtime_ns or _has_other_rights(old, new)


def _has_other_rights(old: os.stat_result, new: os.stat_result) -> bool:
    return (old.st_mode, old.st_uid, old.st_gid) != (new.st_mode, new.st_uid, new.st_gid)
