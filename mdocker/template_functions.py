"""The functions of --format templates, and how Go prints values. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mdocker.errors import TemplateError

Value = Any
"""Whatever JSON can hold, and the functions of a row; templates find out when they run."""


class Nil(dict[str, Value]):
    """A field that Docker has, and that is not set here: `<nil>`, and no truth."""


NIL = Nil()


class NilList(list[Value]):
    """A list that is not set: empty to a template, null as JSON."""


NIL_LIST = NilList()
NIL_MAP = Nil()
"""A map that is not set: `map[]`."""


class OpenMap(dict[str, Value]):
    """A map with any keys: one that is not there is no mistake, but `MISSING`."""


MISSING = Nil()
"""What stands for a key that is not there, and for whatever is asked of it: `<no value>`."""


def spell(value: Value) -> str:
    """Print a value as Go's %v does; a missing one is `<no value>`."""
    if value is None or value is MISSING:
        return "<no value>"
    return _spell(value)


def _spell(value: Value) -> str:
    if value is None or value is NIL:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        pairs = (f"{key}:{_spell(value[key])}" for key in sorted(value))
        return f"map[{' '.join(pairs)}]"
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(_spell(item) for item in value)}]"
    return str(value)


def truth(value: Value) -> bool:
    """Tell whether Go's templates take a value for true: not zero, not empty, not nil."""
    return bool(value)


class Renamed(dict[str, Value]):
    """Fields under the names that templates have for them; as JSON they keep their own.

    Attributes:
        original: The fields as JSON has them.
    """

    def __init__(self, fields: Mapping[str, Value], original: Mapping[str, Value]) -> None:
        super().__init__(fields)
        self.original = original


def _json(value: Value) -> str:
    if isinstance(value, (Nil, NilList)):
        return "null"
    if isinstance(value, Renamed):
        value = value.original
    if isinstance(value, Mapping):
        value = {key: item for key, item in value.items() if not callable(item)}
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=dict)


def _text(name: str, value: Value) -> str:
    if not isinstance(value, str):
        raise TemplateError(f"{name} needs a text, got {_spell(value)}")
    return value


def _number(name: str, value: Value) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TemplateError(f"{name} needs a whole number, got {_spell(value)}")
    return value


def _join(items: Value, separator: Value) -> str:
    if items is None:
        return ""
    if not isinstance(items, (list, tuple)):
        raise TemplateError(f"join needs a list, got {_spell(items)}")
    return _text("join", separator).join(_spell(item) for item in items)


def _split(text: Value, separator: Value) -> list[str]:
    whole, by = _text("split", text), _text("split", separator)
    return whole.split(by) if by else list(whole)


def _length(value: Value) -> int:
    if value is None:
        return 0
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, (Mapping, Sequence)):
        return len(value)
    raise TemplateError(f"len of {_spell(value)}: it is neither text, list nor map")


def _index(value: Value, *keys: Value) -> Value:
    for key in keys:
        if isinstance(value, Mapping):
            # Go gives the zero value for a key that is not there; in the API's maps that is "".
            value = value.get(_text("index", key), "")
        elif isinstance(value, (list, tuple)):
            position = _number("index", key)
            if not 0 <= position < len(value):
                raise TemplateError(f"index {position} is out of range: there are {len(value)}")
            value = value[position]
        else:
            raise TemplateError(f"index of {_spell(value)}: it is neither list nor map")
    return value


def _slice(value: Value, *bounds: Value) -> Value:
    if not isinstance(value, (str, list, tuple)) or len(bounds) > 2:
        raise TemplateError(f"slice needs a text or a list and two numbers, got {_spell(value)}")
    start, end = [*(_number("slice", bound) for bound in bounds), *(0, len(value))[len(bounds) :]]
    if not 0 <= start <= end <= len(value):
        raise TemplateError(f"slice {start}:{end} is out of range: there are {len(value)}")
    return value[start:end]


