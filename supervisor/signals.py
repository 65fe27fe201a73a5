"""Signals by name or number, as the Engine API takes them."""

from __future__ import annotations

import signal

from supervisor.errors import BadParameter

HIGHEST = 64


def parse(text: str) -> int:
    """Return the number of a signal.

    Args:
        text: "SIGTERM", "term", "15", "RTMIN+3", "SIGRTMAX-1" …

    Raises:
        BadParameter: There is no such signal.
    """
    word = text.strip().upper()
    if word.isascii() and word.isdigit():
        number = int(word)
        if 1 <= number <= HIGHEST:
            return number
        raise BadParameter(f"Invalid signal: {text}")
    word = word.removeprefix("SIG")
    base, sign, offset = word.partition("+" if "+" in word else "-")
    if sign and base in ("RTMIN", "RTMAX") and offset.isascii() and offset.isdigit():
        number = int(signal.Signals[f"SIG{base}"]) + int(f"{sign}{offset}")
        if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
            return number
    elif not sign and f"SIG{word}" in signal.Signals.__members__:
        return int(signal.Signals[f"SIG{word}"])
    raise BadParameter(f"Invalid signal: {text}")


def name(number: int) -> str:
    """Return "SIGTERM" for 15; the number as text where it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
