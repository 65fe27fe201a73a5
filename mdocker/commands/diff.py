"""`diff`."""

from __future__ import annotations

from typing import Annotated

from mdocker.client import Engine
from mdocker.errors import FAILED, UsageError
from mdocker.options import injected
from mdocker.output import legible, say
from mdocker.paths import container_path

_LETTERS = {0: "C", 1: "A", 2: "D"}


def diff(container: str, /, *, engine: Annotated[Engine, injected()]) -> int:
    """Show what a container has changed in its image's files: A added, C changed, D deleted.

    A directory is changed if its own attributes are, or if something was added to or deleted
    from it. What lies in mounts belongs to no image and is not told.
    """
    if not container:
        raise UsageError("Container name cannot be empty", FAILED)
    for change in engine.json("GET", container_path(container, "changes")) or ():
        say(f"{_LETTERS[change['Kind']]} {legible(change['Path'])}")
    return 0
