"""The HEALTHCHECK instruction of a Dockerfile, as `import --change` takes it. Pure.

HEALTHCHECK [--interval=30s] [--timeout=30s] [--start-period=0s] [--start-interval=5s]
            [--retries=3] CMD command
HEALTHCHECK NONE
"""

from __future__ import annotations

import json
import re
from typing import Any

_OPTION = re.compile(r"--([a-z-]+)(?:=(\S*))?\s+")
_TIMES = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9,
          "m": 60 * 10**9, "h": 3600 * 10**9}  # fmt: skip
_LEAST_NS = 10**6


def parse(text: str) -> dict[str, Any]:
    """The configuration's Healthcheck that the instruction's words make.

    Raises:
        ValueError: They are none of the forms above; the text says why.
    """
    check: dict[str, Any] = {}
    position = 0
    while match := _OPTION.match(text, position):
        name, value = match[1], match[2] or ""
        if name == "retries":
            if not value.isascii() or not value.isdigit():
                raise ValueError(f"invalid --retries: '{value}' is no count")
            check["Retries"] = int(value)
        elif name in _TIMES:
            check[_TIMES[name]] = _nanoseconds(name, value)
        else:
            raise ValueError(f"Unknown flag: {name}")
        position = match.end()
    kind, _, command = text[position:].partition(" ")
    command = command.strip()
    check = {name: value for name, value in check.items() if value}
    if kind.upper() == "NONE":
        if command or check:
            raise ValueError("HEALTHCHECK NONE takes no arguments")
        return {"Test": ["NONE"]}
    if kind.upper() != "CMD":
        raise ValueError(f"Unknown type '{kind}' in HEALTHCHECK (try CMD)")
    if not command:
        raise ValueError("Missing command after HEALTHCHECK CMD")
    return {"Test": _test(command), **check}


def _test(command: str) -> list[str]:
    try:
        words = json.loads(command) if command.startswith("[") else None
    except ValueError:
        words = None
    if isinstance(words, list) and words and all(isinstance(word, str) for word in words):
        return ["CMD", *words]
    return ["CMD-SHELL", command]


def _nanoseconds(name: str, text: str) -> int:
    if text == "0":
        return 0
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"invalid --{name}: '{text}' is no duration such as 30s or 1m30s")
    total = int(sum(float(number) * _UNITS[unit] for number, unit in parts))
    if 0 < total < _LEAST_NS:
        raise ValueError(f"--{name} '{text}' cannot be less than 1ms")
    return total
