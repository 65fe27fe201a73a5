"""A terminal of a container's own: made in its devpts, its master handed out over a socket.

The child makes it (pty(7)), as only inside the container's root /dev/pts is its own, and sends the
master by SCM_RIGHTS over the socket that it was given in place of stdout. Whoever holds the other
end may look at the message without taking it (MSG_PEEK, recv(2)): each look gives a descriptor, and
the message in the queue keeps the terminal alive meanwhile, whoever dies.
"""

from __future__ import annotations

# The C module: `socket` would cost each fork of the shim 10 %.
import _socket
import fcntl
import os
import stat
import struct
import sys

from runtime import flags
from runtime.errors import InitRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.kernel import Kernel

MESSAGE = b"terminal"
"""The text beside the descriptor."""

# asm-generic/ioctls.h; ioctl_tty(2).
_TIOCSCTTY, _TIOCSWINSZ, _TIOCGPTN, _TIOCNOTTY = 0x540E, 0x5414, 0x80045430, 0x5422
_TIOCSPTLCK, _TIOCGPTPEER = 0x40045431, 0x5441
_PTMX = os.makedev(5, 2)  # Documentation/admin-guide/devices.txt
_OPEN = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
_ANCILLARY_BYTES = _socket.CMSG_SPACE(4)
_MSG_CMSG_CLOEXEC = 0x40000000


def make(door: Kernel, size: tuple[int, int]) -> tuple[int, int, int]:
    """Make one in the /dev of this root; returns (master, slave, its number in /dev/pts).

    Args:
        size: Lines and columns; (0, 0) for a size that is not known yet.

    Raises:
        InitRefused: /dev/ptmx is not what it should be: a payload may have put anything there.
        OSError: No terminal is to be had.
    """
    # Non-blocking, should it be a fifo.
    master = door.open(b"/dev/ptmx", _OPEN | os.O_NONBLOCK)
    if not is_master(master):
        raise InitRefused("the container's /dev/ptmx is no terminal multiplexer", 0, 126)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    slave = fcntl.ioctl(master, _TIOCGPTPEER, _OPEN)
    (number,) = struct.unpack("i", fcntl.ioctl(master, _TIOCGPTN, bytes(4)))
    if size != (0, 0):
        resize(master, *size)
    return master, slave, number


def take_as_own(door: Kernel, slave: int) -> None:
    """Make it this session's terminal, and its stdin, stdout and stderr; `slave` is closed."""
    for fd in (0, 1, 2):
        door.dup2(slave, fd)
    door.close(slave)
    fcntl.ioctl(0, _TIOCSCTTY, 0)


def give_up() -> None:
    """Have no controlling terminal any more, as the first process of a session; its foreground
    processes get SIGHUP and SIGCONT (ioctl_tty(2))."""
    fcntl.ioctl(0, _TIOCNOTTY)


def take_control() -> None:
    """Make stdin, which is no session's, the terminal of this new session."""
    fcntl.ioctl(0, _TIOCSCTTY, 0)


def hand_out(socket_fd: int, master: int) -> None:
    """Send the master over a socket, whose descriptor stays the caller's."""
    channel = _socket.socket(fileno=socket_fd)
    try:
        right = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", master))
        channel.sendmsg([MESSAGE], [right])
    finally:
        channel.detach()


def look(socket_fd: int) -> int:
    """A descriptor of the master that was sent to this socket, where it stays. Never waits.

    Raises:
        BlockingIOError: It has not been sent yet.
        OSError: It never will be, or what was sent is none: EIO.
    """
    channel = _socket.socket(fileno=socket_fd)
    bits = _socket.MSG_PEEK | _socket.MSG_DONTWAIT | _MSG_CMSG_CLOEXEC
    try:
        text, ancillary, _, _ = channel.recvmsg(len(MESSAGE), _ANCILLARY_BYTES, bits)
    finally:
        channel.detach()
    found = [
        int.from_bytes(data[:4], sys.byteorder)
        for level, kind, data in ancillary
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS) and len(data) >= 4
    ]
    if text == MESSAGE and found and is_master(found[0]):
        return found[0]
    for fd in found:
        os.close(fd)
    raise OSError(5, "no terminal was handed out")


def is_master(fd: int) -> bool:
    """Whether it is the master of a terminal, and nothing that only looks like it."""
    status = os.fstat(fd)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == _PTMX


def resize(fd: int, height: int, width: int) -> None:
    """Set the size, in lines and columns; who runs there gets SIGWINCH.

    Raises:
        OSError: It is no terminal (any more).
    """
    fcntl.ioctl(fd, _TIOCSWINSZ, struct.pack("4H", height, width, 0, 0))


def reopen(door: Kernel, number: int) -> int:
    """The terminal that stdin is, opened anew by its name in /dev/pts; returns its descriptor.

    Raises:
        InitRefused: Something else has that name.
        OSError: None has, or a symbolic link.
    """
    path = b"/dev/pts/%d" % number
    bits = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK
    slave = door.openat2(flags.AT_FDCWD, path, bits, flags.RESOLVE_NO_SYMLINKS)
    if door.fstat(slave).st_rdev != door.fstat(0).st_rdev:
        raise InitRefused(f"the container's {os.fsdecode(path)} is not its terminal", 0, 126)
    os.set_blocking(slave, True)
    return slave


def bind_console(door: Kernel) -> None:
    """Show stdin as /dev/console too, as a container's first terminal. Before the payload runs.

    By descriptors: another container may share what is mounted on /dev, and change names meanwhile
    (CVE-2025-52565).
    """
    path = b"/dev/console"
    try:  # noqa: SIM105 - contextlib is dear to each fork
        door.mknod(path, stat.S_IFREG | 0o600)
    except FileExistsError:
        pass  # a device that it was given by that name, or what is in a bind of the machine's /dev
    bits = flags.OPEN_TREE_CLONE | flags.OPEN_TREE_CLOEXEC | flags.AT_EMPTY_PATH
    tree = door.open_tree(b"", bits, 0)
    place = door.openat2(flags.AT_FDCWD, path, os.O_PATH, flags.RESOLVE_NO_SYMLINKS)
    door.move_mount(tree, place, path)
    door.close(place)
    door.close(tree)
