"""Sizes, CPUs and durations: as people type them, and as Docker prints them. Pure."""

from __future__ import annotations

import re

from mdocker.errors import UsageError

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kKmMgGtTpP])?[iI]?[bB]?", re.ASCII)
_POWERS = "kmgtp"
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


def parse_size(text: str, option: str) -> int:
    """Read a number of bytes, such as 512m or 1.5GiB; each unit is 1024 times the one before.

    Raises:
        UsageError: It is none.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f'invalid argument "{text}" for "{option}": not a size such as 512m or 2g')
    number, unit = str(match[1]), match[2]
    exponent: int = _POWERS.index(unit.lower()) + 1 if unit else 0
    factor = 1 << (10 * exponent)
    if "." not in number:
        return int(number) * factor
    whole, _, fraction = number.partition(".")
    return int(whole) * factor + int(fraction) * factor // int(10 ** len(fraction))


def parse_cpus(text: str, option: str) -> int:
    """Read a number of CPUs, such as 1.5, as billionths of one.

    Raises:
        UsageError: It is none, or finer than a billionth.
    """
    match = re.fullmatch(r"(\d*)(?:\.(\d*))?", text, re.ASCII)
    fraction = ((match and match[2]) or "").rstrip("0")
    if match is None or not (match[1] or match[2]) or len(fraction) > 9:
        raise UsageError(
            f'invalid argument "{text}" for "{option}": not a number of CPUs such as 0.5 or 2'
        )
    return int(match[1] or 0) * 10**9 + int(fraction.ljust(9, "0"))


def parse_duration(text: str) -> int | None:
    """Read a Go duration such as 1h30m or 1.5s, in ns; None if it is none."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    total = 0
    position = 0
    while match := _DURATION_PART.match(rest, position):
        number, unit = match.groups()
        whole, _, fraction = number.partition(".")
        total += int(whole or 0) * _UNITS[unit]
        if fraction:
            total += int(fraction) * _UNITS[unit] // int(10 ** len(fraction))
        position = match.end()
    if not rest or position != len(rest):
        return None
    return sign * total


def human_size(size: float, digits: int = 4) -> str:
    """Print bytes as docker does: powers of 1000, four digits (`4.262MB`), or three in lists."""
    return _rounded(float(size), 1000.0, ("B", "kB", "MB", "GB", "TB", "PB", "EB"), digits)


def human_binary_size(size: float) -> str:
    """Print bytes as `docker info` does: four digits, powers of 1024 (`23.5GiB`)."""
    return _rounded(float(size), 1024.0, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"), 4)


def _rounded(size: float, base: float, units: tuple[str, ...], digits: int) -> str:
    index = 0
    while size >= base and index < len(units) - 1:
        size /= base
        index += 1
    return f"{size:.{digits}g}{units[index]}"


def human_span(seconds: float) -> str:
    """Print a span of time in three digits or two units (`0.45 ms`, `12.9 s`, `3h 5m`, `2d 4h`)."""
    if seconds < 0.9995:
        return f"{_three_digits(seconds * 1e3)} ms"
    if seconds < 59.95:
        return f"{_three_digits(seconds)} s"
    whole = round(seconds)
    for unit, below, letters in ((60, 3600, "ms"), (3600, 86400, "hm"), (86400, 0, "dh")):
        if not below or whole < below:
            big, rest = divmod(whole, unit)
            small = rest // {"s": 1, "m": 60, "h": 3600}[letters[1]]
            return f"{big}{letters[0]} {small}{letters[1]}"
    raise AssertionError("the last unit has no limit")


def _three_digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def human_duration(seconds: float) -> str:
    """Print a span of time in words, as `docker ps` does (`About a minute`, `3 weeks`)."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    days = hours // 24
    if hours < 24 * 7 * 2:
        return f"{days} days"
    if hours < 24 * 30 * 2:
        return f"{days // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{days // 30} months"
    return f"{int(seconds) // 3600 // 24 // 365} years"
