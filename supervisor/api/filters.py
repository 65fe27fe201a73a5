"""The `filters` parameter: a map of lists (or of Docker's older maps of booleans), and matching."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

import msgspec

from supervisor.api.messages import Request
from supervisor.errors import BadParameter

Filters: TypeAlias = dict[str, list[str]]

LONGEST_PATTERN = 256
_MOST_REPEATS = 4
_REPEAT = re.compile(r"(?<!\\)[*+?{]")
_NESTED_REPEAT = re.compile(r"\)[*+{]")


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
        raise BadParameter(f"invalid filter '{name}={','.join(values)}': use true or false")
    return wanted.pop()


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
