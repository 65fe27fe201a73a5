"""Device rules as a BPF program of the type CGROUP_DEVICE, and the calls that load and attach it.

The program is asked at each open and mknod of a device, with struct bpf_cgroup_dev_ctx
(linux/bpf.h) as its context; 1 lets the caller go on, 0 is EPERM. The instructions are those of
Documentation/bpf/standardization/instruction-set.rst.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
from collections.abc import Iterable

from runtime import libc
from runtime.device_rules import Rule, merged

# Opcodes: class, source and operation (instruction-set.rst).
_LOAD_WORD = 0x61  # dst = *(u32 *)(src + offset)
_MOVE, _COPY = 0xB7, 0xBF  # dst = immediate; dst = src
_AND, _SHIFT_RIGHT = 0x57, 0x77
_UNLESS_EQUAL = 0x55  # jump by offset if dst != immediate
_EXIT = 0x95

_RESULT, _CONTEXT, _KIND, _ACCESS, _MAJOR, _MINOR, _SCRATCH = 0, 1, 2, 3, 4, 5, 6

# linux/bpf.h: BPF_DEVCG_DEV_*, BPF_DEVCG_ACC_*.
_KINDS = {"b": 1, "c": 2}
_ACCESSES = {"m": 1, "r": 2, "w": 4}
_EVERY_ACCESS = 7

# linux/bpf.h: enum bpf_cmd, bpf_prog_type, bpf_attach_type.
_PROG_LOAD, _PROG_ATTACH = 5, 8
_PROG_TYPE_CGROUP_DEVICE, _CGROUP_DEVICE = 15, 6
ALLOW_OVERRIDE, ALLOW_MULTI = 1, 2
"""BPF_F_ALLOW_*: a program attached below takes the place of this one; both are asked."""

_NAME = b"mdocker_devices"
_ATTRIBUTES = 120
"""Bytes of union bpf_attr that we give; more than a kernel knows is taken if it is zero."""

_NR_BPF = libc.number("bpf")


def assemble(rules: Iterable[Rule]) -> bytes:
    """Return a program that lets through what one of the rules allows."""
    return _assembled(tuple(merged(rules)))


@functools.lru_cache(maxsize=64)
def _assembled(own: tuple[Rule, ...]) -> bytes:
    if any(rule.covers_all for rule in own):
        return _verdict(1)  # the kernel refuses a program with parts that are never reached
    parts = [
        _instruction(_LOAD_WORD, _KIND, _CONTEXT, 0),
        _instruction(_COPY, _ACCESS, _KIND),
        _instruction(_SHIFT_RIGHT, _ACCESS, immediate=16),
        _instruction(_AND, _KIND, immediate=0xFFFF),
        _instruction(_LOAD_WORD, _MAJOR, _CONTEXT, 4),
        _instruction(_LOAD_WORD, _MINOR, _CONTEXT, 8),
    ]
    parts += [_rule(rule) for rule in own]
    return b"".join([*parts, _verdict(0)])


def _verdict(value: int) -> bytes:
    return _instruction(_MOVE, _RESULT, immediate=value) + _instruction(_EXIT)


def _rule(rule: Rule) -> bytes:
    """Tests, each of which jumps behind the verdict of this rule unless it holds."""
    tests: list[tuple[bytes, int, int]] = []
    if rule.kind in _KINDS:
        tests.append((b"", _KIND, _KINDS[rule.kind]))
    denied = _EVERY_ACCESS & ~sum(_ACCESSES[letter] for letter in rule.access)
    if denied:
        asked = _instruction(_COPY, _SCRATCH, _ACCESS)
        tests.append((asked + _instruction(_AND, _SCRATCH, immediate=denied), _SCRATCH, 0))
    for register, number in ((_MAJOR, rule.major), (_MINOR, rule.minor)):
        if number is not None:
            tests.append((b"", register, number))
    packed = _verdict(1)
    for before, register, value in reversed(tests):
        behind = len(packed) // 8
        packed = before + _instruction(_UNLESS_EQUAL, register, 0, behind, value) + packed
    return packed


def _instruction(
    opcode: int, destination: int = 0, source: int = 0, offset: int = 0, immediate: int = 0
) -> bytes:
    """struct bpf_insn."""
    return struct.pack("=BBhi", opcode, source << 4 | destination, offset, immediate)


def load(program: bytes) -> int:
    """Have the kernel check and translate a program; returns its descriptor.

    Raises:
        OSError: EPERM without CAP_SYS_ADMIN (or CAP_BPF and CAP_NET_ADMIN), or where a policy
            forbids it; EINVAL, ENOSYS where the kernel has no such programs.
    """
    instructions = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"")
    attributes = struct.pack(
        "=2I2Q2IQ2I16s",
        _PROG_TYPE_CGROUP_DEVICE,
        len(program) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(licence),
        *(0, 0, 0, 0, 0),  # no log, any kernel, no flags
        _NAME,
    )
    return _bpf(_PROG_LOAD, attributes)


def attach(program_fd: int, directory: str, bits: int) -> None:
    """Have a v2 cgroup ask a program, as long as the cgroup is there.

    Args:
        bits: ALLOW_OVERRIDE or ALLOW_MULTI.

    Raises:
        OSError: EPERM where a cgroup above forbids programs below it.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _bpf(_PROG_ATTACH, struct.pack("=4I", fd, program_fd, _CGROUP_DEVICE, bits))
    finally:
        os.close(fd)


def _bpf(command: int, attributes: bytes) -> int:
    """bpf(2)."""
    memory = ctypes.create_string_buffer(attributes, _ATTRIBUTES)
    result: int = libc.bpf(_NR_BPF, command, memory, _ATTRIBUTES)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "bpf(2)")
    return result
