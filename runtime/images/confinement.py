"""What the unpacking child gives up before it reads a byte that a stranger wrote."""

from __future__ import annotations

import ctypes
import os
import resource
import select
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# capabilities(7)
_CHOWN, _DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER, _FSETID, _MKNOD, _SETFCAP = 0, 1, 2, 3, 4, 27, 31
MAKING = (_CHOWN, _DAC_OVERRIDE, _FOWNER, _FSETID, _MKNOD, _SETFCAP)
"""Just what makes files of any owner, mode and kind."""
READING = (_DAC_READ_SEARCH, _FOWNER)
"""Just what reads all files and leaves no trace in their times."""

_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
# A hostile archive can ask a decompressor or a header for gigabytes; a real one never does.
_ADDRESS_SPACE = 2 << 30


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


def die_with_reader(fd: int) -> None:
    """Ends this process as soon as nobody has the read end of the pipe `fd` any more.

    A pipe's write end then polls as POLLERR (poll(2)). That says what PR_SET_PDEATHSIG says, but
    of the engine and not of the one thread that started us, which may be a short-lived worker.
    """

    def watch() -> None:
        poller = select.poll()
        poller.register(fd, 0)
        poller.poll()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def confine(root: str, kept: Iterable[int] = MAKING) -> None:
    """Makes `root` this process's /, and drops all capabilities but those that are `kept`.

    CAP_SYS_CHROOT and CAP_SYS_ADMIN are among them, so there is no way back (chroot(2), NOTES).
    Nothing can be imported from then on: by the names on sys.path it would find what a stranger has
    put there. Threads must be started after, since capabilities are each thread's own.

    Raises:
        OSError: Not root, or the directory is gone.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    os.umask(0)
    sys.meta_path.clear()
    os.chroot(root)
    os.chdir("/")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _keep_capabilities(kept)


def _keep_capabilities(kept: Iterable[int]) -> None:
    mask = sum(1 << number for number in kept)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = (_Data * 2)(_Data(low, low, 0), _Data(high, high, 0))
    header = _Header(_CAPABILITY_VERSION_3, 0)
    if _libc.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        raise _failure("capset")


def _prctl(option: int, argument: int) -> None:
    zero = ctypes.c_ulong(0)
    if _libc.prctl(option, ctypes.c_ulong(argument), zero, zero, zero) != 0:
        raise _failure("prctl")


def _failure(call: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}")


_libc = ctypes.CDLL(None, use_errno=True)
