"""Times in log files: nanoseconds since 1970 to RFC 3339 and back."""

from __future__ import annotations

import re
import time
from datetime import datetime

NS = 1_000_000_000

_FORM = re.compile(
    rb"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:[.,](\d{1,18}))?([Zz]|[+-]\d\d:?\d\d)", re.ASCII
)


class _Second:
    """The last second that was written and read: neighbours in a log nearly always share it."""

    written = (-1, b"")
    read = (b"?", 0)


def fixed(time_ns: int) -> bytes:
    """As `2006-01-02T15:04:05.000000000Z`: always nine digits, always UTC."""
    second, rest = divmod(time_ns, NS)
    known, text = _Second.written
    if known != second:
        text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second)).encode()
        _Second.written = (second, text)
    return text + b"%09dZ" % rest


def trimmed(time_ns: int) -> bytes:
    """The same with the fraction's trailing zeros cut, as Go's RFC3339Nano does."""
    return fixed(time_ns)[:-1].rstrip(b"0").rstrip(b".") + b"Z"


def parse(text: bytes) -> int:
    """Read an RFC 3339 time, of any fraction and offset, as nanoseconds since 1970.

    Raises:
        ValueError: it is none.
    """
    known, second = _Second.read
    if text.startswith(known) and text.endswith(b"Z"):
        digits = text[20:-1]
        if digits.isdigit() and len(digits) <= 9:
            return second * NS + int(digits.ljust(9, b"0"))
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {text!r}")
    moment, fraction, offset = match.groups()
    second = int(datetime.fromisoformat((moment + offset).decode().upper()).timestamp())
    if offset == b"Z":
        _Second.read = (moment + b".", second)
    return second * NS + (int(fraction[:9].ljust(9, b"0")) if fraction else 0)
