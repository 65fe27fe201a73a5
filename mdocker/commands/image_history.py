"""`history`."""

from __future__ import annotations

import time
from typing import Annotated, Any

from mdocker.client import Engine
from mdocker.listing import Row, show
from mdocker.options import flag, injected
from mdocker.paths import quote
from mdocker.times import to_rfc3339_local
from mdocker.units import human_duration, human_size

_HEADINGS: Row = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
_COLUMNS = ("ID", "CreatedSince", "CreatedBy", "Size", "Comment")
_LONGEST_COMMAND = 45


def history(
    image: str,
    /,
    *,
    human: Annotated[
        bool, flag("--human", help="Sizes and times for people; --human=false for exact ones")
    ] = True,
    no_trunc: Annotated[bool, flag("--no-trunc", help="Cut nothing short")] = False,
    quiet: Annotated[bool, flag("--quiet", "-q", help="Ids only")] = False,
    platform: Annotated[
        str, flag("--platform", help="Only if it is for this one, such as linux/arm64")
    ] = "",
    format: Annotated[str, flag("--format", help="json, a Go template, or 'table TEMPLATE'")] = "",
    engine: Annotated[Engine, injected()],
) -> int:
    """Show what an image was made of, the newest step first.

    A step that left no image of its own has the id <missing>.
    """
    steps: list[dict[str, Any]] = engine.json(
        "GET", f"/images/{quote(image, b'/:@')}/history", {"platform": platform or None}
    )
    now = time.time()
    rows = [_row(step, now, human=human, no_trunc=no_trunc) for step in steps]
    show(rows, _HEADINGS, _COLUMNS, format, only="ID" if quiet else "")
    return 0


def _row(step: dict[str, Any], now: float, *, human: bool, no_trunc: bool) -> Row:
    created, command = step["Created"], " ".join(step["CreatedBy"].split())
    if not no_trunc and len(command) > _LONGEST_COMMAND:
        command = command[: _LONGEST_COMMAND - 1] + "…"
    at = to_rfc3339_local(created * 10**9).replace(".000000000", "")
    return {
        "ID": step["Id"] if no_trunc else step["Id"].removeprefix("sha256:")[:12],
        "CreatedSince": f"{human_duration(now - created)} ago" if human else at,
        "CreatedAt": at,
        "CreatedBy": command,
        "Size": human_size(step["Size"], 3) if human else str(step["Size"]),
        "Comment": step["Comment"],
    }
