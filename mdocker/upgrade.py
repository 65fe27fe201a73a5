"""`daemon --upgrade`: have the running engine swap itself for the version that is installed now."""

from __future__ import annotations

import os
from typing import Any

from mdocker.client import Engine
from mdocker.output import say
from mdocker.settings import Settings


def upgrade(place: Settings, *, wait: bool) -> None:
    """Ask for it, wait until the new version answers, and say which it is.

    Args:
        wait: A service manager must not: should the new version fail when it has taken over, the
            manager starts it again only once its reload, which we are, has ended.

    Raises:
        EngineUnreachable: No engine runs; there is nothing to upgrade.
        EngineRefused: The installed version does not start, or not now; the old one goes on.
    """
    with Engine(place._replace(may_start=False)) as engine:
        before = _version(engine)
        engine.call("POST", "/mdocker/upgrade")
    if not wait:
        return
    # Another connection: it waits at the door until the new version opens it.
    with Engine(place._replace(may_start=False)) as engine:
        after = _version(engine)
    say(f"mdocker {before} has handed over to {after} (process {_pid(place)})")


def _version(engine: Engine) -> str:
    told: Any = engine.json("GET", "/version")
    return str(told["Version"])


def _pid(place: Settings) -> str:
    path = os.path.join(os.path.dirname(place.socket), "supervisor.pid")
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return "unknown"
