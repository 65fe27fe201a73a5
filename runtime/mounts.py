"""The container's file systems as a pure list, and the hands that mount them.

What keeps a container with CAP_MKNOD from the machine's disks is `nodev`, beside the engine's
device program (`runtime.device_cgroup`): the overlay, every tmpfs and every bind is mounted nodev,
and the few devices in /dev are binds of the host's nodes. With devices of its own
(`runtime.devices`) it is the program alone. The binds of nodes are read-only, which leaves reading
and writing the device alone but keeps the container's root from changing the host's node (chmod,
chown).
"""

from __future__ import annotations

import errno
import os
import stat

from runtime import flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runtime.kernel import Kernel

    Mount = tuple[bytes | None, bytes, bytes | None, int, bytes | None]

SAFE = flags.MS_NOSUID | flags.MS_NODEV | flags.MS_NOEXEC
_REMOUNT_READONLY = flags.MS_REMOUNT | flags.MS_BIND | flags.MS_RDONLY

DEVICES = (b"null", b"zero", b"full", b"random", b"urandom", b"tty")
DEV_DIRECTORIES = (b"pts", b"shm", b"mqueue")
DEV_LINKS = (
    (b"/proc/self/fd", b"fd"),
    (b"/proc/self/fd/0", b"stdin"),
    (b"/proc/self/fd/1", b"stdout"),
    (b"/proc/self/fd/2", b"stderr"),
    (b"/proc/kcore", b"core"),
    (b"pts/ptmx", b"ptmx"),
)

VOLATILE_MARK = b"/work/incompat/volatile"
"""What overlayfs leaves in its work directory to forbid a second volatile mount."""

# mount(2) takes one page of options.
OPTIONS_BYTES = 4095


def escape(path: bytes) -> bytes:
    """A path as overlayfs wants it among its options (colon separates layers, comma options)."""
    return path.replace(b"\\", b"\\\\").replace(b":", b"\\:").replace(b",", b"\\,")


def overlay_options(
    lower: Sequence[bytes], upper: bytes = b"", work: bytes = b"", volatile: bool = False
) -> bytes:
    """overlayfs's options, whatever their length; without an upper directory nobody can write."""
    options = b"lowerdir=" + b":".join(escape(layer) for layer in lower)
    if upper:
        # Only lowerdir is a list, so only there a colon needs its backslash.
        upper, work = (path.replace(b"\\", b"\\\\").replace(b",", b"\\,") for path in (upper, work))
        options += b",upperdir=%b,workdir=%b" % (upper, work)
    return options + b",volatile" if volatile else options


def fitting_options(
    lower: Sequence[bytes], upper: bytes = b"", work: bytes = b"", volatile: bool = False
) -> tuple[bytes, bytes]:
    """overlayfs's options, with the directory that they are to be given in; b"" for any.

    overlayfs looks paths up as any program does, so many layers are named from the directory that
    most of them are in: the images' short names are made for it (`runtime.images.short_names`).

    Raises:
        OSError: E2BIG, they don't fit even so.
    """
    options = overlay_options(lower, upper, work, volatile)
    if len(options) <= OPTIONS_BYTES:
        return b"", options
    directory, names = _called_inside(lower)
    options = overlay_options(names, upper, work, volatile)
    if len(options) > OPTIONS_BYTES:
        words = "the names of its layers do not fit one page, and the kernel takes no more"
        raise OSError(errno.E2BIG, words, f"{len(lower)} layers")
    return directory, options


