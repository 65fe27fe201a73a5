"""A profile becomes a program in classic BPF for seccomp(2) (linux/filter.h, linux/seccomp.h).

libseccomp knows the calls' numbers; the program is ours. Its own has an instruction or two for each
call, and Linux works through the program once for each number when it is loaded (to know which are
always allowed). Ours has a search tree over *ranges* of numbers with the same answer, and is half
as long: a start is shorter by some 0.4 ms (docs/decisions.md).

    architecture? → number: a tree of ranges → an answer, or comparisons of arguments → an answer

What is as with runc and libseccomp:
- a number beyond the last one that the profile names is answered ENOSYS, unless the default allows:
  so a C library falls back from a call that is younger than the profile;
- another architecture than those named kills;
- the first rule without conditions decides alone; on 32 bits, the low halves are compared.
Where rules with conditions contradict each other, the strictest that holds decides (with libseccomp
that depends on their arguments' order).
"""

from __future__ import annotations

import errno
import itertools
import os
import struct
from dataclasses import dataclass

from runtime.seccomp import names
from runtime.seccomp.profile import (
    ALLOW,
    ERRNO,
    KILL_PROCESS,
    KILL_THREAD,
    LOG,
    TRACE,
    TRAP,
    Condition,
    Profile,
    ProfileRefused,
    Rule,
)

MOST_INSTRUCTIONS = 4096
"""BPF_MAXINSNS of linux/bpf_common.h."""

_LOAD, _RETURN, _JUMP, _EQUAL, _GREATER, _AT_LEAST, _AND = 0x20, 0x06, 0x05, 0x15, 0x25, 0x35, 0x54
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data, little-endian
_UNKNOWN = ERRNO | errno.ENOSYS
_ACTION = 0xFFFF0000
_STRICTEST_FIRST = (KILL_PROCESS, KILL_THREAD, TRAP, ERRNO, TRACE, LOG, ALLOW)
_PERMISSIVE = (ALLOW, LOG, TRACE)
_NATIVE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
_WIDE = ("SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64")

_OUT = (_JUMP, 0, 0, MOST_INSTRUCTIONS)  # to be filled in

Instructions = list[tuple[int, int, int, int]]

Alternatives = tuple[tuple[tuple[Condition, ...], int], ...]
"""Conditions with the answer where all hold, the first that does counts; the last has none."""

Range = tuple[int, Alternatives, bool]
"""The number where it begins, what is answered, and whether arguments have 64 bits."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A program that is ready to be loaded.

    Attributes:
        program: An array of struct sock_filter.
        flags: SECCOMP_FILTER_FLAG_*.
        forbidden: Which of execve and execveat no argument gets past it.
    """

    program: bytes
    flags: int
    forbidden: frozenset[str]


def assemble(profile: Profile, machine: str = os.uname().machine) -> Filter:
    """Make the program of a profile.

    Raises:
        LibraryMissing: There is no libseccomp.
        ProfileRefused: It is too long for the kernel.
    """
    native = _NATIVE[machine]
    known = [name for name in (native, *profile.architectures) if name in names.ARCHITECTURES]
    program: Instructions = [(_LOAD, 0, 0, _ARCHITECTURE_AT)]
    for name in dict.fromkeys(known):
        if name == "SCMP_ARCH_X32":
            if "SCMP_ARCH_X86_64" not in known:
                raise ProfileRefused(
                    "seccomp profile: SCMP_ARCH_X32 needs SCMP_ARCH_X86_64, whose numbers it shares"
                )
            continue  # with x86_64
        ranges = _ranges(profile, name)
        if name == "SCMP_ARCH_X86_64":
            ranges += _x32(profile, "SCMP_ARCH_X32" in known)
        body = [(_LOAD, 0, 0, _NUMBER_AT), *_tree(ranges)]
        program += [(_EQUAL, 1, 0, names.ARCHITECTURES[name]), (_JUMP, 0, 0, len(body)), *body]
    program.append((_RETURN, 0, 0, KILL_THREAD))
    if len(program) > MOST_INSTRUCTIONS:
        raise ProfileRefused(
            f"seccomp profile: it needs {len(program)} instructions, and the kernel takes "
            f"{MOST_INSTRUCTIONS}: use fewer rules with conditions, or fewer architectures"
        )
    table = _ranges(profile, native)
    forbidden = frozenset(
        name
        for name in ("execve", "execveat")
        if not _may_pass(_answer_to(names.numbers(name, native)[0], table))
    )
    packed = b"".join(struct.pack("=HBBI", *words) for words in program)
    return Filter(packed, profile.flags, forbidden)


