"""ctypes declarations: each libc function and raw system call that mdocker uses, declared once.

The library is opened with `PyDLL`, which keeps the interpreter lock during a call. Two reasons: a
raw clone3 must not leave the child with a lock that another thread's state claims, and giving the
lock up and taking it again costs more than most of these calls. None of them blocks for long.

`syscall(2)` is declared once for each signature, because on x86_64 and aarch64 a variadic `long`
argument and a fixed one travel in the same registers, so the prototypes may name what they like.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import (
    POINTER,
    Structure,
    c_char_p,
    c_int,
    c_long,
    c_size_t,
    c_uint,
    c_uint64,
    c_ulong,
    c_ushort,
    c_void_p,
)

# From asm/unistd.h of each architecture. Calls born after 5.1 carry one number everywhere.
_NUMBERS = {
    "x86_64": {
        "pivot_root": 155,
        "capset": 126,
        "rt_sigaction": 13,
        "keyctl": 250,
        "seccomp": 317,
        "execveat": 322,
        "clone": 56,
        "bpf": 321,
    },
    "aarch64": {
        "pivot_root": 41,
        "capset": 91,
        "rt_sigaction": 134,
        "keyctl": 219,
        "seccomp": 277,
        "execveat": 281,
        "clone": 220,
        "bpf": 280,
    },
}
_COMMON_NUMBERS = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
}

MACHINE = os.uname().machine


def number(name: str) -> int:
    """The system call's number on this machine.

    Raises:
        NotImplementedError: the machine is neither x86_64 nor aarch64.
    """
    if MACHINE not in _NUMBERS:
        raise NotImplementedError(f"mdocker knows no system call numbers for {MACHINE}")
    return _COMMON_NUMBERS.get(name) or _NUMBERS[MACHINE][name]


class CloneArgs(Structure):
    """struct clone_args of linux/sched.h, the version of Linux 5.7 (88 bytes, has `cgroup`)."""

    _fields_ = tuple(
        (name, c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    )


class MountAttr(Structure):
    """struct mount_attr of linux/mount.h (32 bytes)."""

    _fields_ = tuple(
        (name, c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")
    )


class SockFprog(Structure):
    """struct sock_fprog of linux/filter.h."""

    _fields_ = (("len", c_ushort), ("filter", c_char_p))


class OpenHow(Structure):
    """struct open_how of linux/openat2.h (24 bytes)."""

    _fields_ = tuple((name, c_uint64) for name in ("flags", "mode", "resolve"))


_LIBC = ctypes.PyDLL(None, use_errno=True)


def _declare(symbol: str, result: type, *arguments: object) -> ctypes._NamedFuncPointer:
    # A fresh function object for every call: _LIBC["syscall"] is not cached, _LIBC.syscall is.
    function = _LIBC[symbol]
    function.restype = result
    function.argtypes = arguments  # type: ignore[assignment]  # typeshed wants concrete classes
    return function


mount = _declare("mount", c_int, c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
umount2 = _declare("umount2", c_int, c_char_p, c_int)
unshare = _declare("unshare", c_int, c_int)
setns = _declare("setns", c_int, c_int, c_int)
sethostname = _declare("sethostname", c_int, c_char_p, c_size_t)
setdomainname = _declare("setdomainname", c_int, c_char_p, c_size_t)
prctl = _declare("prctl", c_int, c_int, c_ulong, c_ulong, c_ulong, c_ulong)
setfsuid = _declare("setfsuid", c_int, c_uint)
setfsgid = _declare("setfsgid", c_int, c_uint)
prctl_text = _declare("prctl", c_int, c_int, c_char_p, c_ulong, c_ulong, c_ulong)
tee = _declare("tee", ctypes.c_ssize_t, c_int, c_int, c_size_t, c_uint)
clone = _declare("syscall", c_long, c_long, c_ulong, c_void_p, c_void_p, c_void_p, c_void_p)
clone3 = _declare("syscall", c_long, c_long, POINTER(CloneArgs), c_size_t)
close_range = _declare("syscall", c_long, c_long, c_uint, c_uint, c_uint)
open_tree = _declare("syscall", c_long, c_long, c_int, c_char_p, c_uint)
move_mount = _declare("syscall", c_long, c_long, c_int, c_char_p, c_int, c_char_p, c_uint)
mount_setattr = _declare(
    "syscall", c_long, c_long, c_int, c_char_p, c_uint, POINTER(MountAttr), c_size_t
)
fsopen = _declare("syscall", c_long, c_long, c_char_p, c_uint)
fsconfig = _declare("syscall", c_long, c_long, c_int, c_uint, c_char_p, c_char_p, c_int)
fsmount = _declare("syscall", c_long, c_long, c_int, c_uint, c_uint)
openat2 = _declare("syscall", c_long, c_long, c_int, c_char_p, POINTER(OpenHow), c_size_t)
pivot_root = _declare("syscall", c_long, c_long, c_char_p, c_char_p)
keyctl = _declare("syscall", c_long, c_long, c_int, c_long, c_ulong)
keyctl_text = _declare("syscall", c_long, c_long, c_int, c_char_p)
seccomp = _declare("syscall", c_long, c_long, c_uint, c_uint, POINTER(SockFprog))
bpf = _declare("syscall", c_long, c_long, c_int, c_char_p, c_uint)
capset = _declare("syscall", c_long, c_long, c_char_p, c_char_p)
mmap = _declare("mmap", c_void_p, c_void_p, c_size_t, c_int, c_int, c_int, c_long)
munmap = _declare("munmap", c_int, c_void_p, c_size_t)
pidfd_getfd = _declare("syscall", c_long, c_long, c_int, c_int, c_uint)
execveat = _declare(
    "syscall", c_long, c_long, c_int, c_char_p, POINTER(c_char_p), POINTER(c_char_p), c_int
)
rt_sigaction = _declare("syscall", c_long, c_long, c_int, c_char_p, c_char_p, c_size_t)
