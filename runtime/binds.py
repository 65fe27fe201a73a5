"""What is mounted into a container: binds, taken as detached trees on the host and attached inside
the new root, and tmpfs.

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

from runtime import copy_up, flags
from runtime.errors import InitRefused
from runtime.mounts import mount_bits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runtime.kernel import Kernel

_CLONE = flags.OPEN_TREE_CLONE | flags.OPEN_TREE_CLOEXEC
_RESOLVE = flags.RESOLVE_IN_ROOT | flags.RESOLVE_NO_MAGICLINKS
_HERE = flags.AT_FDCWD
_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_MISMATCH = (
    "not a directory: are you trying to mount a directory onto a file (or vice-versa)? Check if "
    "the specified host path exists and is the expected type"
)
_HARMLESS_IN_PROC = frozenset(
    b"/proc/" + name
    for name in (
        *(b"cpuinfo", b"diskstats", b"loadavg", b"meminfo", b"slabinfo", b"stat", b"swaps"),
        *(b"uptime", b"net/dev", b"sys/kernel/ns_last_pid"),
    )
)
"""What lxcfs and its like show of their own, as runc has it."""


class Bind:
    """One bind as the init needs it; the fields are those of `runtime.spec.Bind`."""

    __slots__ = (
        "device_nodes",
        "directory",
        "fill",
        "optional",
        "propagation",
        "readonly",
        "recursive",
        "shifted",
        "source",
        "subpath",
        "target",
    )

    def __init__(self, source: bytes, target: bytes, readonly: bool) -> None:
        self.source = source
        self.target = target
        self.readonly = readonly
        self.directory: bool | None = None
        self.propagation = ""
        self.recursive = True
        self.subpath = b""
        self.fill = False
        self.optional = False
        self.shifted = False
        self.device_nodes = False


class Tmpfs:
    """One tmpfs; the fields are those of `runtime.spec.Tmpfs`."""

    __slots__ = ("attributes", "options", "target")

    def __init__(self, target: bytes, options: list[bytes], attributes: int) -> None:
        self.target = target
        self.options = options
        self.attributes = attributes


class Tree:
    """A detached copy of a bind's source.

    Attributes:
        plain: Its flags could not be set yet (Linux before 5.12).
        nodev: MS_NODEV or 0.
        proc: It is of the machine's own /proc.
    """

    __slots__ = ("bind", "fd", "nodev", "plain", "proc")

    def __init__(self, bind: Bind, fd: int, plain: bool, nodev: int, proc: bool) -> None:
        self.bind = bind
        self.fd = fd
        self.plain = plain
        self.nodev = nodev
        self.proc = proc


def propagates(one: Bind | Tmpfs) -> bool:
    """Whether what is mounted on the host later is to show in the container."""
    return isinstance(one, Bind) and bool(one.propagation)


def is_ours(one: Bind | Tmpfs) -> bool:
    """Whether its files' ids are those inside, whatever user namespace the container has."""
    return isinstance(one, Bind) and one.shifted


def take(
    door: Kernel, binds: Sequence[Bind | Tmpfs], nodev: int = flags.MS_NODEV
) -> dict[Bind | Tmpfs, Tree]:
    """Copy each source's mount tree, nodev unless that is 0 and, where asked, read-only."""
    trees: dict[Bind | Tmpfs, Tree] = {}
    for bind in binds:
        if not isinstance(bind, Bind):
            continue
        fd = _open_source(door, bind)
        safe = 0 if bind.device_nodes else nodev
        attributes = flags.MOUNT_ATTR_NODEV if safe else 0
        if bind.readonly:
            attributes |= flags.MOUNT_ATTR_RDONLY
        propagation = flags.MS_SLAVE if bind.propagation == "slave" else 0
        plain = False
        try:
            door.mount_setattr(fd, attributes, propagation)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            plain = True
        proc = door.fstat(fd).st_dev == door.lstat(b"/proc").st_dev
        trees[bind] = Tree(bind, fd, plain, safe, proc)
    return trees


def _open_source(door: Kernel, bind: Bind) -> int:
    bits = _CLONE | (flags.AT_RECURSIVE if bind.recursive else 0)
    if not bind.subpath:
        return door.open_tree(bind.source, bits)
    above = door.open(bind.source, os.O_PATH | os.O_CLOEXEC)
    try:
        below = door.openat2(above, bind.subpath, os.O_PATH, _RESOLVE)
    except OSError as error:
        # A part of a path would not say of which volume.
        error.filename = os.path.join(bind.source, bind.subpath)
        raise
    fd = door.open_tree(b"", bits | flags.AT_EMPTY_PATH, below)
    door.close(below)
    door.close(above)
    return fd


def fill(door: Kernel, binds: Sequence[Bind | Tmpfs], merged: bytes, name: str) -> None:
    """Give empty volumes what the image has in their place, as long as nothing covers it.

    Args:
        merged: Where the image's tree is mounted.
        name: The container's id.
    """
    for bind in binds:
        if not isinstance(bind, Bind) or not bind.fill:
            continue
        root, path = merged, bind.target
        for other in binds:
            # The image's own, such as /usr of `host`: of what was asked for, the kind is known.
            if not isinstance(other, Bind) or other.directory is not None:
                continue
            if _is_below(path, other.target):
                root, path = other.source, path[len(other.target) :] or b"/"
        source = _open_content(door, root, path)
        if source >= 0:
            try:
                copy_up.fill(source, bind.source, name.encode())
            finally:
                door.close(source)


