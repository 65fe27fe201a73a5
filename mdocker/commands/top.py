"""`top`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from mdocker.client import Engine
from mdocker.options import injected
from mdocker.output import legible, table
from mdocker.paths import container_path


def top(
    container: str,
    /,
    *ps_options: str,
    engine: Annotated[Engine, injected()],
) -> int:
    """Show the processes of a container, by the host's `ps` and with the host's pids.

    What stands behind the container is for ps: `mdocker top bird -o pid,rss,comm` or
    `mdocker top bird aux`; the column PID must be among it. Without it: -ef.
    """
    query = {"ps_args": " ".join(ps_options) or None}
    listing: dict[str, Any] = engine.json("GET", container_path(container, "top"), query)
    rows = [[legible(cell) for cell in row] for row in listing["Processes"] or ()]
    sys.stdout.write(table([listing["Titles"], *rows]))
    return 0
