"""The layer cache: a step that was done before on the same image is not done again.

The images themselves are the cache, as in Docker's classic builder: a child of the parent whose
history ends with the same words, which have the sums of copied files in them, and the values of
build arguments that a command could see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runtime.images.model import Image

if TYPE_CHECKING:
    from supervisor.engine import Engine


def find(
    engine: Engine,
    parent: Image | None,
    created_by: str,
    config: Mapping[str, Any],
    author: str,
    command: Sequence[str] = (),
) -> Image | None:
    """Return what a step has made before; the newest of several.

    Args:
        parent: What it is done on; None for a step from scratch.
        created_by: What the history says of it.
        config: What comes of it.
        command: Of a RUN, word by word: `created_by` does not tell where one ends.
    """
    wanted = said(config)
    steps = len(parent.history if parent else ()) + 1
    found = [
        image
        for image in engine.images.images()
        if image.parent == (parent.id if parent else "")
        and not image.built_in
        and len(image.history) == steps
        and image.history[-1].get("created_by") == created_by
        and image.config == wanted
        and image.author == author
        and image.container_command == tuple(command)
    ]
    return max(found, key=lambda image: image.created_ns, default=None)


def said(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what it does not say, as images have it."""
    return {key: value for key, value in config.items() if value not in (None, "")}
