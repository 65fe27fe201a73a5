"""Entering a container's file system, so that "/" is its root and nothing else is in reach.

A running one is entered by its init's mount namespace: its tmpfs, binds and volumes are there as
its own processes see them. For one that does not run its root is put together in a mount namespace
of the helper's own, which ends with the helper: the machine's mount table never knows of it, and a
kill -9 at any moment leaves nothing behind.

To read, the upper directory is mounted as the topmost of the lower ones. That mount writes nothing,
not even to its work directory, so it is in nobody's way: the container can start meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat

from runtime import flags, mounts, user_namespaces
from runtime.archive_order import GONE, Refused
from runtime.kernel import DOOR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_CLONE = flags.OPEN_TREE_CLONE | flags.OPEN_TREE_CLOEXEC | flags.AT_RECURSIVE
_RESOLVE = flags.RESOLVE_IN_ROOT | flags.RESOLVE_NO_MAGICLINKS


def enter(view: dict[str, Any], *, with_mounts: bool) -> None:
    """Make the container's root this process's, whose only thread this must be.

    Args:
        view: {"pidfd", "user"} of its init, and whether it has a user namespace of its own; or
            {"lower", "upper", "work", "merged", "binds", "writable", "readonly_root", "volatile"}
            as `runtime.spec.Spec` has them, to put it together.
        with_mounts: Also what is mounted over its overlay.

    Raises:
        Refused: It has ended (GONE).
        OSError: The kernel refuses.
    """
    if "pidfd" in view:
        _enter_running(view["pidfd"])
        if not with_mounts:
            _leave_mounts_behind()
        if view["user"]:
            # Its files have the ids of its own users there, and nothing else is ours to touch.
            user_namespaces.enter(DOOR, view["pidfd"])
        else:
            os.close(view["pidfd"])
        return
    DOOR.unshare(flags.CLONE_NEWNS)
    DOOR.mount(None, b"/", None, flags.MS_REC | flags.MS_PRIVATE, None)
    trees = _taken(view["binds"]) if with_mounts else []
    lower = [os.fsencode(path) for path in view["lower"]]
    upper, merged = os.fsencode(view["upper"]), os.fsencode(view["merged"])
    places = [one for one in view["binds"] if one.get("made")]
    if places and with_mounts:
        lower.append(_make_places(merged, places))
    if view["writable"]:
        work = os.fsencode(view["work"])
        mounts.mount_overlay(DOOR, merged, lower, upper, work, view["volatile"])
    else:
        mount_readonly(merged, [upper, *lower])
    DOOR.chdir(merged)
    # pivot_root(2): new and old root stacked on one another need no directory for the old.
    DOOR.pivot_root(b".", b".")
    DOOR.umount2(b".", flags.MNT_DETACH)
    DOOR.chdir(b"/")
    _attach(trees)
    if view["readonly_root"]:
        bits = flags.MS_REMOUNT | flags.MS_BIND | flags.MS_RDONLY | flags.MS_NODEV
        DOOR.mount(None, b"/", None, bits, None)


def _enter_running(pidfd: int) -> None:
    try:
        DOOR.setns(pidfd, flags.CLONE_NEWNS)
    except OSError as error:
        if error.errno == errno.ESRCH:
            raise Refused(GONE, "the container has ended") from None
        raise
    DOOR.chdir(b"/")


def _leave_mounts_behind() -> None:
    """Exchange the root for a copy of the overlay's own mount, without what is mounted below it."""
    root = DOOR.open_tree(b"/", flags.OPEN_TREE_CLONE | flags.OPEN_TREE_CLOEXEC)
    os.fchdir(root)
    os.close(root)
    os.chroot(b".")


