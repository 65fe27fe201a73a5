"""What helper processes of a build are asked for; the orders are in `runtime.archive_order`.

Each enters what it is to look at, gives up all else, and only then looks at the first name.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys

from runtime import archive_owner, archive_view, flags
from runtime.archive_extraction import Extraction
from runtime.archive_order import REFUSED, Refused
from runtime.building.archives import unpack
from runtime.building.copying import LayerCopying, Owner
from runtime.building.sources import Checksum, Source, find
from runtime.images.tar_source import Archive, TarSource
from runtime.images.trees import remove_tree
from runtime.kernel import DOOR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Told = dict[str, object]
    Inside = Callable[..., None]
    Work = Callable[[Inside], object]

_INPUT, _OUTPUT = 0, 1
_PIECE = 1 << 20
_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_DEEPEST = 50_000
"""Frames: one for each level of directories. Before that there are no descriptors left."""


def _context(order: dict[str, Any]) -> Work:
    """Unpack a context."""

    def work(inside: Inside) -> object:
        _enter(order["directory"], inside)
        Extraction(TarSource(Archive(_INPUT)), b"/").run()
        return {}

    return work


def _receive(order: dict[str, Any]) -> Work:
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


def _text(order: dict[str, Any]) -> Work:
    """Tell what is in a small file of a context, None where there is none."""

    def work(inside: Inside) -> object:
        _enter(order["directory"], inside)
        root = os.open(b"/", _ROOT)
        try:
            source = Source(root, os.fsencode(order["path"]))
        except Refused:
            return None
        if not source.is_file:
            raise Refused(REFUSED, f"{order['path']} is no file")
        if source.status.st_size > order["most"]:
            raise Refused(REFUSED, f"{order['path']} has more than {order['most']} bytes")
        fd = source.open_file()
        data = b""
        while len(data) <= order["most"] and (piece := os.read(fd, _PIECE)):
            data += piece
        os.close(fd)
        # Any bytes, and JSON has text alone.
        return data.decode("latin-1")

    return work


def _exclude(order: dict[str, Any]) -> Work:
    """Take out of a context what .dockerignore leaves out."""
    rules = [(keeps, re.compile(words, re.DOTALL)) for keeps, words in order["rules"]]

    def work(inside: Inside) -> object:
        _enter(order["directory"], inside)
        sys.setrecursionlimit(_DEEPEST)
        _clear("", rules, [False] * len(rules))
        return {}

    return work


def _clear(above: str, rules: list[tuple[bool, re.Pattern[str]]], matched: list[bool]) -> bool:
    """Remove what is left out below a directory; tells whether something stays.

    Args:
        matched: Which rules have matched the directory, or one above it.
    """
    stays = False
    with os.scandir(f"/{above}") as found:
        entries = list(found)
    for one in entries:
        path = f"{above}/{one.name}" if above else one.name
        out = False
        here = list(matched)
        for number, (keeps, pattern) in enumerate(rules):
            if here[number] or pattern.fullmatch(path):
                here[number] = True
                out = not keeps
        if one.is_dir(follow_symlinks=False):
            if out and not any(keeps for keeps, _ in rules):
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


def _sources(order: dict[str, Any]) -> Work:
    """Find the sources of a COPY, and sum them up."""

    def work(inside: Inside) -> object:
        roots = _roots(order)
        os.chdir(order["merged"])
        os.chroot(b".")
        inside()
        return [
            Checksum(with_owners=order["with_owners"]).of(source)
            for source in find(roots, order["sources"])
        ]

    return work


def _copy(order: dict[str, Any]) -> Work:
    """Make the layer of a COPY, an ADD or a WORKDIR."""

    def work(inside: Inside) -> object:
        roots = _roots(order)
        image = archive_view.open_readonly(
            os.fsencode(order["merged"]), [os.fsencode(path) for path in order["image"]]
        )
        os.fchdir(image)
        os.chroot(b".")
        os.close(image)
        inside()
        covered = [os.fsencode(path) for path in order["covered"]]
        layer = LayerCopying(_OUTPUT, _owner(order["owner"]), covered)
        destination = os.fsencode(order["destination"])
        found = find(roots, order["sources"])
        if not found:
            place = layer.places.real(destination)
            layer.make(place)
        if len(found) > 1 and not order["as_directory"]:
            raise Refused(
                REFUSED,
                f"When using {order['keyword']} with more than one source file, the destination "
                "must be a directory and end with a /",
            )
        for source in found:
            is_archive = order["unpack"] and source.is_file and source.root == roots[0]
            if not (is_archive and unpack(source, layer, destination)):
                layer.put_in(source, destination, as_directory=order["as_directory"])
        layer.end()
        os.close(_OUTPUT)
        return {}

    return work


def _enter(directory: str, inside: Inside) -> None:
    os.chroot(os.fsencode(directory))
    os.chdir(b"/")
    inside()


def _roots(order: dict[str, Any]) -> list[int]:
    """The trees that sources lie in, in a mount namespace of this process's own."""
    DOOR.unshare(flags.CLONE_NEWNS)
    DOOR.mount(None, b"/", None, flags.MS_REC | flags.MS_PRIVATE, None)
    merged = os.fsencode(order["merged"])
    return [
        archive_view.open_readonly(merged, [os.fsencode(path) for path in layers])
        for layers in order["roots"]
    ]


def _owner(words: str) -> Owner | None:
    """Whose the copies are: numbers, or names that the image knows.

    As in Docker's classic builder a user's name alone is also the group's.
    """
    if not words:
        return None
    user, _, group = words.partition(":")
    try:
        return archive_owner.resolve(f"{user}:{group or user}")
    except Refused as refused:
        raise Refused(
            REFUSED, f"unable to convert uid/gid chown string to host mapping: {refused}"
        ) from None


KINDS = {
    "context": _context,
    "receive": _receive,
    "text": _text,
    "exclude": _exclude,
    "sources": _sources,
    "copy": _copy,
}
