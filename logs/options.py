"""A container's log options: read from Docker's words, or refused in words of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from logs.attributes import ATTRIBUTE_OPTIONS, check_attributes
from logs.errors import LogOptionRefused

DEFAULT_MAX_SIZE = 20_000_000
DEFAULT_MAX_FILE = 5
DEFAULT_BUFFER_SIZE = 1 << 20
MOST_FILES = 1000
SMALLEST_BUFFER = 1 << 16

UNLIMITED = 0

_FILE_DRIVERS = ("json-file", "k8s-file")
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?([kmgtp]?)(i?)b?", re.IGNORECASE | re.ASCII)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_TRUTHS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How a log is kept.

    Attributes:
        max_size: A file that has so many bytes is rotated before the next record; 0 is no limit.
        max_file: So many files at most, the newest counted.
        compress: Rotated files become `.gz`.
        blocking: A log that can't be written holds the container up; else its oldest output that
            waits is dropped.
        max_buffer_size: Bytes that may wait where it isn't blocking.
    """

    max_size: int = DEFAULT_MAX_SIZE
    max_file: int = DEFAULT_MAX_FILE
    compress: bool = False
    blocking: bool = True
    max_buffer_size: int = DEFAULT_BUFFER_SIZE


DEFAULTS = LogOptions()


def parse(driver: str, asked: Mapping[str, str]) -> LogOptions:
    """Read the options of a log driver.

    Without any, a log is rotated: five files of 20 MB. As in Docker `max-size` alone means one
    file, and `max-size=-1` one that grows without end.

    Raises:
        LogOptionRefused: an option that the driver hasn't, or a value that can't be.
    """
    if not asked:
        return DEFAULTS
    _check_names(driver, asked)
    check_attributes(asked)
    size = _max_size(asked["max-size"]) if "max-size" in asked else DEFAULT_MAX_SIZE
    files = 1 if "max-size" in asked else DEFAULT_MAX_FILE
    if "max-file" in asked:
        files = _max_file(asked["max-file"])
    compress = "compress" in asked and _truth("compress", asked["compress"])
    if compress and (files < 2 or not size):
        raise LogOptionRefused(
            "compress cannot be true when max-file is less than 2 or max-size is not set: "
            "only rotated files are compressed"
        )
    blocking = _blocking(asked.get("mode", ""))
    waiting = DEFAULT_BUFFER_SIZE
    if "max-buffer-size" in asked:
        if blocking:
            raise LogOptionRefused(
                "max-buffer-size is only supported with mode=non-blocking: add it, or leave the "
                "buffer out"
            )
        waiting = _size("max-buffer-size", asked["max-buffer-size"], 1024)
        if waiting < SMALLEST_BUFFER:
            raise LogOptionRefused(
                f"max-buffer-size={asked['max-buffer-size']} is too small: "
                f"give at least {SMALLEST_BUFFER >> 10}k"
            )
    return LogOptions(size, files, compress, blocking, waiting)


def _check_names(driver: str, asked: Mapping[str, str]) -> None:
    known = {"max-size", "max-file", "compress", "mode", "max-buffer-size"}
    if driver == "json-file":
        known |= ATTRIBUTE_OPTIONS
    elif driver not in _FILE_DRIVERS:
        known = set()
    for name in asked:
        if name in known:
            continue
        why = "it keeps nothing" if not known else f"it knows {', '.join(sorted(known))}"
        if driver == "k8s-file" and name in ATTRIBUTE_OPTIONS:
            why = "its format has no place for attributes, json-file has"
        raise LogOptionRefused(f"unknown log opt '{name}' for {driver} log driver: {why}")


def _max_size(text: str) -> int:
    if text.strip() == "-1":
        return UNLIMITED
    size = _size("max-size", text, 1000)
    if size <= 0:
        raise LogOptionRefused("max-size must be a positive number, or -1 for no limit")
    return size


def _size(name: str, text: str, base: int) -> int:
    """A size as Docker's units read it: max-size counts in 1000s, memory in 1024s."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise LogOptionRefused(f"invalid {name}: '{text}' is no size: write 10m, 500k or 1g")
    number, unit, binary = match.groups()
    factor = (1024 if binary else base) ** _POWER[unit.lower()]
    return int(float(number) * factor)


def _max_file(text: str) -> int:
    try:
        files = int(text)
    except ValueError:
        raise LogOptionRefused(f"invalid max-file: '{text}' is no whole number") from None
    if files < 1:
        raise LogOptionRefused("max-file cannot be less than 1")
    if files > MOST_FILES:
        raise LogOptionRefused(f"max-file={files} is too many: give at most {MOST_FILES}")
    return files


def _truth(name: str, text: str) -> bool:
    value = _TRUTHS.get(text.lower())
    if value is None:
        raise LogOptionRefused(f"invalid {name}: '{text}': write true or false")
    return value


def _blocking(mode: str) -> bool:
    if mode not in ("", "blocking", "non-blocking"):
        raise LogOptionRefused(
            f"logging mode not supported: '{mode}': use blocking or non-blocking"
        )
    return mode != "non-blocking"
