"""The first file system of the virtual machine: busybox, modules, and a script as /init.

The script loads the modules, mounts the host's file system over 9p, a pure cgroup v2 tree and a
tmpfs on /run, and hands over to a command of the host's own.
"""

from __future__ import annotations

import shlex
import stat
from pathlib import Path

from tests.vm.kernel import Unavailable

TAG = "host"  # of the 9p share
SHARE_TAG = "share"  # of the one that the guest may write to
SHARE = "/run/share"  # where that is in the guest
RESULTS = "/dev/ttyS1"

_READ_ONLY = """\
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro {tag} /host
"""
"""The root is the host's."""

# The overlay also remembers which names are not there, which 9p asks the host each time.
_WRITABLE = """\
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro {tag} /lower
mount -t tmpfs -o mode=755 none /upper
mkdir /upper/upper /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/upper,workdir=/upper/work none /host
mount -t ext4 -o ro,noload /dev/vdb /host/usr
mount -t ext4 -o prjquota /dev/vda /disk
for folder in {folders}; do
    mkdir -p "/host/$folder"
    mount --bind "/disk/$folder" "/host/$folder"
done
"""
"""The root is a tmpfs over the host's, with ext4 disks for some directories and for /usr."""

_INIT = """\
#!/bin/busybox sh
set -e
export PATH=/bin
/bin/busybox --install -s /bin
mount -t devtmpfs none /dev
{loads}
{root}mount -t proc none /host/proc
mount -t sysfs none /host/sys
mount -t cgroup2 none /host/sys/fs/cgroup
mount --move /dev /host/dev
mkdir -p /host/dev/pts /host/dev/shm
mount -t devpts -o mode=620,ptmxmode=666 none /host/dev/pts
mount -t tmpfs none /host/dev/shm
mount -t tmpfs -o mode=755 none /host/run
mkdir -p /host/run/tmp
{share}ip link set lo up
hostname machine
echo handing over
exec env -i {environment} switch_root /host /bin/sh -c {command}
"""


_SHARE = """\
mkdir -p /host{place}
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=none {tag} /host{place}
"""


def build(
    busybox: Path,
    modules: tuple[Path, ...],
    environment: dict[str, str],
    command: str,
    folders: tuple[str, ...] = (),
):
    """The archive, as bytes.

    Args:
        busybox: A statically linked one.
        modules: To load, in this order.
        environment: All that the command will have.
        command: What the guest's /bin/sh, which is the host's, runs as PID 1; when it returns the
            kernel panics, which ends the machine.
        folders: Directories that are on a disk, /dev/vda, in those of the same names. With any,
            the whole root can be written to but /usr, which is /dev/vdb, and the directory that is
            shared is at `SHARE`.

    Raises:
        Unavailable: busybox isn't there, or not static.
    """
    if not busybox.exists():
        raise Unavailable(f"no {busybox} (apt-get install busybox-static)")
    program = busybox.read_bytes()
    if b"/ld-linux" in program[:4096]:
        raise Unavailable(f"{busybox} isn't static (apt-get install busybox-static)")
    archive = Archive()
    for folder in ("bin", "dev", "disk", "host", "lower", "modules", "upper"):
        archive.folder(folder)
    archive.device("dev/console", 5, 1)
    archive.file("bin/busybox", program, 0o755)
    for module in modules:
        archive.file(f"modules/{module.name}", module.read_bytes())
    relative = " ".join(shlex.quote(folder.lstrip("/")) for folder in folders)
    script = _INIT.format(
        loads="\n".join(f"insmod /modules/{module.name}" for module in modules),
        root=(_WRITABLE if folders else _READ_ONLY).format(tag=TAG, folders=relative),
        share=_SHARE.format(tag=SHARE_TAG, place=SHARE) if folders else "",
        environment=" ".join(shlex.quote(f"{name}={text}") for name, text in environment.items()),
        command=shlex.quote(command),
    )
    archive.file("init", script.encode(), 0o755)
    return archive.finish()


class Archive:
    """A cpio archive in the "newc" format (cpio(5)): what the kernel unpacks into its rootfs."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._count = 0

    def folder(self, name: str) -> None:
        """Add a directory."""
        self._add(name, stat.S_IFDIR | 0o755)

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Add a regular file."""
        self._add(name, stat.S_IFREG | mode, data)

    def device(self, name: str, major: int, minor: int) -> None:
        """Add a character device."""
        self._add(name, stat.S_IFCHR | 0o600, device=(major, minor))

    def finish(self) -> bytes:
        """The whole archive."""
        self._add("TRAILER!!!", 0)
        return b"".join(self._parts)

    def _add(
        self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)
    ) -> None:
        self._count += 1
        encoded = name.encode() + b"\0"
        # ino, mode, uid, gid, nlink, mtime, size, device's own major and minor, rdev, name, check
        fields = (self._count, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._parts += [_padded(header + encoded), _padded(data)]


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
