"""What is done to a context, and to fetched files: in processes that reach nothing else."""

from __future__ import annotations

import hashlib
import os
import sys

from runtime.archive_order import REFUSED, Refused
from runtime.building.sources import Source
from runtime.images.trees import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from runtime.building.ignoring import Rules

    Inside = Callable[..., None]
    Work = Callable[[Inside], object]

_INPUT = 0
_PIECE = 1 << 20
_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_DEEPEST = 50_000
"""Frames: one for each level of directories. Before that there are no descriptors left."""


def context(order: dict[str, Any]) -> Work:
    """Unpack a context, and tell the texts that are asked for: small files in it."""
    from runtime.archive_extraction import Extraction
    from runtime.images.tar_source import Archive, TarSource, load_libraries

    load_libraries()

    def work(inside: Inside) -> object:
        _enter(order["directory"], inside)
        archive = Archive(_INPUT)
        archive.load()
        Extraction(TarSource(archive), b"/").run()
        root = os.open(b"/", _ROOT)
        return [_text(root, path, order["most"]) for path in order["texts"]]

    return work


def _text(root: int, path: str, most: int) -> str | None:
    """What is in a small file, None where there is none."""
    try:
        source = Source(root, os.fsencode(path))
    except Refused:
        return None
    if not source.is_file:
        raise Refused(REFUSED, f"{path} is no file")
    fd = source.open_file()
    data = b""
    while len(data) <= most and (piece := os.read(fd, _PIECE)):
        data += piece
    os.close(fd)
    if len(data) > most:
        raise Refused(REFUSED, f"{path} has more than {most} bytes")
    # Any bytes, and JSON has text alone.
    return data.decode("latin-1")


def receive(order: dict[str, Any]) -> Work:
    """Take a file as it comes."""

    def work(inside: Inside) -> object:
        _enter(order["directory"], inside)
        total = hashlib.sha256()
        fd = os.open(b"/" + os.fsencode(order["name"]), _NEW_FILE, 0o600)
        while piece := os.read(_INPUT, _PIECE):
            total.update(piece)
            while piece:
                piece = piece[os.write(fd, piece) :]
        if order["mtime_ns"]:
            os.utime(fd, ns=(order["mtime_ns"], order["mtime_ns"]))
        os.close(fd)
        return total.hexdigest()

    return work


def exclude(order: dict[str, Any]) -> Work:
    """Take out of a context what .dockerignore leaves out."""
    from runtime.building.ignoring import Rules

    rules = Rules(order["rules"])

    def work(inside: Inside) -> object:
        _enter(order["directory"], inside)
        sys.setrecursionlimit(_DEEPEST)
        _clear("", rules, rules.nothing_matched())
        return {}

    return work


def _clear(above: str, rules: Rules, matched: list[bool]) -> bool:
    """Remove what is left out below a directory; tells whether something stays."""
    stays = False
    with os.scandir(f"/{above}") as found:
        entries = list(found)
    for one in entries:
        path = f"{above}/{one.name}" if above else one.name
        here = rules.matched(path, matched)
        out = rules.excludes(here)
        if one.is_dir(follow_symlinks=False):
            if out and not rules.keep_some:
                remove_tree(f"/{path}")
            elif _clear(path, rules, here) or not out:
                stays = True
            else:
                os.rmdir(f"/{path}")
        elif out:
            os.unlink(f"/{path}")
        else:
            stays = True
    return stays


def _enter(directory: str, inside: Inside) -> None:
    os.chroot(os.fsencode(directory))
    os.chdir(b"/")
    inside()


KINDS = {"context": context, "receive": receive, "exclude": exclude}