def _may_pass(answers: Alternatives) -> bool:
    return any(answer & _ACTION in (ALLOW, LOG) for _, answer in answers)


def _answer_to(number: int, ranges: list[Range]) -> Alternatives:
    return [answers for start, answers, _ in ranges if start <= number][-1]


def _x32(profile: Profile, wanted: bool) -> list[Range]:
    """What follows on the numbers of x86_64: those with the bit of x32, or nothing allowed."""
    if wanted:
        above = _ranges(profile, "SCMP_ARCH_X32")
        first = _answer_to(names.X32_BIT, above)
        return [(names.X32_BIT, first, False), *(one for one in above if one[0] > names.X32_BIT)]
    # A tracer skips a call by the number -1: no call at all (seccomp(2)).
    none: Alternatives = (((), profile.default),)
    return [(names.X32_BIT, (((), KILL_THREAD),), False), (2**32 - 1, none, False)]


def _ranges(profile: Profile, architecture: str) -> list[Range]:
    """Where ranges of numbers begin that have the same answers, in order."""
    rules, last = _by_number(profile, architecture)
    default: Alternatives = (((), profile.default),)
    points = [(0, default)]
    for number in sorted(rules):
        points.append((number, _ordered(rules[number], profile.default)))
        points.append((number + 1, default))
    if profile.default & _ACTION not in _PERMISSIVE:
        points.append((last + 1, (((), _UNKNOWN),)))
    # The later of two that begin at the same number counts; what doesn't change goes.
    starts = sorted(dict(points).items())
    wide = architecture in _WIDE
    return [
        (start, answers, wide)
        for at, (start, answers) in enumerate(starts)
        if at == 0 or starts[at - 1][1] != answers
    ]


def _by_number(profile: Profile, architecture: str) -> tuple[dict[int, list[Rule]], int]:
    """Which rules are for each number, and the highest number that the profile names."""
    found: dict[int, list[Rule]] = {}
    last = -1
    for rule in profile.rules:
        for name in rule.names:
            number, part = names.numbers(name, architecture)
            last = max(last, number)
            if rule.answer == profile.default:
                continue  # it says nothing new, as with runc
            if number >= 0:
                found.setdefault(number, []).append(rule)
            if part is not None:
                # What a rule compares can't be seen in the arguments of socketcall and ipc: the
                # part is answered so whatever it is, as with libseccomp.
                kind, part = divmod(part, 100)
                whole = names.SOCKETCALL if kind == 1 else names.IPC
                first = Condition(0, "SCMP_CMP_EQ", part)
                found.setdefault(whole, []).append(Rule((name,), rule.answer, ((first,),)))
                last = max(last, whole)
    return found, last


def _ordered(rules: list[Rule], default: int) -> Alternatives:
    for rule in rules:
        if not rule.alternatives:
            return (((), rule.answer),)
    strictness = {action: at for at, action in enumerate(_STRICTEST_FIRST)}
    rules = sorted(rules, key=lambda rule: strictness[rule.answer & _ACTION])
    choices = [(conditions, rule.answer) for rule in rules for conditions in rule.alternatives]
    return (*dict.fromkeys(choices), ((), default))