def open_readonly(merged: bytes, layers: Sequence[bytes]) -> int:
    """Open what layers show together, the topmost first, without devices and writable for nobody.

    It is mounted on `merged`, above what may be mounted there already, which private mounts alone
    may see.

    Args:
        layers: None for an empty tree.

    Raises:
        OSError: The kernel refuses.
    """
    if not layers:
        bits = flags.MS_RDONLY | flags.MS_NODEV | flags.MS_NOSUID | flags.MS_NOEXEC
        DOOR.mount(b"tmpfs", merged, b"tmpfs", bits, b"mode=755,size=1m")
    elif len(layers) == 1:
        _bind_readonly(layers[0], merged)
    else:
        mount_readonly(merged, layers)
    return os.open(merged, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _bind_readonly(source: bytes, target: bytes) -> None:
    bits = flags.MS_RDONLY | flags.MS_NODEV | flags.MS_NOSUID | flags.MS_NOEXEC
    DOOR.mount(source, target, None, flags.MS_BIND, None)
    DOOR.mount(None, target, None, flags.MS_REMOUNT | flags.MS_BIND | bits, None)


def mount_readonly(merged: bytes, layers: Sequence[bytes]) -> None:
    """Mount layers, the topmost first, so that nobody can write; private mounts alone may see it.

    It may change the working directory.

    Raises:
        OSError: The kernel refuses.
    """
    directory, options = mounts.fitting_options(layers)
    if directory:
        DOOR.chdir(directory)
    bits = flags.MS_NODEV | flags.MS_NOSUID | flags.MS_NOEXEC | flags.MS_RDONLY
    DOOR.mount(b"overlay", merged, b"overlay", bits, options)


def _make_places(merged: bytes, asked: Sequence[dict[str, Any]]) -> bytes:
    """A directory with all that a start would make to mount something there: a layer of its own.

    The image may lack the places, and to look must not change the container.
    """
    DOOR.mount(b"tmpfs", merged, b"tmpfs", flags.MS_NODEV | flags.MS_NOSUID, b"mode=755,size=1m")
    for one in asked:
        place = merged + b"/" + os.fsencode(one["target"]).strip(b"/")
        is_file = one["made"] == "file"  # unless its source tells
        if one["source"] and os.path.exists(one["source"]):
            is_file = not os.path.isdir(one["source"])
        if is_file:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        else:
            os.makedirs(place, exist_ok=True)
    return merged


class _Tree:
    """A detached copy of what a mount shows.

    Attributes:
        bare: Its flags could not be set yet (Linux before 5.12 has no mount_setattr).
        gives_way: It is an empty volume, which its first start fills with what the image has there.
    """

    __slots__ = ("bare", "fd", "gives_way", "readonly", "target")

    def __init__(self, source: bytes, target: bytes, readonly: bool, subpath: bytes) -> None:
        self.target = target
        self.readonly = readonly
        self.bare = self.gives_way = False
        if subpath:
            # The volume's users may have put a link there: it must not lead out.
            volume = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            inner = DOOR.openat2(volume, subpath, os.O_PATH, _RESOLVE)
            self.fd = DOOR.open_tree(b"/proc/self/fd/%d" % inner, _CLONE)
            os.close(inner)
            os.close(volume)
        else:
            self.fd = DOOR.open_tree(source, _CLONE)
        attributes = flags.MOUNT_ATTR_NODEV | (flags.MOUNT_ATTR_RDONLY if readonly else 0)
        try:
            DOOR.mount_setattr(self.fd, attributes)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            self.bare = True


def _taken(asked: Sequence[dict[str, Any]]) -> list[_Tree]:
    """The sources that are there: one that has never run lacks the files of its network."""
    trees = []
    for one in asked:
        source = os.fsencode(one["source"])
        if not source or not os.path.exists(source):
            continue
        subpath = os.fsencode(one.get("subpath", ""))
        try:
            tree = _Tree(source, os.fsencode(one["target"]), one["readonly"], subpath)
        except FileNotFoundError:
            continue  # a part of a volume that is not there
        tree.gives_way = one.get("filled", False) and not os.listdir(source)
        trees.append(tree)
    return trees


def _attach(trees: Sequence[_Tree]) -> None:
    """Put them where their targets are; none is made, as looking must change nothing."""
    for tree in trees:
        try:
            target = DOOR.openat2(flags.AT_FDCWD, tree.target, os.O_PATH, _RESOLVE)
        except OSError:
            os.close(tree.fd)
            continue
        fits = _is_directory(target) == _is_directory(tree.fd)
        if fits and not (tree.gives_way and os.listdir(tree.target)):
            DOOR.move_mount(tree.fd, target, tree.target)
            if tree.bare:
                bits = flags.MS_NODEV | (flags.MS_RDONLY if tree.readonly else 0)
                bits |= flags.MS_REMOUNT | flags.MS_BIND
                DOOR.mount(None, tree.target, None, bits, None)
        os.close(target)
        os.close(tree.fd)


def _is_directory(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)
