"""`pause` and `unpause`."""

from __future__ import annotations

from typing import Annotated

from mdocker.client import Engine
from mdocker.commands.lifecycle import each
from mdocker.meant import Fits, meant
from mdocker.messages import Request
from mdocker.options import flag, injected
from mdocker.paths import container_path


def pause(
    *containers: str,
    all: Annotated[bool, flag("--all", "-a", help="Every container that runs")] = False,
    filter: Annotated[
        tuple[str, ...], flag("--filter", "-f", help="Of all, those that fit, as in 'ps --filter'")
    ] = (),
    engine: Annotated[Engine, injected()],
) -> int:
    """Stop all processes of containers where they are, until `unpause`.

    They keep their memory and get no processor; what they would answer waits. `stop`, `kill` and
    `rm -f` work as ever. Their health is not checked meanwhile.
    """
    return _each(engine, "pause", containers, lambda state: state == "running", all, filter)


def unpause(
    *containers: str,
    all: Annotated[bool, flag("--all", "-a", help="Every container that is paused")] = False,
    filter: Annotated[
        tuple[str, ...], flag("--filter", "-f", help="Of all, those that fit, as in 'ps --filter'")
    ] = (),
    engine: Annotated[Engine, injected()],
) -> int:
    """Let paused containers go on where they were."""
    return _each(engine, "unpause", containers, lambda state: state == "paused", all, filter)


def _each(
    engine: Engine,
    verb: str,
    containers: tuple[str, ...],
    fits: Fits,
    all: bool,
    filters: tuple[str, ...],
) -> int:
    names = meant(engine, verb, containers, fits, all=all, filters=filters)
    return each(engine, names, lambda one: Request.make("POST", container_path(one, verb)))
