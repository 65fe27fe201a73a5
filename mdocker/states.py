"""Containers' states, as the API spells them: which of them a command is about. Pure."""

from __future__ import annotations

_RUNNING = frozenset({"running", "paused", "restarting"})


def runs(state: str) -> bool:
    """Whether there is something to stop: a process, or the wait for its restart."""
    return state in _RUNNING


def rests(state: str) -> bool:
    """Whether it may be started or removed as it is."""
    return state not in _RUNNING


def is_paused(state: str) -> bool:
    """Whether it can be thawed."""
    return state == "paused"


def exists(_state: str) -> bool:
    """Whether it is a container at all."""
    return True
