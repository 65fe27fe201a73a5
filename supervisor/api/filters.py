"""The `filters` parameter: a map of lists (or of Docker's older maps of booleans), and matching."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from supervisor.api.messages import Request
from supervisor.errors import BadParameter

Filters: TypeAlias = dict[str, list[str]]

LONGEST_PATTERN = 256
_MOST_REPEATS = 4
_REPEAT = re.compile(r"(?<!\\)[*+?{]")
_NESTED_REPEAT = re.compile(r"\)[*+{]")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
_DIGITS = re.compile(r"[0-9]{1,64}")


def parse(request: Request, known: Collection[str]) -> Filters:
    """Return the request's filters.

    Args:
        known: The names that this request takes.

    Raises:
        BadParameter: No JSON, another shape, or an unknown filter (Docker's text).
    """
    text = request.parameter("filters")
    if not text:
        return {}
    try:
        asked = msgspec.json.decode(
            text.encode(), type=dict[str, dict[str, bool] | list[str] | None]
        )
    except (msgspec.MsgspecError, UnicodeEncodeError) as error:
        raise BadParameter(f"invalid filters: {error}") from error
    for name in asked:
        if name not in known:
            raise BadParameter(f"invalid filter '{name}'")
    # {"label": {"a": true}} is how Go's clients write {"label": ["a"]}.
    found = {
        name: [value for value, on in values.items() if on]
        if isinstance(values, dict)
        else list(values or ())
        for name, values in asked.items()
    }
    return {name: values for name, values in found.items() if values}


def single_flag(filters: Filters, name: str) -> bool | None:
    """Return a boolean filter's value, None where it was not given.

    Raises:
        BadParameter: It is no boolean.
    """
    values = filters.get(name)
    if not values:
        return None
    answers = {"1": True, "true": True, "0": False, "false": False}
    wanted = {answers.get(value.strip().lower()) for value in values}
    if None in wanted or len(wanted) > 1:
        raise BadParameter(f"invalid filter '{name}=[{' '.join(values)}]': use true or false")
    return wanted.pop()


def one_of(filters: Filters, name: str, noun: str, allowed: Sequence[str]) -> frozenset[str]:
    """Return the values of a filter that knows a few words only.

    Args:
        noun: What Docker calls such a word.

    Raises:
        BadParameter: It is none of them (Docker's text).
    """
    for value in filters[name]:
        if value not in allowed:
            raise BadParameter(
                f"invalid filter '{name}={shown(value)}': invalid value for {noun} "
                f"({shown(value)}): must be one of {', '.join(allowed)}"
            )
    return frozenset(filters[name])


def exit_codes(filters: Filters, name: str) -> frozenset[int]:
    """Return the values of a filter of whole numbers.

    Raises:
        BadParameter: One is none (Docker's text).
    """
    for value in filters[name]:
        if not _NUMBER.fullmatch(value):
            raise BadParameter(f"invalid filter '{name}={shown(value)}': {_no_number(value)}")
    return frozenset(int(value) for value in filters[name])


class Ports(NamedTuple):
    """Some ports of one protocol."""

    numbers: range
    protocol: str

    def include(self, port: str) -> bool:
        """Tell whether `80/tcp` is among them."""
        number, _, protocol = port.partition("/")
        return protocol == self.protocol and number.isdigit() and int(number) in self.numbers


def ports(filters: Filters, name: str) -> list[Ports]:
    """Return the ports that `80`, `53/udp` and `8000-8080/tcp` mean.

    Raises:
        BadParameter: A value is none of that (Docker's text).
    """
    found = []
    for value in filters[name]:
        if ":" in value:
            raise BadParameter(f"filter for '{name}' should not contain ':': {shown(value)}")
        numbers, _, protocol = value.partition("/")
        first, dash, last = numbers.partition("-")
        why = "Empty string specified for ports." if not numbers else ""
        for text in (first, last) if dash else (first,):
            why = why or _no_port(text)
        if not why and dash and int(last) < int(first):
            why = f"Invalid range specified for the Port: {numbers}"
        if why:
            raise BadParameter(f"error while looking up for {name} {shown(value)}: {why}")
        found.append(Ports(range(int(first), int(last if dash else first) + 1), protocol or "tcp"))
    return found


def _no_port(text: str) -> str:
    """Say as Go does why this is no port; nothing if it is one."""
    if not _DIGITS.fullmatch(text):
        return f'strconv.ParseUint: parsing "{shown(text)}": invalid syntax'
    if len(text.lstrip("0")) > 5 or int(text) > 65535:
        return f'strconv.ParseUint: parsing "{shown(text)}": value out of range'
    return ""


def _no_number(text: str) -> str:
    return f'strconv.Atoi: parsing "{shown(text)}": invalid syntax'


def shown(value: str) -> str:
    """Return what a message repeats of a value."""
    return value if len(value) <= 64 else value[:64] + "…"


def labels_match(filters: Sequence[str], labels: Mapping[str, str]) -> bool:
    """Tell whether all of `key` and `key=value` are among the labels."""
    for wanted in filters:
        key, sign, value = wanted.partition("=")
        if key not in labels or (sign and labels[key] != value):
            return False
    return True


@functools.lru_cache(maxsize=256)
def pattern(text: str, name: str) -> re.Pattern[str]:
    """Return the regular expression of a name or id filter.

    Python's matcher backtracks, and one client's pattern must not hold up the engine: what could
    take long is refused.

    Raises:
        BadParameter: It is malformed, too long, or repeats too much.
    """
    if (
        len(text) > LONGEST_PATTERN
        or len(_REPEAT.findall(text)) > _MOST_REPEATS
        or _NESTED_REPEAT.search(text)
    ):
        raise BadParameter(f"invalid filter '{name}={text[:64]}': the pattern is too complex")
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise BadParameter(f"invalid filter '{name}={text}': {error}") from error