def _tree(ranges: list[Range]) -> Instructions:
    """Find the range of the number that is loaded, by halving."""
    first, answers, wide = ranges[len(ranges) // 2]
    if len(ranges) == 1:
        return _choose(answers, wide)
    middle = len(ranges) // 2
    below, above = _tree(ranges[:middle]), _tree(ranges[middle:])
    return _branch(first, below, above)


def _choose(answers: Alternatives, wide: bool) -> Instructions:
    program: Instructions = []
    for (listed, answer), group in itertools.groupby(answers, _listed):
        if listed is None:
            for conditions, own in group:
                program += _where(conditions, wide, [(_RETURN, 0, 0, own)])
        else:
            values = [conditions[0] for conditions, _ in group]
            program += _among(listed, values, wide, answer)
    return program


def _listed(one: tuple[tuple[Condition, ...], int]) -> tuple[int | None, int]:
    """Which argument has to be of a list of small values alone, and the answer then."""
    conditions, answer = one
    if len(conditions) == 1 and conditions[0].value < 2**32:
        only = conditions[0]
        if only.operator == "SCMP_CMP_EQ" or (only.operator == "SCMP_CMP_LT" and only.value):
            return only.index, answer
    return None, 0


def _among(index: int, values: list[Condition], wide: bool, answer: int) -> Instructions:
    """An argument that is one of many values: a tree, as for numbers; else on behind it."""
    points: dict[int, bool] = {0: False}
    end = 0  # of what is inside
    for first, last in sorted(
        (0, one.value - 1) if one.operator == "SCMP_CMP_LT" else (one.value, one.value)
        for one in values
    ):
        if last < end:
            continue
        if first > end:
            points[end] = False
            points[first] = True
        elif end == 0:
            points[0] = True
        end = last + 1
    if end < 2**32:
        points[end] = False
    program = _halve(sorted(points.items()), answer)
    at = _ARGUMENTS_AT + 8 * index
    program.insert(0, (_LOAD, 0, 0, at))
    if wide:
        program[:0] = [(_LOAD, 0, 0, at + 4), (_EQUAL, 1, 0, 0), (_JUMP, 0, 0, len(program))]
    # What jumps to the end was left open.
    return [
        (_JUMP, 0, 0, len(program) - at - 1) if words == _OUT else words
        for at, words in enumerate(program)
    ]


def _halve(points: list[tuple[int, bool]], answer: int) -> Instructions:
    if len(points) == 1:
        return [(_RETURN, 0, 0, answer) if points[0][1] else _OUT]
    middle = len(points) // 2
    below, above = _halve(points[:middle], answer), _halve(points[middle:], answer)
    return _branch(points[middle][0], below, above)


def _branch(first: int, below: Instructions, above: Instructions) -> Instructions:
    """`above` if what is loaded is at least `first`."""
    if len(below) <= 255:
        return [(_AT_LEAST, len(below), 0, first), *below, *above]
    return [(_AT_LEAST, 0, 1, first), (_JUMP, 0, 0, len(below)), *below, *above]


def _where(conditions: tuple[Condition, ...], wide: bool, then: Instructions) -> Instructions:
    """`then` behind the comparisons; whatever fails goes on behind it."""
    program = then
    for one in reversed(conditions):
        program = _compare(one, wide, len(program)) + program
    return program


def _compare(one: Condition, wide: bool, over: int) -> Instructions:
    """Fall through where it holds, else jump over the next `over` instructions."""
    operator, value = one.operator, one.value
    mask = 2**64 - 1
    if operator == "SCMP_CMP_MASKED_EQ":
        operator, mask, value = "SCMP_CMP_EQ", value, one.second & value
    # Those that are the contrary of another.
    opposite = {
        "SCMP_CMP_NE": "SCMP_CMP_EQ",
        "SCMP_CMP_LT": "SCMP_CMP_GE",
        "SCMP_CMP_LE": "SCMP_CMP_GT",
    }
    test = opposite.get(operator, operator)
    low = _ARGUMENTS_AT + 8 * one.index
    halves = [(low, value & 0xFFFFFFFF, mask & 0xFFFFFFFF)]
    if wide and (mask >> 32 or value >> 32):
        halves.append((low + 4, value >> 32, mask >> 32))
    # How far behind the comparison's end it goes on.
    holds, fails = (over, 0) if operator in opposite else (0, over)
    program: Instructions = []
    for number, (at, wanted, bits) in enumerate(halves):
        behind = len(program)
        load: Instructions = [(_LOAD, 0, 0, at)]
        if bits != 0xFFFFFFFF:
            load.append((_AND, 0, 0, bits))
        if test == "SCMP_CMP_EQ":
            hold = 0 if number else holds
            checks = [(_EQUAL, hold, behind + fails, wanted)]
        elif number == 0:
            last = _GREATER if test == "SCMP_CMP_GT" else _AT_LEAST
            checks = [(last, holds, fails, wanted)]
        else:
            checks = [  # the low halves count where the high ones are equal
                (_GREATER, behind + holds + 1, 0, wanted),
                (_EQUAL, 0, behind + fails, wanted),
            ]
        program = load + checks + program
    return program
