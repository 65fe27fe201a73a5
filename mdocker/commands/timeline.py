"""`timeline`: the phases of a container's life as bars."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

from mdocker.bars import BLOCKS, PLAIN, Span, bars
from mdocker.client import Engine
from mdocker.errors import FAILED, EngineRefused
from mdocker.options import flag, injected
from mdocker.output import complain, say, wants_colour
from mdocker.paths import container_path
from mdocker.times import from_rfc3339
from mdocker.units import human_span

_SUPERVISORS = 8
"""How many supervisors' coming is shown: what is asked about is the container."""

_LEAST_BAR = 16
_COLOURS = {
    "create": "36",
    "start": "34",
    "run": "32",
    "stop": "33",
    "stop.kill": "31",
    "drain": "36",
    "restart-delay": "35",
    "signal": "33",
    "paused": "90",
}


def timeline(
    name: str,
    /,
    *more: str,
    format: Annotated[
        str, flag("--format", "-f", help="json, or a Go template such as {{len .Phases}}")
    ] = "",
    linear: Annotated[
        bool,
        flag("--linear", help="Bars in true proportion; else short phases are drawn longer"),
    ] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Show the phases of containers' lives with their durations: when, how long, as bars.

    A bar that ends in an arrow goes on; a diamond is a moment. The bars stand in true order, but
    their lengths grow with the logarithm of the time, so that a start of 3 ms is seen beside a run
    of a week. The engine remembers about the last ten runs of a container, also when the engine
    itself has died in between.
    """
    template = None
    if format and format != "json":
        from mdocker.template import Template

        template = Template(format)
    code = 0
    shown = 0
    for wanted in (name, *more):
        try:
            found: dict[str, Any] = engine.json("GET", container_path(wanted, "timeline"))
        except EngineRefused as error:
            complain(str(error))
            code = FAILED
            continue
        if template is not None:
            say(template.render(found))
        elif format == "json":
            say(json.dumps(found, separators=(",", ":"), ensure_ascii=False))
        else:
            if shown:
                say("")
            for line in _lines(found, _width(), linear=linear, colour=wants_colour(1)):
                say(line)
        shown += 1
    return code


class _Row(NamedTuple):
    """A line of the picture: a phase, or the coming of a supervisor."""

    title: str
    kind: str
    span: Span
    took: str
    note: str


def _width() -> int:
    """The terminal's columns; for anything else what COLUMNS says, or 80."""
    try:
        return os.get_terminal_size(1).columns
    except OSError:
        told = os.environ.get("COLUMNS", "")
        return int(told) if told.isascii() and told.isdigit() else 80


def _lines(found: dict[str, Any], width: int, *, linear: bool, colour: bool) -> Iterator[str]:
    rows = sorted([*_phases(found), *_supervisors(found)], key=lambda row: row.span.begin)
    now = from_rfc3339(found["Now"])
    yield _headline(found, rows, now)
    if not rows:
        return
    first = rows[0].span.begin
    began = [f"+{human_span((row.span.begin - first) / 1e9)}" for row in rows]
    began[0] = "0"
    titles = _column("PHASE", [row.title for row in rows])
    begins = _column("AFTER", began)
    tooks = _column("TOOK", [row.took for row in rows])
    notes = max((len(row.note) for row in rows), default=0)
    used = len(titles[0]) + len(begins[0]) + len(tooks[0]) + (notes + 2 if notes else 0)
    room = max(width - used, _LEAST_BAR)
    letters = BLOCKS if (sys.stdout.encoding or "").lower().startswith("utf") else PLAIN
    drawn = bars([row.span for row in rows], now, room, letters, linear=linear)
    yield (titles[0] + begins[0] + tooks[0]).rstrip()
    for row, bar, *cells in zip(rows, drawn, titles[1:], begins[1:], tooks[1:], strict=True):
        shown = bar.ljust(room) if row.note else bar
        paint = _COLOURS.get(row.kind) or _COLOURS.get(row.kind.partition(".")[0])
        if colour and paint:
            shown = f"\x1b[{paint}m{shown}\x1b[0m"
        yield f"{''.join(cells)}{shown}" + (f"  {row.note}" if row.note else "")


def _headline(found: dict[str, Any], rows: list[_Row], now: int) -> str:
    name, state = str(found["Name"]).removeprefix("/"), found["State"]
    line = f"{name} ({str(found['Id'])[:12]}): {state}"
    if rows:
        line += f", created {human_span(max(now - rows[0].span.begin, 0) / 1e9)} ago"
    if found.get("Forgotten"):
        line += f"; {found['Forgotten']} older phases are forgotten"
    return line


def _column(heading: str, cells: list[str]) -> list[str]:
    width = max(map(len, (heading, *cells))) + 2
    return [cell.ljust(width) for cell in (heading, *cells)]


def _phases(found: dict[str, Any]) -> Iterator[_Row]:
    for phase in found["Phases"]:
        name = str(phase["Name"])
        whole, _, part = name.partition(".")
        begin = from_rfc3339(phase["Began"])
        end = from_rfc3339(phase["Ended"]) or None
        note = str(phase.get("Note") or "")
        count = phase.get("Count", 1)
        moment = end == begin or count > 1
        yield _Row(
            f"  {part}" if part else whole,
            name,
            Span(begin, begin if moment else end, bool(part)),
            "" if moment else human_span(phase["DurationNs"] / 1e9),
            f"{note} ({count} times)".strip() if count > 1 else note,
        )


def _supervisors(found: dict[str, Any]) -> Iterator[_Row]:
    coming = found.get("Supervisors") or []
    for number, one in enumerate(coming[-_SUPERVISORS:]):
        begin, end = from_rfc3339(one["Began"]), from_rfc3339(one["Ready"])
        earlier = len(coming) - _SUPERVISORS
        note = f"a new supervisor, pid {one['Pid']}"
        if number == 0 and earlier > 0:
            note += f", and {earlier} before it"
        yield _Row(
            "supervisor", "supervisor", Span(begin, end), human_span((end - begin) / 1e9), note
        )
