"""JSON for the shim, which can't afford the json package: that imports `re` and `enum`, a tenth of
the cost of each fork. The C halves of the same package do the work; where an interpreter lacks
them, the package itself does.

`dump` knows only what our messages hold: flat objects of text, integers and None.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

try:
    from _json import encode_basestring_ascii as _quote
    from _json import make_scanner
except ImportError:  # not CPython
    import json

    _quote = json.dumps
    _scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().raw_decode
else:

    class _Settings:
        """What json.JSONDecoder would tell the scanner."""

        strict = True
        object_hook = None
        object_pairs_hook = None
        parse_float = float
        parse_int = int
        parse_constant = float
        memo: dict[str, str] = {}  # noqa: RUF012

    # Raises AttributeError if a later Python wants a setting more: the import of the shim then
    # fails in the first test, not in the first container.
    _scan = make_scanner(_Settings)  # type: ignore[arg-type]  # typeshed's guess is wrong


def load(data: bytes) -> Any:  # noqa: ANN401 - JSON is whatever it is
    """Parse one JSON value that begins with the first byte.

    Raises:
        ValueError: it is no JSON, or something follows it.
    """
    text = data.decode()
    try:
        value, end = _scan(text, 0)
    except StopIteration as stop:
        raise ValueError(f"no JSON at character {stop.value}") from None
    if end != len(text):
        raise ValueError(f"something follows the JSON at character {end}")
    return value


def dump(values: Mapping[str, object]) -> bytes:
    """A flat object as compact ASCII JSON.

    Raises:
        TypeError: a value is neither text, integer nor None.
    """
    parts = []
    for name, value in values.items():
        if isinstance(value, str):
            parts.append(f"{_quote(name)}:{_quote(value)}")
        elif value is None:
            parts.append(f"{_quote(name)}:null")
        elif type(value) is int:
            parts.append(f"{_quote(name)}:{value}")
        else:
            raise TypeError(f"{name} is {value!r}, which no message holds")
    return ("{" + ",".join(parts) + "}").encode()
