"""`system df`: what lies on the disk, and what of it could go."""

from __future__ import annotations

import time
from typing import Annotated, Any

from mdocker.client import Engine
from mdocker.errors import FAILED, UsageError
from mdocker.image_rows import HEADINGS as IMAGE_HEADINGS
from mdocker.image_rows import image_rows
from mdocker.listing import Row, show
from mdocker.options import flag, injected
from mdocker.output import say
from mdocker.units import human_size

_HEADINGS: Row = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_OF_IMAGES = (
    *("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"),
)
_OF_CONTAINERS: Row = {
    "ID": "CONTAINER ID",
    "Names": "NAMES",
    "Status": "STATUS",
    "Size": "SIZE",
    "Log": "LOG",
}
_OF_VOLUMES: Row = {"Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE"}
_ALIVE = ("running", "paused", "restarting")


def disk_usage(
    *,
    verbose: Annotated[
        bool, flag("--verbose", "-v", help="Each image, container and volume, too")
    ] = False,
    format: Annotated[str, flag("--format", help="json, a Go template, or 'table TEMPLATE'")] = "",
    engine: Annotated[Engine, injected()],
) -> int:
    """Show what images, containers, logs and volumes weigh, and what removing the unused frees.

    Images are their files and the archives that they came in, from which they are pushed and saved;
    a layer of several is counted once, and told as shared. The logs of containers that do not run
    go with them at `mdocker rm`.
    """
    if verbose and format:
        raise UsageError("the verbose and the format options conflict", FAILED)
    told: dict[str, Any] = engine.json("GET", "/system/df")
    images, containers = told.get("Images") or [], told.get("Containers") or []
    rows = [
        _of_images(told, images),
        _row("Containers", [(_alive(c), _own(c)) for c in containers]),
        _row("Local Volumes", [_volume(v) for v in told.get("Volumes") or []]),
        _row("Logs", [(_alive(c), c.get("SizeLog") or 0) for c in containers]),
    ]
    show(rows, _HEADINGS, tuple(_HEADINGS), format)
    if verbose:
        now = time.time()
        say("\nImages space usage:\n")
        lines = [line for image in images for line in image_rows(image, now)]
        show(lines, IMAGE_HEADINGS, _OF_IMAGES, "")
        say("\nContainers space usage:\n")
        show([_line(c) for c in containers], _OF_CONTAINERS, tuple(_OF_CONTAINERS), "")
        say("\nLocal Volumes space usage:\n")
        volumes = [_volume_line(v) for v in told.get("Volumes") or []]
        show(volumes, _OF_VOLUMES, tuple(_OF_VOLUMES), "")
    return 0


def _alive(container: dict[str, Any]) -> bool:
    return container.get("State") in _ALIVE


def _volume(volume: dict[str, Any]) -> tuple[bool, int]:
    usage = volume.get("UsageData") or {}
    return usage.get("RefCount", 0) > 0, usage.get("Size") or 0


def _volume_line(volume: dict[str, Any]) -> Row:
    usage = volume.get("UsageData") or {}
    return {
        "Name": volume["Name"],
        "Links": str(usage.get("RefCount", 0)),
        "Size": human_size(usage.get("Size") or 0),
    }


def _own(container: dict[str, Any]) -> int:
    """Its own layer: `SizeRw` counts the log there."""
    return int((container.get("SizeRw") or 0) - (container.get("SizeLog") or 0))


def _of_images(told: dict[str, Any], images: list[dict[str, Any]]) -> Row:
    used = [image for image in images if image.get("Containers", 0) > 0]
    total = told.get("LayersSize") or 0
    # Other engines than ours tell what is shared, and not by whom: docker's client reckons so, too.
    kept = sum((image.get("Size") or 0) - max(image.get("SharedSize") or 0, 0) for image in used)
    free = told.get("LayersReclaimable", max(total - kept, 0))
    return _line_of("Images", len(images), len(used), total, free)


def _row(kind: str, things: list[tuple[bool, int]]) -> Row:
    total = sum(size for _, size in things)
    free = sum(size for used, size in things if not used)
    return _line_of(kind, len(things), sum(used for used, _ in things), total, free)


def _line_of(kind: str, count: int, active: int, total: int, free: int) -> Row:
    share = f" ({free * 100 // total}%)" if total else ""
    return {
        "Type": kind,
        "TotalCount": str(count),
        "Active": str(active),
        "Size": human_size(total),
        "Reclaimable": human_size(free) + share,
    }


def _line(container: dict[str, Any]) -> Row:
    return {
        "ID": container["Id"][:12],
        "Names": ",".join(name.removeprefix("/") for name in container.get("Names") or []),
        "Status": container.get("Status", ""),
        "Size": human_size(_own(container)),
        "Log": human_size(container.get("SizeLog") or 0),
    }
