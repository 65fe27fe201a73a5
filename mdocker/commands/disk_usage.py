"""`system df`: what lies on the disk, and what of it could go."""

from __future__ import annotations

from typing import Annotated, Any

from mdocker.client import Engine
from mdocker.errors import FAILED, UsageError
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
        bool, flag("--verbose", "-v", help="Each container and volume, too")
    ] = False,
    format: Annotated[str, flag("--format", help="json, a Go template, or 'table TEMPLATE'")] = "",
    engine: Annotated[Engine, injected()],
) -> int:
    """Show what images, containers, logs and volumes weigh, and what removing the unused frees.

    The logs of containers that do not run go with them at `mdocker rm`.
    """
    if verbose and format:
        raise UsageError("the verbose and the format options conflict", FAILED)
    told: dict[str, Any] = engine.json("GET", "/system/df")
    images, containers = told.get("Images") or [], told.get("Containers") or []
    rows = [
        _row("Images", [(i.get("Containers", 0) > 0, i.get("Size") or 0) for i in images]),
        _row("Containers", [(_alive(c), _own(c)) for c in containers]),
        _row("Local Volumes", [_volume(v) for v in told.get("Volumes") or []]),
        _row("Logs", [(_alive(c), c.get("SizeLog") or 0) for c in containers]),
    ]
    show(rows, _HEADINGS, tuple(_HEADINGS), format)
    if verbose:
        say("")
        show([_line(c) for c in containers], _OF_CONTAINERS, tuple(_OF_CONTAINERS), "")
        say("")
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


def _row(kind: str, things: list[tuple[bool, int]]) -> Row:
    total = sum(size for _, size in things)
    free = sum(size for used, size in things if not used)
    share = f" ({free * 100 // total}%)" if total else ""
    return {
        "Type": kind,
        "TotalCount": str(len(things)),
        "Active": str(sum(used for used, _ in things)),
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