def _called_inside(paths: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
    """The directory that most of the paths are in, and what they are called there."""
    count: dict[bytes, int] = {}
    for path in paths:
        directory = path[: path.rfind(b"/") + 1]
        count[directory] = count.get(directory, 0) + 1
    most = max(count, key=count.__getitem__)
    return most, [path.removeprefix(most) for path in paths]


def mount_overlay(
    door: Kernel,
    merged: bytes,
    lower: Sequence[bytes],
    upper: bytes,
    work: bytes,
    volatile: bool,
    nodev: int = flags.MS_NODEV,
) -> None:
    """Mount the root. It may change the working directory.

    Args:
        nodev: MS_NODEV, or 0 where device nodes in it may be opened.

    A volatile upper leaves a mark behind that forbids a second mount (overlayfs can't know whether
    the data survived); a container never outlives the machine's boot, so the mark is dropped.

    Raises:
        OSError: The kernel refuses; E2BIG as `fitting_options`.
    """
    directory, options = fitting_options(lower, upper, work, volatile)
    if volatile:
        _drop_mark(door, work + VOLATILE_MARK)
    if directory:
        door.chdir(directory)
    door.mount(b"overlay", merged, b"overlay", nodev, options)


def _drop_mark(door: Kernel, mark: bytes) -> None:
    try:
        door.unlink(mark + b"/dirty")
        door.rmdir(mark)
    except FileNotFoundError:
        return  # the first mount


def early_mounts(merged: bytes, shm_size: int, writable_system: bool = False) -> list[Mount]:
    """What is mounted in the new root before it becomes the root, in order, after the overlay."""
    sys_bits = SAFE if writable_system else SAFE | flags.MS_RDONLY
    dev = merged + b"/dev"
    # The machine has 3072 for all containers (pty(7): kernel.pty.max, less what it reserves).
    pts = b"newinstance,max=512,ptmxmode=0666,mode=0620,gid=5"
    return [
        (b"proc", merged + b"/proc", b"proc", SAFE, None),
        (b"sysfs", merged + b"/sys", b"sysfs", sys_bits, None),
        (b"tmpfs", dev, b"tmpfs", flags.MS_NOSUID | flags.MS_NODEV, b"mode=755,size=65536k"),
        (b"devpts", dev + b"/pts", b"devpts", flags.MS_NOSUID | flags.MS_NOEXEC, pts),
        (b"shm", dev + b"/shm", b"tmpfs", SAFE, b"mode=1777,size=%d" % shm_size),
        (b"mqueue", dev + b"/mqueue", b"mqueue", SAFE, None),
    ]


def device_mounts(merged: bytes) -> list[Mount]:
    """Binds of the host's device nodes, each made read-only by a second call."""
    mounts: list[Mount] = []
    for name in DEVICES:
        target = merged + b"/dev/" + name
        mounts.append((b"/dev/" + name, target, None, flags.MS_BIND, None))
        bits = _REMOUNT_READONLY | flags.MS_NOSUID | flags.MS_NOEXEC
        mounts.append((None, target, None, bits, None))
    return mounts


def cgroup_mounts(
    merged: bytes, joins: Sequence[bytes], writable: bool = False, depth: int = 2
) -> tuple[list[bytes], list[Mount]]:
    """Directories to make and mounts for /sys/fs/cgroup: only what is its own, and read-only if it
    is not to be `writable`.

    Without v1 directories that is the v2 tree as the cgroup namespace shows it. With them it looks
    like a hybrid machine: a tmpfs with `unified` and a directory for each limited v1 tree.
    """
    top = merged + b"/sys/fs/cgroup"
    bits = SAFE if writable else SAFE | flags.MS_RDONLY
    if not joins:
        return [], [(b"cgroup2", top, b"cgroup2", bits, None)]
    made = [top + b"/unified"]
    mounts: list[Mount] = [(b"cgroup2", made[0], b"cgroup2", bits, None)]
    again = flags.MS_REMOUNT | flags.MS_BIND | bits
    for directory in joins:
        # <mount point of the tree>/<parent>/<id>, of which the parent can have several names
        target = top + b"/" + directory.split(b"/")[-1 - depth]
        made.append(target)
        mounts.append((directory, target, None, flags.MS_BIND, None))
        mounts.append((None, target, None, again, None))
    if not writable:
        mounts.append((None, top, None, _REMOUNT_READONLY | SAFE, None))
    return made, mounts


def make_mount_points(door: Kernel, merged: bytes) -> None:
    """See that /proc, /sys and /dev are real directories; a link there could lead anywhere.

    Raises:
        NotADirectoryError: an image has something else in their place.
    """
    for name in (b"/proc", b"/sys", b"/dev"):
        path = merged + name
        try:
            mode = door.lstat(path).st_mode
        except FileNotFoundError:
            door.mkdir(path, 0o755)
            continue
        if not stat.S_ISDIR(mode):
            what = os.strerror(errno.ENOTDIR) + " in the image"
            raise NotADirectoryError(errno.ENOTDIR, what, os.fsdecode(name))


def fill_dev(door: Kernel, dev: bytes) -> None:
    """The ordinary contents of a fresh /dev: directories, mount points for nodes, links."""
    for name in DEV_DIRECTORIES:
        door.mkdir(dev + b"/" + name, 0o755)
    for name in DEVICES:
        door.mknod(dev + b"/" + name, stat.S_IFREG | 0o666)
    for target, name in DEV_LINKS:
        door.symlink(target, dev + b"/" + name)


def make_readonly(door: Kernel, paths: Iterable[bytes]) -> None:
    """Bind each path that exists over itself, read-only, keeping its mount's other flags."""
    for path in paths:
        code = door.try_mount(path, path, None, flags.MS_BIND | flags.MS_REC, None)
        if code == errno.ENOENT:
            continue
        if code:
            raise OSError(code, os.strerror(code), os.fsdecode(path))
        bits = mount_bits(door.statvfs(path).f_flag) | _REMOUNT_READONLY
        door.mount(None, path, None, bits, None)


def mask(door: Kernel, paths: Iterable[bytes], null: bytes) -> None:
    """Hide each path that exists: a file behind /dev/null, a directory behind an empty one.

    `null` names the /dev/null that was there before any volume could cover it: one that leads
    elsewhere would show there what it names, with all that root may do (CVE-2025-31133).

    The first directory gets a read-only tmpfs; the others get a bind of it, which is cheaper and
    inherits the flag, as the binds of the read-only /dev/null do.
    """
    empty: bytes | None = None
    for path in paths:
        code = door.try_mount(null, path, None, flags.MS_BIND, None)
        if code == errno.ENOTDIR:
            if empty is None:
                code = door.try_mount(b"tmpfs", path, b"tmpfs", SAFE | flags.MS_RDONLY, b"size=4k")
                empty = path
            else:
                code = door.try_mount(empty, path, None, flags.MS_BIND, None)
        if code not in (0, errno.ENOENT):
            raise OSError(code, os.strerror(code), os.fsdecode(path))


def mount_bits(statvfs_flags: int) -> int:
    """A mount's flags as mount(2) takes them, from statvfs(3)'s f_flag."""
    bits = 0
    for seen, given in flags.ST_TO_MS:
        if statvfs_flags & seen:
            bits |= given
    return bits
