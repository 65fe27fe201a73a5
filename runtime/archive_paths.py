"""Finding a path of a container, from inside its root.

Symbolic links are followed by the kernel, with the container's root as their end (openat2(2),
RESOLVE_IN_ROOT), and what was found is a descriptor, so it makes no difference who exchanges a
directory for a link meanwhile. The magic links of /proc are not followed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import posixpath
import stat

from runtime import flags
from runtime.archive_order import MISSING, REFUSED, Refused
from runtime.kernel import DOOR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_RESOLVE = flags.RESOLVE_IN_ROOT | flags.RESOLVE_NO_MAGICLINKS
_NOTHING = frozenset({errno.ENOENT, errno.ENXIO})
# ELOOP and EACCES: also what a magic link of /proc gives.
_WRONG = frozenset({errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENAMETOOLONG})
_MOST_LINKS = 255

# linux/magic.h: file systems whose files are the kernel's answers, not data.
_KERNELS_OWN = {
    0x9FA0: "proc",
    0x62656572: "sysfs",
    0x27E0EB: "cgroup",
    0x63677270: "cgroup2",
    0x1CD1: "devpts",
    0x19800202: "mqueue",
    0x64626720: "debugfs",
    0x74726163: "tracefs",
    0x73636673: "securityfs",
    0xCAFE4A11: "bpf",
}

# os.FileMode of Go: the permissions as everywhere, the rest in bits of its own.
_GO_KINDS = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_GO_BITS = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


def clean(path: bytes) -> bytes:
    """An absolute path without `.` and `..`, as Go's filepath.Clean has it.

    A slash or `/.` at its end stays: it says that a directory is meant.
    """
    tail = b""
    last = path.rpartition(b"/")[2]
    if last == b".":
        tail = b"/."
    elif not last:
        tail = b"/"
    cleaned = posixpath.normpath(b"/" + path.lstrip(b"/"))
    return b"/" + tail.lstrip(b"/") if cleaned == b"/" else cleaned + tail


class Found:
    """A path that is there.

    Attributes:
        path: It, cleaned.
        parent: Descriptor of the directory that it is in; of itself if it means a directory.
        name: Its name there; b"." if it means a directory.
        status: What it is; links are not followed, unless it says that a directory is meant.
    """

    __slots__ = ("name", "parent", "path", "status")

    def __init__(self, root: int, path: bytes) -> None:
        """Look for it.

        Raises:
            Refused: There is nothing, or no directory where one is meant.
            OSError: The kernel refuses.
        """
        self.path = clean(path)
        parent, _, self.name = self.path.rpartition(b"/")
        if self.name in (b"", b"."):
            self.name = b"."
            self.parent = open_directory(root, self.path)
        else:
            self.parent = open_directory(root, parent or b"/")
        try:
            self.status = os.stat(self.name, dir_fd=self.parent, follow_symlinks=False)
        except OSError as error:
            raise _refusal(self.path, error) from None
        if stat.S_ISDIR(self.status.st_mode) and self.name != b".":
            # From here on by its descriptor: nobody can put a link in its place any more.
            fd = open_directory(root, self.path + b"/")
            os.close(self.parent)
            self.parent, self.name = fd, b"."
            self.status = os.fstat(fd)

    @property
    def is_directory(self) -> bool:
        """Whether it is one, and `parent` its descriptor."""
        return self.name == b"."

    def told(self) -> dict[str, Any]:
        """Docker's stat of it (X-Docker-Container-Path-Stat), its mtime in ns."""
        status = self.status
        target = b""
        if stat.S_ISLNK(status.st_mode):
            target = final_target(self.path)
        return {
            "name": _text(_base(self.path)),
            "size": status.st_size,
            "mode": go_mode(status.st_mode),
            "mtime_ns": status.st_mtime_ns,
            "linkTarget": _text(target),
        }


def open_directory(root: int, path: bytes) -> int:
    """Open a directory; every link is followed, inside `root`.

    Raises:
        Refused: There is none.
        OSError: The kernel refuses.
    """
    try:
        return DOOR.openat2(root, path, os.O_RDONLY | os.O_DIRECTORY, _RESOLVE)
    except BlockingIOError:
        raise Refused(REFUSED, f"lstat {_text(path)}: it is renamed all the time") from None
    except OSError as error:
        raise _refusal(path, error) from None


def _refusal(path: bytes, error: OSError) -> Exception:
    if error.errno in _NOTHING:
        return Refused(MISSING, f"lstat {_text(path)}: no such file or directory")
    if error.errno in _WRONG:
        return Refused(REFUSED, f"lstat {_text(path)}: {os.strerror(error.errno).lower()}")
    return error


def kernels_own(fd: int) -> str:
    """What a file system is called whose files can't be copied; empty for an ordinary one."""
    buffer = ctypes.create_string_buffer(256)
    if _fstatfs(fd, buffer) < 0:
        return ""
    number = int.from_bytes(buffer.raw[: ctypes.sizeof(ctypes.c_long)], "little")
    return _KERNELS_OWN.get(number, "")


_fstatfs = ctypes.PyDLL(None, use_errno=True)["fstatfs"]
_fstatfs.argtypes = [ctypes.c_int, ctypes.c_char_p]


def target_of(path: bytes) -> bytes | None:
    """What a link leads to; None for what is no link, or nothing at all."""
    try:
        return os.readlink(path)
    except OSError:
        return None


def final_target(path: bytes, target: Callable[[bytes], bytes | None] = target_of) -> bytes:
    """Where a link leads in the end, as far as it can be followed; an absolute path.

    It is for people and for clients that ask again: nothing is opened by it.

    Args:
        target: What a path leads to; None for no link.

    Raises:
        Refused: It leads in circles.
    """
    todo = path.split(b"/")[::-1]
    done: list[bytes] = []
    followed = 0
    while todo:
        part = todo.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            del done[-1:]
            continue
        done.append(part)
        leads_to = target(b"/" + b"/".join(done))
        if leads_to is None:
            continue
        followed += 1
        if followed > _MOST_LINKS:
            raise Refused(REFUSED, f"lstat {_text(path)}: too many levels of symbolic links")
        done.pop()
        if leads_to.startswith(b"/"):
            done.clear()
        todo.extend(leads_to.split(b"/")[::-1])
    return b"/" + b"/".join(done)


def go_mode(mode: int) -> int:
    """A mode as Go's os.FileMode has it."""
    value = mode & 0o777 | _GO_KINDS.get(stat.S_IFMT(mode), 0)
    for bit, there in _GO_BITS:
        if mode & bit:
            value |= there
    return value


def _base(path: bytes) -> bytes:
    """The last part of a cleaned path, as Go's filepath.Base has it."""
    return path.rstrip(b"/").rpartition(b"/")[2] or b"/"


def archive_name(path: bytes) -> bytes:
    """What a cleaned path is called in an archive of it: "" for the root."""
    return b"" if not path.strip(b"/") else _base(path)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")
