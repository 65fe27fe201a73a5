"""Ulimits: limits of each process's own, by Docker's names (getrlimit(2)). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from runtime.errors import RuntimeRefused
from runtime.spec import Rlimit

NUMBERS = {
    "core": 4,
    "cpu": 0,
    "data": 2,
    "fsize": 1,
    "locks": 10,
    "memlock": 8,
    "msgqueue": 12,
    "nice": 13,
    "nofile": 7,
    "nproc": 6,
    "rss": 5,
    "rtprio": 14,
    "rttime": 15,
    "sigpending": 11,
    "stack": 3,
}
"""The kernel's numbers (asm-generic/resource.h)."""

_LARGEST = 2**63 - 1


class UlimitRefused(RuntimeRefused):
    """It is none; the text says why, in Docker's words where it has some."""


def checked(name: str, soft: int, hard: int) -> Rlimit:
    """Return a limit that was asked for; -1 is none.

    Raises:
        UlimitRefused: There is no such limit, or it contradicts itself.
    """
    if name not in NUMBERS:
        raise UlimitRefused(f"invalid ulimit type: {name[:64]}; there are {', '.join(NUMBERS)}")
    if not -1 <= soft <= _LARGEST or not -1 <= hard <= _LARGEST:
        raise UlimitRefused(f"invalid ulimit {name}={soft}:{hard}: -1 is no limit, none is below")
    if hard != -1 and (soft == -1 or soft > hard):
        shown = "-1 (unlimited)" if soft == -1 else str(soft)
        raise UlimitRefused(
            f"ulimit soft limit must be less than or equal to hard limit: {name}: {shown} > {hard}"
        )
    return Rlimit(name, NUMBERS[name], soft, hard)


def read(text: str) -> Rlimit:
    """Read `name=soft[:hard]`, as people type it.

    Raises:
        UlimitRefused: It is none.
    """
    name, equals, limits = text.partition("=")
    soft, colon, hard = limits.partition(":")
    try:
        numbers = int(soft), int(hard) if colon else int(soft)
    except ValueError:
        numbers = None
    if not equals or numbers is None:
        raise UlimitRefused(f"invalid ulimit argument: {text[:64]}; it is NAME=SOFT[:HARD]")
    return checked(name, *numbers)


def read_all(texts: Iterable[str]) -> tuple[Rlimit, ...]:
    """Read several; what is said twice counts as it was said last.

    Raises:
        UlimitRefused: One is none.
    """
    return tuple({one.name: one for one in map(read, texts)}.values())


def written(limit: Rlimit) -> str:
    """What `read` reads."""
    return f"{limit.name}={limit.soft}:{limit.hard}"


def with_defaults(own: tuple[Rlimit, ...], defaults: tuple[Rlimit, ...]) -> tuple[Rlimit, ...]:
    """A container's, and of the engine's those that it says nothing of."""
    said = {one.name for one in own}
    return own + tuple(one for one in defaults if one.name not in said)
