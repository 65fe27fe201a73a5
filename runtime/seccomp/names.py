"""The numbers of system calls by libseccomp (seccomp_syscall_resolve_name_arch(3)).

Every architecture has other ones; the library knows them all, and needs no compiler: it is what
runc and crun are linked with, so any machine with one of them has it.
"""

from __future__ import annotations

import ctypes
import functools
import os

LIBRARY = "libseccomp.so.2"

ARCHITECTURES = {
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_ARM": 0x40000028,
}
"""libseccomp's tokens: those of linux/audit.h, but for x32, which the kernel tells by a bit of the
number."""

X32_BIT = 0x40000000

_UNKNOWN = -1

# Younger than some libseccomp that is in use. From 424 on every architecture has the same.
_YOUNG = {
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_getattr": 468,
    "file_setattr": 469,
}
_YOUNG_OF_X86_64 = {"uretprobe": 335, "uprobe": 336}

# What socketcall and ipc do got numbers of its own later (arch/x86/entry/syscalls/syscall_32.tbl).
_DIRECT_OF_X86 = {
    "socket": 359,
    "socketpair": 360,
    "bind": 361,
    "connect": 362,
    "listen": 363,
    "accept4": 364,
    "getsockopt": 365,
    "setsockopt": 366,
    "getsockname": 367,
    "getpeername": 368,
    "sendto": 369,
    "sendmsg": 370,
    "recvfrom": 371,
    "recvmsg": 372,
    "shutdown": 373,
    "recvmmsg": 337,
    "sendmmsg": 345,
    "semget": 393,
    "semctl": 394,
    "shmget": 395,
    "shmctl": 396,
    "shmat": 397,
    "shmdt": 398,
    "msgget": 399,
    "msgsnd": 400,
    "msgrcv": 401,
    "msgctl": 402,
}
SOCKETCALL, IPC = 102, 117
"""Their numbers on x86, which alone of our architectures has them."""


class LibraryMissing(Exception):
    """There is no libseccomp; the text says what to do."""


@functools.cache
def _resolve() -> ctypes._NamedFuncPointer:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        os.close(os.open(os.devnull, os.O_RDONLY))  # or it is for want of descriptors: EMFILE
        raise LibraryMissing(
            f"seccomp filters need {LIBRARY}, which is not installed: install it (Debian, Ubuntu: "
            "libseccomp2; Fedora, Alpine, Arch: libseccomp), or run the container without a filter "
            "(--security-opt seccomp=unconfined)"
        ) from error
    function = library.seccomp_syscall_resolve_name_arch
    function.argtypes = (ctypes.c_uint32, ctypes.c_char_p)
    function.restype = ctypes.c_int
    return function


def check() -> None:
    """Be sure that the library is there.

    Raises:
        LibraryMissing: It is not.
        OSError: No descriptor to find it out with.
    """
    _resolve()


def numbers(name: str, architecture: str) -> tuple[int, int | None]:
    """The call's number, and what part of the multiplexing call socketcall or ipc it is.

    -1 for a call that the architecture has not, or that nobody knows. The second is 100 and the
    part's number for socketcall(2), 200 and that for ipc(2); None for calls that are in neither.

    Raises:
        LibraryMissing: There is no library to ask.
    """
    if not name.isascii() or "\0" in name:
        return _UNKNOWN, None  # nothing that C can spell
    number: int = _resolve()(ARCHITECTURES[architecture], name.encode())
    if architecture == "SCMP_ARCH_X86" and -300 < number <= -100:
        return _DIRECT_OF_X86.get(name, _UNKNOWN), -number
    if number == _UNKNOWN:
        number = _YOUNG.get(name, _UNKNOWN)
        if architecture == "SCMP_ARCH_X86_64":
            number = _YOUNG_OF_X86_64.get(name, number)
        if number >= 0 and architecture == "SCMP_ARCH_X32":
            number |= X32_BIT
    return max(number, _UNKNOWN), None
