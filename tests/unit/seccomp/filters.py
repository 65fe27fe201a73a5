"""Classic BPF worked through as the kernel does, and libseccomp's own programs to compare with."""

from __future__ import annotations

import ctypes
import functools
import os
import struct

import pytest

X86_64, X86, X32_BIT, AARCH64, ARM = 0xC000003E, 0x40000003, 0x40000000, 0xC00000B7, 0x40000028

LIBRARY = "libseccomp.so.2"


def answer(program: bytes, architecture: int, number: int, arguments=()) -> int:
    """What a program answers to a call (struct seccomp_data, seccomp(2)).

    Raises:
        IndexError: It jumps beyond its end, which the kernel would refuse.
    """
    words = _decoded(program)
    given = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, architecture, 0, *given)
    at = accumulator = 0
    memory = [0] * 16
    while True:
        code, true, false, value = words[at]
        at += 1
        if code == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif code == 0x06:
            return value
        elif code == 0x05:
            at += value
        elif code == 0x54:
            accumulator &= value
        elif code == 0x02:
            memory[value] = accumulator
        elif code == 0x60:
            accumulator = memory[value]
        else:
            holds = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[code]
            at += true if holds else false


@functools.lru_cache(8)
def _decoded(program: bytes) -> list[tuple[int, int, int, int]]:
    return list(struct.iter_unpack("=HBBI", program))


class _Comparison(ctypes.Structure):
    """struct scmp_arg_cmp of seccomp.h."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


OPERATORS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")


def by_libseccomp(default, architectures, rules):
    """Its program for (name, answer, ((index, operator, value, second), …)); None for rules that
    contradict each other, which it refuses."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        pytest.skip(f"needs {LIBRARY}")
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_rule_add_array.argtypes = (
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Comparison),
    )
    library.seccomp_arch_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
    library.seccomp_release.argtypes = (ctypes.c_void_p,)
    context = library.seccomp_init(default)
    try:
        for token in architectures:
            assert library.seccomp_arch_add(context, token) == 0
        for name, action, conditions in rules:
            values = [
                _Comparison(index, OPERATORS.index(operator) + 1, value, second)
                for index, operator, value, second in conditions
            ]
            number = library.seccomp_syscall_resolve_name(name.encode())
            array = (_Comparison * max(1, len(values)))(*values)
            if library.seccomp_rule_add_array(context, action, number, len(values), array):
                return None
        fd = os.memfd_create("program")
        try:
            assert library.seccomp_export_bpf(context, fd) == 0
            return os.pread(fd, 1 << 20, 0)
        finally:
            os.close(fd)
    finally:
        library.seccomp_release(context)
