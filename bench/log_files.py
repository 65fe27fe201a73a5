"""What a log file holds, as the program wrote it: for the checksums of the log benchmarks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

_JSON_WHOLE = re.compile(rb'\\n","stream":"stdout","time":"[^"]*"\}\n')
_JSON_PART = re.compile(rb'","stream":"stdout","time":"[^"]*"\}\n')
_CRI_WHOLE = re.compile(rb"^[-0-9T:.+Z]+ stdout F ", re.MULTILINE)
_CRI_PART = re.compile(rb"^[-0-9T:.+Z]+ stdout P (.*)\n", re.MULTILINE)


def _blocks(path: Path, size: int = 8 << 20) -> Iterator[bytes]:
    """The file in blocks that end at the end of a line."""
    rest = b""
    with path.open("rb") as file:
        while data := file.read(size):
            cut = data.rfind(b"\n") + 1
            yield rest + data[:cut]
            rest = data[cut:]
    if rest:
        yield rest


def plain(block: bytes, driver: str) -> bytes:
    """Whole records as the bytes that were written; the payload has nothing to unescape."""
    if driver == "json-file":
        block = _JSON_WHOLE.sub(b"\n", block)
        if b'","stream":"' in block:
            block = _JSON_PART.sub(b"", block)
        return block.replace(b'{"log":"', b"")
    block = _CRI_WHOLE.sub(b"", block)
    return _CRI_PART.sub(rb"\1", block) if b" stdout P " in block else block


def digest(path: Path, driver: str) -> str:
    """The SHA-256 of what the program wrote, taken from its log."""
    told = hashlib.sha256()
    for block in _blocks(path):
        told.update(plain(block, driver))
    return told.hexdigest()
