"""`stats`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any

from mdocker.client import Engine
from mdocker.errors import EngineCut
from mdocker.listing import rendered
from mdocker.messages import Request
from mdocker.options import flag, injected
from mdocker.output import is_terminal, say, wants_colour
from mdocker.stats_rows import COLUMNS, HEADINGS, pictured, row


def stats(
    *containers: str,
    all: Annotated[bool, flag("--all", "-a", help="Also those that do not run")] = False,
    format: Annotated[str, flag("--format", help="json, a Go template, or 'table TEMPLATE'")] = "",
    no_stream: Annotated[bool, flag("--no-stream", help="Once, and not again each second")] = False,
    no_trunc: Annotated[bool, flag("--no-trunc", help="Cut nothing short")] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Show what containers use, each second anew until Ctrl-C: those that run, or those named.

    100 % of CPU is one processor. MEM counts without the part of the page cache that can go at
    once; where no limit has the kernel count, it is what the processes hold themselves. What the
    kernel does not tell on this machine is "--".
    """
    query = {
        "names": ",".join(containers) or None,
        "all": True if all else None,
        "stream": not no_stream,
    }
    if no_stream:
        samples = engine.json("GET", "/mdocker/stats", query)
        sys.stdout.write(_text(samples, format, no_trunc=no_trunc))
        return 0
    rounds = _rounds(engine, Request.make("GET", "/mdocker/stats", query))
    if is_terminal(1):
        from mdocker.screen import Screen

        with Screen() as screen:
            for samples in rounds:
                screen.show(_text(samples, format, no_trunc=no_trunc))
        return 0
    headed = format in ("", "table") or format.startswith("table ")
    for number, samples in enumerate(rounds):
        if headed and number:
            say("")
        sys.stdout.write(_text(samples, format, no_trunc=no_trunc))
        sys.stdout.flush()
    return 0


def _text(samples: list[dict[str, Any]], format: str, *, no_trunc: bool) -> str:
    if not format and is_terminal(1):
        import shutil

        blocks = (sys.stdout.encoding or "").lower().startswith("utf")
        return pictured(
            samples,
            no_trunc=no_trunc,
            blocks=blocks,
            colour=wants_colour(1),
            width=shutil.get_terminal_size().columns,
        )
    rows = [row(sample, no_trunc=no_trunc) for sample in samples]
    return rendered(rows, HEADINGS, COLUMNS, format)


def _rounds(engine: Engine, request: Request) -> Iterator[list[dict[str, Any]]]:
    """Each round of samples, as it comes; after an engine's death those of the next one."""
    stream = engine.begin(request)
    while True:
        rest = b""
        try:
            with stream:
                while not stream.ended:
                    for piece in stream.read():
                        *lines, rest = (rest + bytes(piece)).split(b"\n")
                        for line in lines:
                            yield json.loads(line)
            return
        except EngineCut as cut:
            from mdocker.comeback import begin_again

            stream = begin_again(engine, request, cut)