def _is_below(path: bytes, top: bytes) -> bool:
    return path == top or path.startswith(top + b"/")


def _open_content(door: Kernel, root: bytes, path: bytes) -> int:
    """The directory that the image has there, looked up inside it; -1 for none."""
    top = door.open(root, os.O_PATH | os.O_CLOEXEC)
    try:
        return door.openat2(top, path, _FOLDER, _RESOLVE)
    except (FileNotFoundError, NotADirectoryError):
        return -1
    finally:
        door.close(top)


def attach(door: Kernel, binds: Sequence[Bind | Tmpfs], trees: Mapping[Bind | Tmpfs, Tree]) -> None:
    """Put each at its target in the caller's root, in order, making targets that are missing."""
    readonly: list[int] = []
    proc = {door.lstat(b"/proc").st_dev}
    for one in binds:
        if isinstance(one, Tmpfs):
            fd = _attach_tmpfs(door, one, proc)
            if one.attributes & flags.MOUNT_ATTR_RDONLY:
                readonly.append(fd)
            else:
                door.close(fd)
            continue
        tree = trees[one]
        directory = stat.S_ISDIR(door.fstat(tree.fd).st_mode)
        try:
            target = open_target(door, one.target, directory)
        except OSError as error:
            if not one.optional or error.errno != errno.EROFS:
                raise
            door.close(tree.fd)
            continue
        if stat.S_ISDIR(door.fstat(target).st_mode) != directory:
            raise NotADirectoryError(errno.ENOTDIR, _MISMATCH, os.fsdecode(one.target))
        if tree.proc and directory and _path(target) == b"/proc":
            proc.add(door.fstat(tree.fd).st_dev)
        else:
            spare_proc(door, target, proc)
        door.move_mount(tree.fd, target, one.target)
        door.close(target)
        if tree.plain:
            _set_flags(door, tree)
        door.close(tree.fd)
    for fd in readonly:
        # As in Docker only now: places had to be made in it. By its descriptor: at its path, which
        # may lead through links, something else may have been mounted over it.
        path = b"/proc/self/fd/%d" % fd
        bits = mount_bits(door.statvfs(path).f_flag) | flags.MS_RDONLY
        door.mount(None, path, None, bits | flags.MS_REMOUNT | flags.MS_BIND, None)
        door.close(fd)


def spare_proc(door: Kernel, target: int, proc: set[int]) -> None:
    """Refuse to cover what we and others rely on when we read and write there.

    With a volume in its place a write to /proc/self would go where the volume's links lead, and
    what is to be hidden would not be (CVE-2019-19921, CVE-2023-27561, CVE-2025-52881).

    Raises:
        InitRefused: It is /proc, or in it.
    """
    if door.fstat(target).st_dev not in proc:
        return
    path = _path(target)
    if path in _HARMLESS_IN_PROC:
        return
    what = "not of type proc" if path == b"/proc" else "inside /proc"
    raise InitRefused(f'"{os.fsdecode(path)}" cannot be mounted because it is {what}', 0, 125)


def _path(fd: int) -> bytes:
    """Where it is in this root."""
    return os.readlink(b"/proc/self/fd/%d" % fd)


def _attach_tmpfs(door: Kernel, one: Tmpfs, proc: set[int]) -> int:
    """Returns its descriptor."""
    target, was_there = _open_target(door, one.target, True)
    spare_proc(door, target, proc)
    options = one.options
    if was_there and not any(option.startswith(b"mode=") for option in options):
        mode = stat.S_IMODE(door.fstat(target).st_mode)
        options = [b"mode=%o" % mode, *options]
    attributes = one.attributes & ~flags.MOUNT_ATTR_RDONLY
    fd = door.make_tmpfs(options, attributes | flags.MOUNT_ATTR_NODEV)
    door.move_mount(fd, target, one.target)
    door.close(target)
    return fd


def open_target(door: Kernel, path: bytes, directory: bool) -> int:
    """A descriptor of a place in the caller's root for a mount, which is made if it is missing."""
    return _open_target(door, path, directory)[0]


def _open_target(door: Kernel, path: bytes, directory: bool) -> tuple[int, bool]:
    """A descriptor of the target, and whether it was there."""
    try:
        return door.openat2(_HERE, path, os.O_PATH, _RESOLVE), True
    except FileNotFoundError:
        _make(door, path, directory)
        return door.openat2(_HERE, path, os.O_PATH, _RESOLVE), False


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
            try:
                if last and not directory:
                    door.mknod(name, stat.S_IFREG | 0o644, dir_fd=parent)
                else:
                    door.mkdir(name, 0o755, dir_fd=parent)
            except OSError as error:
                # A name alone would tell nobody which of them.
                code = error.errno or 0
                raise OSError(code, error.strerror, os.fsdecode(so_far)) from None
            below = door.openat2(_HERE, so_far, os.O_PATH, _RESOLVE)
        door.close(parent)
        parent = below
    door.close(parent)


def _set_flags(door: Kernel, tree: Tree) -> None:
    """What mount_setattr would have done, mount by mount, by the container's own mountinfo."""
    if tree.bind.propagation == "slave":
        door.mount(None, tree.bind.target, None, flags.MS_REC | flags.MS_SLAVE, None)
    added = tree.nodev | (flags.MS_RDONLY if tree.bind.readonly else 0)
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