def _title(text: Value) -> str:
    words = _text("title", text)
    return "".join(
        letter.upper() if at == 0 or words[at - 1].isspace() else letter
        for at, letter in enumerate(words)
    )


def _pad(text: Value, before: Value, after: Value) -> str:
    whole = _text("pad", text)
    if not whole:
        return whole
    return " " * _number("pad", before) + whole + " " * _number("pad", after)


def _truncate(text: Value, length: Value) -> str:
    return _text("truncate", text)[: _number("truncate", length)]


def _print(*values: Value) -> str:
    # Go puts a space between two neighbours of which neither is a text.
    out = ""
    for at, value in enumerate(values):
        if at and not isinstance(value, str) and not isinstance(values[at - 1], str):
            out += " "
        out += _spell(value)
    return out


def _printf(form: Value, *values: Value) -> str:
    import re

    left = list(values)
    verb = re.compile(r"%([-+ 0]*\d*(?:\.\d+)?)([a-zA-Z%])")

    def one(match: re.Match[str]) -> str:
        flags, letter = match.groups()
        if letter == "%":
            return "%"
        if not left:
            raise TemplateError(f"printf: there is no value for {match[0]}")
        value = left.pop(0)
        try:
            if letter == "q":
                return json.dumps(_spell(value), ensure_ascii=False)
            if letter in "sv":
                return f"%{flags}s" % _spell(value)
            if letter == "t" and isinstance(value, bool):
                return _spell(value)
            if letter in "dxXofeg" and not isinstance(value, bool):
                return str(f"%{flags}{letter}" % value)
        except (TypeError, ValueError) as error:
            raise TemplateError(f"printf: {match[0]} of {_spell(value)}: {error}") from error
        raise TemplateError(f"printf: {match[0]} of {_spell(value)} is not supported")

    text = verb.sub(one, _text("printf", form))
    if left:
        raise TemplateError(f"printf: {len(left)} values too many")
    return text


def _equal(first: Value, *others: Value) -> bool:
    if not others:
        raise TemplateError("eq needs two values")
    return any(_same(first, other) for other in others)


def _same(one: Value, other: Value) -> bool:
    if isinstance(one, bool) != isinstance(other, bool) or isinstance(one, str) != isinstance(
        other, str
    ):
        raise TemplateError(f"{_spell(one)} and {_spell(other)} can't be compared")
    return bool(one == other)


def _compare(test: Callable[[Value, Value], bool]) -> Callable[[Value, Value], bool]:
    def compare(one: Value, other: Value) -> bool:
        if isinstance(one, str) != isinstance(other, str):
            raise TemplateError(f"{_spell(one)} and {_spell(other)} can't be compared")
        try:
            return test(one, other)
        except TypeError as error:
            raise TemplateError(f"{_spell(one)} and {_spell(other)} can't be compared") from error

    return compare


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "json": _json,
    "join": _join,
    "split": _split,
    "len": _length,
    "index": _index,
    "slice": _slice,
    "lower": lambda text: _text("lower", text).lower(),
    "upper": lambda text: _text("upper", text).upper(),
    "title": _title,
    "pad": _pad,
    "truncate": _truncate,
    "print": _print,
    "println": lambda *values: " ".join(_spell(value) for value in values) + "\n",
    "printf": _printf,
    "eq": _equal,
    "ne": lambda one, other: not _same(one, other),
    "lt": _compare(lambda one, other: one < other),
    "le": _compare(lambda one, other: one <= other),
    "gt": _compare(lambda one, other: one > other),
    "ge": _compare(lambda one, other: one >= other),
    "not": lambda value: not truth(value),
}
"""`and` and `or` are not here: they evaluate no more than they need."""


def for_headings(name: str, function: Callable[..., Value]) -> Callable[..., Value]:
    """Return what stands for a function when a table's heading is made of the same template."""
    if name in ("json", "truncate", "pad", "join", "split", "lower", "upper", "title"):
        return lambda value, *rest: value
    return function
