"""Query parameters and JSON bodies, read as Docker reads them and refused in words."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from supervisor.api.messages import Request
from supervisor.errors import BadParameter

MOST_SECONDS = 2**31 - 1

_Place = TypeVar("_Place")

_FALSE = frozenset({"", "0", "no", "false", "none"})
_SECONDS = re.compile(r"(-?\d{1,19})(?:\.(\d{1,9})\d*)?")
_RFC3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2})(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d{2}:\d{2})"
)


def flag(request: Request, name: str, default: bool = False) -> bool:
    """Return a boolean parameter; anything that is not plainly false is true, as in Docker."""
    values = request.query.get(name)
    if values is None:
        return default
    return values[0].strip().lower() not in _FALSE


def number(request: Request, name: str) -> int | None:
    """Return a whole number, None where the parameter is missing or blank.

    Raises:
        BadParameter: It is no whole number.
    """
    text = request.parameter(name).strip()
    if not text:
        return None
    try:
        if not text.isascii() or len(text) > 20:
            raise ValueError
        return int(text)
    except ValueError:
        raise BadParameter(f"invalid {name} {shown(text)}: it must be a whole number") from None


def stop_seconds(request: Request) -> int | None:
    """Return `t`, the seconds between the stop signal and SIGKILL; None for the default.

    Raises:
        BadParameter: It is no number, below -1 (which means: for ever), or absurdly big.
    """
    return checked_seconds(number(request, "t"), "t")


def checked_seconds(seconds: int | None, name: str) -> int | None:
    """Return a stop timeout that can be kept.

    Raises:
        BadParameter: It is below -1 or beyond `MOST_SECONDS`.
    """
    if seconds is not None and not -1 <= seconds <= MOST_SECONDS:
        raise BadParameter(
            f"invalid {name} {seconds}: give seconds from 0 to {MOST_SECONDS}, or -1 to wait for "
            "ever"
        )
    return seconds


def moment(request: Request, name: str) -> int | None:
    """Return a time in ns since the epoch: UNIX seconds with a fraction, or RFC 3339.

    Blank and 0 mean none.

    Raises:
        BadParameter: It is neither.
    """
    text = request.parameter(name).strip()
    return parse_moment(text, name) if text else None


def resumed(request: Request, read: Callable[[str], _Place]) -> _Place | None:
    """Return the place that `resume` names; None where it was not given.

    Args:
        read: Reads the kind of place that this request is resumed by; a ValueError refuses it.

    Raises:
        BadParameter: It is none of the places that we give.
    """
    text = request.parameter("resume")
    if not text:
        return None
    try:
        return read(text)
    except ValueError:
        raise BadParameter(f"invalid resume {shown(text)}: give what Mdocker-Resume said") from None


def read_time(text: str) -> int:
    """Return the place in the events that is a time in ns since the epoch.

    Raises:
        ValueError: It is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(text)
    return int(text)


def read_wait(text: str) -> tuple[str, int]:
    """Return what a wait is for: the container's id, and since when it is waited for.

    Raises:
        ValueError: It is no such place.
    """
    container, _, since = text.partition(".")
    if len(container) != 64:
        raise ValueError(text)
    return container, read_time(since)


def shown(text: str) -> str:
    """What a client sent, as a message repeats it: in quotes, cut where it is long."""
    return json.dumps(text if len(text) <= 64 else text[:64] + "…", ensure_ascii=False)


def parse_moment(text: str, name: str) -> int | None:
    """Return the time that `text` says, in ns since the epoch; None for 0.

    Raises:
        BadParameter: It is neither UNIX seconds nor RFC 3339.
    """
    found = _SECONDS.fullmatch(text)
    if found is not None:
        return int(Decimal(found[0]) * 10**9) or None
    found = _RFC3339.fullmatch(text)
    if found is not None:
        zone = "+00:00" if found[3] in "Zz" else found[3]
        try:
            whole = datetime.datetime.fromisoformat(found[1].upper() + zone)
        except ValueError:
            pass
        else:
            return int(whole.timestamp()) * 10**9 + int((found[2] or "").ljust(9, "0"))
    raise BadParameter(
        f"invalid {name} {shown(text)}: give UNIX seconds (with a fraction if you like) or RFC 3339"
    )


async def json_object(request: Request, optional: bool = False) -> dict[str, Any]:
    """Return the body, which must be one JSON object.

    Args:
        optional: A missing body, or null, is an empty object.

    Raises:
        BadParameter: Another Content-Type (Docker's text), no JSON, no object, or more behind it.
    """
    body = await request.body()
    if not body and optional:
        return {}
    content_type = request.header(b"content-type")
    if content_type.partition(";")[0].strip().lower() != "application/json" and (
        content_type or body
    ):
        raise BadParameter(f"Content-Type specified ({content_type}) must be 'application/json'")
    if not body:
        raise BadParameter("invalid JSON: got EOF while reading request body")
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadParameter(f"invalid JSON: {error}") from error
    if value is None and optional:
        return {}
    if not isinstance(value, dict):
        raise BadParameter(f"invalid JSON: the body must be an object, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    if value is None:
        return "null"
    names = {list: "an array", str: "a string", bool: "a boolean"}
    return names.get(type(value), "a number")


def terminal_size(request: Request) -> tuple[int, int]:
    """The parameters `h` and `w` of a resize: lines and columns.

    Raises:
        BadParameter: One is missing, or is no size.
    """
    size = []
    for name in ("h", "w"):
        text = request.parameter(name)
        if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 65536):
            raise BadParameter(f"invalid resize {name} {shown(text)}: a number below 65536")
        size.append(int(text))
    return size[0], size[1]
