"""`system check`: is the image store what it should be?"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from typing import Annotated, Any

from mdocker.client import Engine
from mdocker.connection import each_line
from mdocker.errors import FAILED, EngineCut, UsageError
from mdocker.messages import read_news
from mdocker.options import flag, injected
from mdocker.output import is_terminal, say
from mdocker.units import human_size
from mdocker.upload import progress


def check(
    *,
    format: Annotated[str, flag("--format", "-f", help="json, or nothing for lines")] = "",
    quiet: Annotated[bool, flag("--quiet", "-q", help="Only the findings")] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Read all images again, and tell what is not as it was stored.

    Every blob is hashed, each layer's files are compared with its archive (kind, mode, owner,
    times, content, links, devices, attributes, nothing beside them), and leftovers are found.
    Each finding is a line that says what to do. Nothing is changed; containers, pulls and
    builds go on meanwhile. Exits with 0 if all is well, and with 1 if there are findings.
    """
    if format not in ("", "json"):
        raise UsageError(f"unknown format {format!r}: --format json is all there is")
    with engine.stream("GET", "/mdocker/check") as stream, ExitStack() as bars:
        telling = _Telling(bars, at_once=not format and not is_terminal(2))
        each_line(stream, telling.take)
    if not telling.summary:
        raise EngineCut("the engine went away in the middle of the check: ask again")
    if format:
        found = {"Findings": telling.findings, "Summary": telling.summary}
        say(json.dumps(found, separators=(",", ":"), ensure_ascii=False))
    else:
        for finding in telling.findings if not telling.at_once else ():
            say(_line(finding))
        if not quiet:
            say(_end(telling.summary))
    return FAILED if telling.findings else 0


class _Telling:
    """What the engine says of a check, line by line.

    Attributes:
        at_once: Findings are printed as they come: no bar is in the way.
    """

    def __init__(self, bars: ExitStack, *, at_once: bool) -> None:
        self.findings: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.at_once = at_once
        self._bars = bars
        self._advance: Callable[[int], None] | None = None
        self._done = 0

    def take(self, line: bytes) -> bool:
        """Take a line; always to go on.

        Raises:
            EngineRefused: The check failed.
            EngineUnreachable: It is no JSON.
        """
        news = read_news(line)
        if "Finding" in news:
            self.findings.append(news["Finding"])
            if self.at_once:
                say(_line(news["Finding"]))
        elif "Progress" in news:
            self._show(**news["Progress"])
        else:
            self.summary = news.get("Summary") or self.summary
        return True

    def _show(self, Done: int, Total: int) -> None:
        if self._advance is None:
            self._advance = self._bars.enter_context(progress("Checking", Total))
        self._advance(Done - self._done)
        self._done = Done


def _line(finding: dict[str, Any]) -> str:
    where = str(finding["Subject"])
    digest = where.removeprefix("sha256:")
    short = digest[:12] if digest != where else where
    return f"{finding['Kind']} {short}: {finding['Words']}; {finding['Advice']}"


def _end(summary: dict[str, Any]) -> str:
    looked = (
        f"{summary['Images']} images, {summary['Layers']} layers, {summary['Blobs']} blobs "
        f"({human_size(summary['Bytes'])} of archives)"
    )
    if summary["WithoutArchive"]:
        looked += (
            f"; {summary['WithoutArchive']} layers of an older engine have no archive, and could "
            "not be compared"
        )
    found = summary["Findings"]
    return f"Checked {looked}: {f'{found} findings' if found else 'all is well'}"
