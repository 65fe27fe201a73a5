"""A seccomp profile in Docker's format, read, and narrowed to one container on this machine.

    {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
     "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
     "flags": ["SECCOMP_FILTER_FLAG_LOG"],
     "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ALLOW", "args": […], "errnoRet": 38,
                   "includes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["amd64"], "minKernel": "4.8"},
                   "excludes": {…}}]}

What is not in the format is refused by name: a word that is misspelt would protect nobody.
"""

from __future__ import annotations

import errno as errors
import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

# SECCOMP_RET_* of seccomp(2).
KILL_PROCESS = 0x80000000
KILL_THREAD = 0x00000000
TRAP = 0x00030000
ERRNO = 0x00050000
TRACE = 0x7FF00000
LOG = 0x7FFC0000
ALLOW = 0x7FFF0000

_ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_ALLOW": ALLOW,
}
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0,  # who loads it has one thread
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
}
_DEFAULT_FLAGS = 4
_OPERATORS = (
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
)
_ARCHITECTURES = frozenset(
    f"SCMP_ARCH_{name}"
    for name in (
        *("X86", "X86_64", "X32", "ARM", "AARCH64", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL"),
        *("MIPSEL64", "MIPSEL64N32", "PPC", "PPC64", "PPC64LE", "S390", "S390X", "PARISC"),
        *("PARISC64", "RISCV64", "LOONGARCH64", "M68K", "SH", "SHEB"),
    )
)
_MACHINES = {"x86_64": ("SCMP_ARCH_X86_64", "amd64"), "aarch64": ("SCMP_ARCH_AARCH64", "arm64")}
_MOST_ERRNO = 4095
_MOST_ARGUMENTS = 6


class ProfileRefused(ValueError):
    """The profile can't be used; the text says which part of it, and why."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of one argument of a system call.

    Attributes:
        index: Which argument, from 0.
        operator: SCMP_CMP_*.
        value: What it is compared with; for MASKED_EQ the mask.
        second: For MASKED_EQ what the masked argument is compared with.
    """

    index: int
    operator: str
    value: int
    second: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """What is answered to some calls.

    Attributes:
        names: Of the calls.
        answer: SECCOMP_RET_* with its data.
        alternatives: Holds if all conditions of one of them do; none: it holds always.
    """

    names: tuple[str, ...]
    answer: int
    alternatives: tuple[tuple[Condition, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile for one container.

    Attributes:
        default: The answer to every call that no rule is for.
        architectures: SCMP_ARCH_* beside the machine's own.
        flags: SECCOMP_FILTER_FLAG_*.
        rules: Those that apply to it.
    """

    default: int
    architectures: tuple[str, ...]
    flags: int
    rules: tuple[Rule, ...]


def read(
    text: str, capabilities: Collection[str], machine: str = os.uname().machine, release: str = ""
) -> Profile | None:
    """Read a profile for a container that may have `capabilities`; None if it wants no filter.

    Args:
        text: JSON.
        capabilities: `CAP_…` names.
        machine: As uname(2) tells it.
        release: The kernel's; "" for the one that runs.

    Raises:
        ProfileRefused: It is no JSON, or says what can't be.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProfileRefused(f"Decoding seccomp profile failed: {error}") from error
    profile = _table(found, "the profile")
    _only(
        profile,
        "the profile",
        *("defaultAction", "defaultErrnoRet", "defaultErrno", "architectures", "archMap"),
        *("flags", "syscalls", "listenerPath", "listenerMetadata", "comment"),
    )
    syscalls = _list(profile, "syscalls", "the profile")
    if not profile.get("defaultAction") and not syscalls:
        return None  # as Docker reads {}
    if profile.get("listenerPath") or profile.get("listenerMetadata"):
        raise ProfileRefused(
            "seccomp profile: listenerPath is not supported: there is nobody to notify"
        )
    place = _Place(frozenset(capabilities), machine, release or os.uname().release)
    rules = [
        _rule(_table(entry, where), where)
        for number, entry in enumerate(syscalls)
        for where in (f"syscalls[{number}]",)
        if _applies(_table(entry, where), where, place)
    ]
    return Profile(
        _answer(profile, "defaultAction", "defaultErrno", "the profile"),
        _architectures(profile, machine),
        _flags(profile),
        tuple(rules),
    )


@dataclass(frozen=True, slots=True)
class _Place:
    capabilities: frozenset[str]
    machine: str
    release: str


def _applies(entry: Mapping[str, Any], where: str, place: _Place) -> bool:
    _only(
        entry,
        where,
        *("name", "names", "action", "errnoRet", "errno", "args", "comment"),
        *("includes", "excludes"),
    )
    included = entry.get("includes")
    if included and not all(_filters(included, f"{where}.includes", place, all)):
        return False
    excluded = entry.get("excludes")
    return not (excluded and any(_filters(excluded, f"{where}.excludes", place, any)))


def _filters(found: object, where: str, place: _Place, of_caps: Any) -> list[bool]:  # noqa: ANN401
    table = _table(found, where)
    _only(table, where, "caps", "arches", "minKernel")
    held = []
    if arches := _words(table, "arches", where):
        held.append(_MACHINES.get(place.machine, ("", ""))[1] in arches)
    if caps := _words(table, "caps", where):
        held.append(of_caps(name in place.capabilities for name in caps))
    if least := table.get("minKernel"):
        held.append(_version(place.release, where) >= _version(least, where))
    return held


def _version(text: object, where: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", text) if isinstance(text, str) else None
    if found is None:
        raise ProfileRefused(
            f'seccomp profile: {where}: invalid kernel version {text!r}: write it as "4.8"'
        )
    return int(found[1]), int(found[2])


def _rule(entry: Mapping[str, Any], where: str) -> Rule:
    names = _words(entry, "names", where)
    if name := entry.get("name"):
        if names:
            raise ProfileRefused(
                "both 'name' and 'names' are specified in the seccomp profile, "
                "use either 'name' or 'names'"
            )
        names = _words({"name": [name]}, "name", where)
    if not all(names):
        raise ProfileRefused(f"seccomp profile: {where}: empty string is not a valid syscall")
    conditions = [
        _condition(_table(found, f"{where}.args"), f"{where}.args")
        for found in _list(entry, "args", where)
    ]
    answer = _answer(entry, "action", "errno", where)
    indexes = [one.index for one in conditions]
    if len(set(indexes)) < len(indexes):
        # As runc does: several conditions for one argument are alternatives.
        return Rule(names, answer, tuple((one,) for one in conditions))
    return Rule(names, answer, (tuple(conditions),) if conditions else ())


def _condition(found: Mapping[str, Any], where: str) -> Condition:
    _only(found, where, "index", "value", "valueTwo", "op")
    index = _number(found, "index", where, _MOST_ARGUMENTS - 1)
    operator = found.get("op")
    if not isinstance(operator, str) or operator not in _OPERATORS:
        raise ProfileRefused(
            f"seccomp profile: {where}: invalid operator {operator!r}: use one of "
            + ", ".join(_OPERATORS)
        )
    most = 2**64 - 1
    value, second = _number(found, "value", where, most), _number(found, "valueTwo", where, most)
    return Condition(index, operator, value, second)


def _answer(found: Mapping[str, Any], action: str, errno: str, where: str) -> int:
    name = found.get(action)
    if name == "SCMP_ACT_NOTIFY":
        raise ProfileRefused(
            f"seccomp profile: {where}: SCMP_ACT_NOTIFY is not supported: "
            "there is nobody to notify; use SCMP_ACT_ERRNO or SCMP_ACT_ALLOW"
        )
    if not isinstance(name, str) or name not in _ACTIONS:
        raise ProfileRefused(
            f"seccomp profile: {where}: invalid {action} {name!r}: use one of "
            + ", ".join(_ACTIONS)
        )
    answer = _ACTIONS[name]
    code = errors.EPERM
    if found.get(f"{errno}Ret") is not None:
        code = _number(found, f"{errno}Ret", where, _MOST_ERRNO)
    elif name_of_errno := found.get(errno):  # as podman's profiles have it, beside the number
        code = next((one for one, name in errors.errorcode.items() if name == name_of_errno), 0)
        if not code:
            raise ProfileRefused(
                f"seccomp profile: {where}: {errno} {name_of_errno!r} is no errno's name"
            )
    return answer | code if answer in (ERRNO, TRACE) else answer


def _architectures(profile: Mapping[str, Any], machine: str) -> tuple[str, ...]:
    named = _words(profile, "architectures", "the profile")
    mapped = _list(profile, "archMap", "the profile")
    if named and mapped:
        raise ProfileRefused(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, "
            "use either 'architectures' or 'archMap'"
        )
    own = _MACHINES.get(machine, ("", ""))[0]
    for number, found in enumerate(mapped):
        where = f"archMap[{number}]"
        entry = _table(found, where)
        _only(entry, where, "architecture", "subArchitectures")
        below = _words(entry, "subArchitectures", where)
        _known((entry.get("architecture"), *below), where)
        if entry.get("architecture") == own:
            named = (*named, own, *below)
    _known(named, "architectures")
    return tuple(dict.fromkeys(name for name in named if name != own))


def _known(names: Collection[object], where: str) -> None:
    for name in names:
        if not isinstance(name, str) or name not in _ARCHITECTURES:
            raise ProfileRefused(f"seccomp profile: {where}: unknown architecture {name!r}")


def _flags(profile: Mapping[str, Any]) -> int:
    if profile.get("flags") is None:
        return _DEFAULT_FLAGS
    bits = 0
    for name in _words(profile, "flags", "the profile"):
        if name not in _FLAGS:
            raise ProfileRefused(
                f"seccomp profile: unknown flag {name!r}: use one of " + ", ".join(_FLAGS)
            )
        bits |= _FLAGS[name]
    return bits


def _only(found: Mapping[str, Any], where: str, *names: str) -> None:
    for name in found:
        if name not in names:
            raise ProfileRefused(f"seccomp profile: {where}: unknown field {name!r}")


def _table(found: object, where: str) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise ProfileRefused(f"Decoding seccomp profile failed: {where} is no object")
    return found


def _list(found: Mapping[str, Any], name: str, where: str) -> list[Any]:
    value = found.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise ProfileRefused(f"Decoding seccomp profile failed: {where}: {name} is no list")
    return value


def _words(found: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    words = _list(found, name, where)
    if not all(isinstance(word, str) for word in words):
        raise ProfileRefused(
            f"Decoding seccomp profile failed: {where}: {name} holds what is no text"
        )
    return tuple(words)


def _number(found: Mapping[str, Any], name: str, where: str, most: int) -> int:
    value = found.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ProfileRefused(
            f"seccomp profile: {where}: {name} is {value!r}: it must be a number from 0 to {most}"
        )
    return value
