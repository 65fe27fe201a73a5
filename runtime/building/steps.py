"""What is done for a COPY, an ADD or a WORKDIR: in processes that reach the trees it names alone.

Each enters what it is to look at, gives up all else, and only then looks at the first name.
"""

from __future__ import annotations

import os

from runtime import archive_owner, archive_view, flags
from runtime.archive_order import REFUSED, Refused
from runtime.building.copying import LayerCopying, Owner
from runtime.building.sources import Checksum, find
from runtime.kernel import DOOR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from runtime.building.sources import Source

    Inside = Callable[..., None]
    Work = Callable[[Inside], object]
    Unpack = Callable[[Source, LayerCopying, bytes], bool]

_OUTPUT = 1


def _sources(order: dict[str, Any]) -> Work:
    """Find the sources of a COPY, and sum them up."""

    def work(inside: Inside) -> object:
        trees = _Trees(order["merged"])
        roots = [trees.open(layers) for layers in order["roots"]]
        _enter(roots[0], inside)
        return [
            Checksum(with_owners=order["with_owners"]).of(source)
            for source in find(roots, order["sources"])
        ]

    return work


def _copy(order: dict[str, Any]) -> Work:
    """Make the layer."""
    unpack: Unpack | None = None
    if order["unpack"]:
        from runtime.building import archives
        from runtime.images.tar_source import load_libraries

        load_libraries()
        unpack = archives.unpack

    def work(inside: Inside) -> object:
        trees = _Trees(order["merged"])
        roots = [trees.open(layers) for layers in order["roots"]]
        _enter(trees.open(order["image"]), inside)
        covered = [os.fsencode(path) for path in order["covered"]]
        owner = _owner(order["owner"])
        layer = LayerCopying(_OUTPUT, owner, covered, keeps_owners=order["with_owners"])
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
            # What was fetched is copied as it is.
            may_be = source.is_file and source.root == roots[0]
            if unpack is None or not may_be or not unpack(source, layer, destination):
                layer.put_in(source, destination, as_directory=order["as_directory"])
        layer.end()
        os.close(_OUTPUT)
        return {}

    return work


class _Trees:
    """What layers show, each in a place of its own, in a mount namespace of this process's own.

    Nothing is mounted over another: a `..` in a tree would lead into that. Nor is any taken away
    while it is open: the kernel lets go of each step in such a tree by a lock that makes openat2
    start anew, without end where a link's access time is to be noted.
    """

    def __init__(self, merged: str) -> None:
        self._merged = os.fsencode(merged)
        self._count = 0
        DOOR.unshare(flags.CLONE_NEWNS)
        DOOR.mount(None, b"/", None, flags.MS_REC | flags.MS_PRIVATE, None)
        bits = flags.MS_NODEV | flags.MS_NOSUID | flags.MS_NOEXEC
        DOOR.mount(b"tmpfs", self._merged, b"tmpfs", bits, b"mode=755,size=1m")

    def open(self, layers: Sequence[str]) -> int:
        """Open one."""
        place = self._merged + b"/%d" % self._count
        self._count += 1
        os.mkdir(place, 0o755)
        return archive_view.open_readonly(place, [os.fsencode(path) for path in layers])


def _enter(root: int, inside: Inside) -> None:
    """Reach nothing but a tree, by names, from now on."""
    os.fchdir(root)
    os.chroot(b".")
    inside()


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


KINDS = {"sources": _sources, "copy": _copy}
