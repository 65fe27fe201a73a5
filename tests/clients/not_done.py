"""What the engine refuses by name, so that each client can be asked what it makes of it."""

from __future__ import annotations

from supervisor.api import missing
from supervisor.api.missing import words

__all__ = ["still_refused", "untold", "words"]


def still_refused(asked):
    """Those names of a table of requests that the engine does not do yet."""
    return [what for what in asked if what in missing._NOT_DONE]


def untold(asked):
    """What the engine refuses and nobody asks for in that table."""
    return sorted(set(missing._NOT_DONE) - set(asked))
