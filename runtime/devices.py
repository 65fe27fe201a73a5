"""A container's own device nodes, made in its fresh /dev, or beside it and bound where asked.

Nobody's code runs in the container yet. A node outside /dev is never made on a disk: a layer or a
volume that holds one would give it to whoever mounts it later. It is made in the container's /dev,
taken from there by a detached mount and attached after the root has changed, as a bind is.

Which of them can be opened is the cgroup's matter: `runtime.device_cgroup`.
"""

from __future__ import annotations

import errno
import os
import stat

from runtime import binds, flags
from runtime.mounts import DEV_DIRECTORIES, DEV_LINKS, DEVICES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.kernel import Kernel

OWN = (*DEVICES, *(name for _, name in DEV_LINKS))
"""What every container's /dev has already."""

_DEV = b"/dev/"
# include/linux/kdev_t.h. So mknod(2) takes the same number as glibc's mknod.
_MOST_MAJOR, _MOST_MINOR = 2**12 - 1, 2**20 - 1
_TAKE = flags.OPEN_TREE_CLONE | flags.OPEN_TREE_CLOEXEC
ABOVE = flags.MS_REMOUNT | flags.MS_BIND | flags.MS_NOSUID


class Node:
    """One node; the fields are those of `runtime.spec.Device`.

    Attributes:
        mode: Its type and permission bits.
        number: Its device.
        inside: Its path below /dev, where it is made there; b"" for any other place.
    """

    __slots__ = ("gid", "inside", "mode", "number", "path", "uid")

    def __init__(
        self, path: bytes, kind: str, major: int, minor: int, mode: int, uid: int, gid: int
    ) -> None:
        self.path = path
        if major > _MOST_MAJOR or minor > _MOST_MINOR:
            raise ValueError(f"{os.fsdecode(path)}: there is no device {major}:{minor}")
        self.mode = {"c": stat.S_IFCHR, "b": stat.S_IFBLK}[kind] | mode & 0o7777
        self.number = os.makedev(major, minor)
        self.uid = uid
        self.gid = gid
        self.inside = path.removeprefix(_DEV) if path.startswith(_DEV) else b""
        first = self.inside.partition(b"/")[0]
        if first in OWN:
            raise ValueError(f"{os.fsdecode(path)}: /dev/{os.fsdecode(first)} is every container's")
        if first in DEV_DIRECTORIES:
            self.inside = b""  # something is mounted there


class Taken:
    """A node that is to be attached elsewhere.

    Attributes:
        fd: A detached mount of it.
        folder: Where it was made, by `name`.
    """

    __slots__ = ("fd", "folder", "name", "node")

    def __init__(self, node: Node, fd: int, folder: int, name: bytes) -> None:
        self.node = node
        self.fd = fd
        self.folder = folder
        self.name = name


def allow(door: Kernel, dev: bytes) -> None:
    """Have device nodes work in a tmpfs that was mounted without them."""
    door.mount(None, dev, None, ABOVE, None)


def fill(door: Kernel, dev: bytes, nodes: Sequence[Node]) -> list[Taken]:
    """Make those that belong into a fresh /dev; the others are returned as detached mounts.

    Args:
        dev: Where it is.

    Raises:
        OSError: The kernel refused; the error names the node.
    """
    taken: list[Taken] = []
    for number, node in enumerate(nodes):
        path = dev + b"/" + (node.inside or b".taken%d" % number)
        for parent in parents(node.inside):
            try:
                door.mkdir(dev + b"/" + parent, 0o755)
            except FileExistsError:
                continue
        try:
            _make(door, path, node)
        except OSError as error:
            code = error.errno or 0
            raise OSError(code, os.strerror(code), os.fsdecode(node.path)) from error
        if not node.inside:
            folder = door.open(dev, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            taken.append(Taken(node, door.open_tree(path, _TAKE), folder, os.path.basename(path)))
    return taken


def parents(inside: bytes) -> list[bytes]:
    """The directories above a path, the topmost first."""
    names = inside.split(b"/")
    return [b"/".join(names[:end]) for end in range(1, len(names))]


def _make(door: Kernel, path: bytes, node: Node) -> None:
    door.mknod(path, node.mode, node.number)
    door.chmod(path, stat.S_IMODE(node.mode))  # whatever our umask is
    if node.uid or node.gid:
        door.chown(path, node.uid, node.gid)


def attach(door: Kernel, taken: Sequence[Taken]) -> None:
    """Put those at their places in the caller's root, which are made if they are missing.

    Raises:
        InitRefused: It would be in /proc.
        OSError: There is a directory, or no place can be made.
    """
    proc = {door.lstat(b"/proc").st_dev}
    for one in taken:
        node = one.node
        target = binds.open_target(door, node.path, False)
        binds.spare_proc(door, target, proc)
        if stat.S_ISDIR(door.fstat(target).st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a directory", os.fsdecode(node.path))
        door.move_mount(one.fd, target, node.path)
        # Only now: what is deleted can't be attached. By its directory, as /dev may be covered.
        door.unlink(one.name, dir_fd=one.folder)
        for fd in (target, one.fd, one.folder):
            door.close(fd)
