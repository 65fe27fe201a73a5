"""Which containers a line means: those that it names, all of them, or those that a filter fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mdocker.client import Engine
from mdocker.errors import FAILED, UsageError
from mdocker.listing import parse_filters

Fits = Callable[[str], bool]
"""Tells of a state, as the API spells it, whether --all means containers in it."""


def meant(
    engine: Engine,
    command: str,
    names: tuple[str, ...],
    fits: Fits,
    *,
    all: bool,
    filters: Sequence[str] | None = (),
) -> Sequence[str]:
    """Return the containers that a line means, by the names that it has or that they have.

    Args:
        engine: Where they are; asked only for --all and --filter.
        command: For the messages.
        names: What was typed.
        fits: In which states a container must be to be among all.
        all: --all was given.
        filters: What --filter was given; None for a command that has none.

    Raises:
        UsageError: Neither names nor one of the two, or both.
    """
    if all or filters:
        if names:
            option = "--all" if all else "--filter"
            raise UsageError(f"'mdocker {command}' takes names or {option}, not both", FAILED)
        query = {"all": True, "filters": parse_filters(filters or ())}
        listed: list[dict[str, Any]] = engine.json("GET", "/containers/json", query)
        return [_name(container) for container in listed if fits(str(container["State"]))]
    if not names:
        other = "--all" if filters is None else "--all or --filter"
        raise UsageError(f"'mdocker {command}' requires at least 1 argument, or {other}", FAILED)
    return names


def _name(container: dict[str, Any]) -> str:
    names = container.get("Names") or [container["Id"]]
    return str(names[0]).removeprefix("/")
