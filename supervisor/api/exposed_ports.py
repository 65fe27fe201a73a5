"""The ports that a container is said to listen on: told in its inspection, and meant by filters."""

from __future__ import annotations

import re
from collections.abc import Iterable

from supervisor.errors import BadParameter

_PORT = re.compile(r"(\d{1,5})(?:/(tcp|udp|sctp))?", re.ASCII)


def merged(images: Iterable[str], asked: Iterable[str]) -> tuple[str, ...]:
    """Return the image's and the request's, each once, as `80/tcp`.

    Raises:
        BadParameter: One is no port.
    """
    return tuple(sorted({*images, *map(_checked, asked)}))


def _checked(port: str) -> str:
    match = _PORT.fullmatch(port)
    if match is None or not 0 < int(match[1]) < 65536:
        raise BadParameter(f"invalid port specification: {port[:64]!r}: such as 80/tcp")
    return f"{int(match[1])}/{match[2] or 'tcp'}"
