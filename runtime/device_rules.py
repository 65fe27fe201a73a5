"""Which devices a container may open: rules, in the kernel's terms. Pure.

A container may do what any one of its rules says, and nothing else; nobody can take away what the
ordinary ones give.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_RULE = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})")
ACCESSES = "rwm"
HIGHEST = 2**31 - 1
"""What programs compare; devices have numbers of 12 and 20 bits (include/linux/kdev_t.h)."""


class Rule(NamedTuple):
    """What may be done with some devices.

    Attributes:
        kind: "c" for character devices, "b" for block devices, "a" for both.
        major: None for all.
        minor: None for all.
        access: Any of "r", "w" and "m" (mknod), each once, in this order.
    """

    kind: str
    major: int | None
    minor: int | None
    access: str

    @property
    def covers_all(self) -> bool:
        """It leaves nothing to be asked."""
        return self == EVERYTHING[0]

    def text(self) -> str:
        """As v1's devices.allow takes it, for one kind."""
        major, minor = ("*" if number is None else number for number in (self.major, self.minor))
        return f"{self.kind} {major}:{minor} {self.access}"


EVERYTHING = (Rule("a", None, None, ACCESSES),)
"""The rules of a container that nothing is kept from."""

ORDINARY = (
    # A node alone opens nothing. As runc and Docker have it.
    Rule("c", None, None, "m"),
    Rule("b", None, None, "m"),
    *(Rule("c", 1, minor, ACCESSES) for minor in (3, 5, 7, 8, 9)),  # null zero full random urandom
    Rule("c", 5, 0, ACCESSES),  # tty
    Rule("c", 5, 2, ACCESSES),  # ptmx, of its own devpts
    Rule("c", 136, None, ACCESSES),  # pts: no devpts but its own has any (devpts.rst)
)
"""What every container may open. Docker adds 5:1, the machine's console; we don't."""


def parse(text: str) -> Rule:
    """Read a rule as `--device-cgroup-rule` has it, such as "c 13:* rwm".

    Raises:
        ValueError: It is none.
    """
    # Docker's pattern, for the whole text.
    match = _RULE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    kind, *numbers, access = match.groups()
    major, minor = (None if word == "*" else int(word) for word in numbers)
    return Rule(kind, major, minor, ordered(access))


def ordered(access: str) -> str:
    """Each letter once, in the kernel's order."""
    return "".join(letter for letter in ACCESSES if letter in access)


def merged(rules: Iterable[Rule]) -> list[Rule]:
    """The same rules, with those for the same devices put together.

    The kernel asks for reading and writing at once, so one that allows the one and one that allows
    the other would not do. Those for numbers that no device has are left out.
    """
    found: dict[tuple[str, int | None, int | None], str] = {}
    for rule in rules:
        if any(number is not None and number > HIGHEST for number in (rule.major, rule.minor)):
            continue
        if not rule.access:
            continue
        key = rule[:3]
        found[key] = ordered(found.get(key, "") + rule.access)
    return [Rule(*key, access) for key, access in found.items()]
