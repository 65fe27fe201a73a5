"""Binds into the container: taken as detached trees on the host, attached inside the new root.

A source is opened while the host's tree is in reach, and its flags are set on the detached copy,
so it is never visible without them. A target is resolved after pivot_root, when no symbolic link
can lead out any more, and without the magic links of /proc, behind which descriptors of the host
could be reached.

Kernels before 5.12 have no mount_setattr: there each mount is remounted after it was attached,
before the payload exists.
"""

from __future__ import annotations

import errno
import os
import stat

from runtime import flags
from runtime.mounts import mount_bits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.kernel import Kernel

_CLONE = flags.OPEN_TREE_CLONE | flags.OPEN_TREE_CLOEXEC | flags.AT_RECURSIVE
_RESOLVE = flags.RESOLVE_IN_ROOT | flags.RESOLVE_NO_MAGICLINKS
_HERE = flags.AT_FDCWD


class Bind:
    """One bind as the init needs it."""

    __slots__ = ("readonly", "source", "target")

    def __init__(self, source: bytes, target: bytes, readonly: bool) -> None:
        self.source = source
        self.target = target
        self.readonly = readonly


class Tree:
    """A detached copy of a bind's source.

    Attributes:
        plain: Its flags could not be set yet (Linux before 5.12).
    """

    __slots__ = ("bind", "fd", "plain")

    def __init__(self, bind: Bind, fd: int, plain: bool) -> None:
        self.bind = bind
        self.fd = fd
        self.plain = plain


def take(door: Kernel, binds: Sequence[Bind]) -> list[Tree]:
    """Copy each source's mount tree, nodev and, where asked, read-only."""
    trees = []
    for bind in binds:
        fd = door.open_tree(bind.source, _CLONE)
        attributes = flags.MOUNT_ATTR_NODEV
        if bind.readonly:
            attributes |= flags.MOUNT_ATTR_RDONLY
        plain = False
        try:
            door.mount_setattr(fd, attributes)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            plain = True
        trees.append(Tree(bind, fd, plain))
    return trees


def attach(door: Kernel, trees: Sequence[Tree]) -> None:
    """Put each tree at its target in the caller's root, making the target if it is missing."""
    for tree in trees:
        target = _open_target(door, tree.bind.target, stat.S_ISDIR(door.fstat(tree.fd).st_mode))
        door.move_mount(tree.fd, target, tree.bind.target)
        door.close(target)
        if tree.plain:
            _set_flags(door, tree)
        door.close(tree.fd)


def _open_target(door: Kernel, path: bytes, directory: bool) -> int:
    try:
        return door.openat2(_HERE, path, os.O_PATH, _RESOLVE)
    except FileNotFoundError:
        _make(door, path, directory)
        return door.openat2(_HERE, path, os.O_PATH, _RESOLVE)


def _make(door: Kernel, path: bytes, directory: bool) -> None:
    """Make `path` and the directories above it, each looked up with the same care."""
    parent = door.openat2(_HERE, b"/", os.O_PATH | os.O_DIRECTORY, _RESOLVE)
    names = [name for name in path.split(b"/") if name not in (b"", b".")]
    for at, name in enumerate(names):
        last = at == len(names) - 1
        so_far = b"/" + b"/".join(names[: at + 1])
        try:
            below = door.openat2(_HERE, so_far, os.O_PATH, _RESOLVE)
        except FileNotFoundError:
            if last and not directory:
                door.mknod(name, stat.S_IFREG | 0o644, dir_fd=parent)
            else:
                door.mkdir(name, 0o755, dir_fd=parent)
            below = door.openat2(_HERE, so_far, os.O_PATH, _RESOLVE)
        door.close(parent)
        parent = below
    door.close(parent)


def _set_flags(door: Kernel, tree: Tree) -> None:
    """What mount_setattr would have done, mount by mount, by the container's own mountinfo."""
    added = flags.MS_NODEV | (flags.MS_RDONLY if tree.bind.readonly else 0)
    below = tree.bind.target.rstrip(b"/")
    with open("/proc/self/mountinfo", "rb") as mountinfo:
        points = [line.split(b" ")[4] for line in mountinfo]
    for point in points:
        path = _unescape(point)
        if path == below or path.startswith(below + b"/"):
            bits = mount_bits(door.statvfs(path).f_flag) | added
            door.mount(None, path, None, bits | flags.MS_REMOUNT | flags.MS_BIND, None)


def _unescape(word: bytes) -> bytes:
    for code, character in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n")):
        word = word.replace(code, character)
    return word.replace(b"\\134", b"\\")
