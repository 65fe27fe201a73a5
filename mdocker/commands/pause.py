"""`pause` and `unpause`."""

from __future__ import annotations

import json
from typing import Annotated

from mdocker.client import Engine
from mdocker.commands.lifecycle import each
from mdocker.errors import FAILED, UsageError
from mdocker.messages import Request
from mdocker.options import flag, injected
from mdocker.paths import container_path


def pause(
    *containers: str,
    all: Annotated[bool, flag("--all", "-a", help="Every container that runs")] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Stop all processes of containers where they are, until `unpause`.

    They keep their memory and get no processor; what they would answer waits. `stop`, `kill` and
    `rm -f` work as ever. Their health is not checked meanwhile.
    """
    return _each(engine, "pause", containers, all, "running")


def unpause(
    *containers: str,
    all: Annotated[bool, flag("--all", "-a", help="Every container that is paused")] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Let paused containers go on where they were."""
    return _each(engine, "unpause", containers, all, "paused")


def _each(engine: Engine, verb: str, names: tuple[str, ...], all: bool, state: str) -> int:
    if all:
        if names:
            raise UsageError(f"'mdocker {verb}' takes names or --all, not both", FAILED)
        filters = json.dumps({"status": {state: True}})
        listed = engine.json("GET", "/containers/json", {"filters": filters})
        names = tuple(one["Names"][0].removeprefix("/") for one in listed)
    elif not names:
        raise UsageError(f"'mdocker {verb}' requires at least 1 argument, or --all", FAILED)
    return each(engine, names, lambda one: Request.make("POST", container_path(one, verb)))
