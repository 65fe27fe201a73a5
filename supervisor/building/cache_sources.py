"""`--cache-from`: steps that an image from elsewhere has in its history are not done again.

Nothing is left of such an image's steps but its history and its layers. As in Docker's classic
builder, what a step made is put together anew from both, if all before it are the same, and its
words are.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from runtime.images.errors import ImageError
from runtime.images.holding import Hold
from runtime.images.model import Image
from supervisor.building.cache import said
from supervisor.transfers.pulling import held

if TYPE_CHECKING:
    from supervisor.engine import Engine


class CacheSources:
    """The images of one build's `--cache-from` that are here."""

    def __init__(self, engine: Engine, names: Sequence[str]) -> None:
        self._engine = engine
        self._only_these = bool(names)
        self._images: list[Image] = []
        for name in names:
            try:
                image = engine.images.resolve(name)
            except ImageError:
                continue  # as in Docker, nobody asks a registry for it
            if not image.built_in and not image.base:
                self._images.append(image)
        self._named = tuple(self._images)

    def admit(self, image: Image) -> bool:
        """Whether a step of this machine's own cache counts.

        As in Docker's classic builder, where images are named it is one of theirs or none.
        """
        return not self._only_these or any(
            _begins_with(one, image.history, image.diff_ids) for one in self._named
        )

    async def find(
        self, parent: Image | None, created_by: str, config: Mapping[str, Any]
    ) -> Image | None:
        """Return what a step makes, None where none of them has it.

        Raises:
            ImageError: This machine failed.
        """
        for image in self._images:
            if _goes_on(image, parent, created_by):
                count = len(parent.history if parent else ()) + 1
                # The others know of other steps.
                self._images = [image]
                return await self._restored(image, count, config)
        return None

    async def _restored(self, source: Image, count: int, config: Mapping[str, Any]) -> Image:
        """The image that the first steps of another one have made."""
        if count == len(source.history) and source.config == said(config):
            return source
        history = source.history[:count]
        layers = source.diff_ids[: sum(not step.get("empty_layer") for step in history)]
        document = {
            "architecture": source.architecture,
            "os": source.os,
            "created": history[-1].get("created", "1970-01-01T00:00:00Z"),
            "config": dict(config),
            "rootfs": {"type": "layers", "diff_ids": list(layers)},
            "history": list(history),
        }
        if author := history[-1].get("author"):
            document["author"] = author
        encoded = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
        async with held(self._engine) as hold:
            return await anyio.to_thread.run_sync(
                functools.partial(_add, hold, layers, encoded), limiter=self._engine.limits.images
            )


def _add(hold: Hold, layers: Sequence[str], config: bytes) -> Image:
    for diff_id in layers:
        hold.layer(diff_id)
    return hold.add_image(config)


def _goes_on(image: Image, parent: Image | None, created_by: str) -> bool:
    """Whether an image's history is a parent's, and the step behind that."""
    before = parent.history if parent else ()
    layers = parent.diff_ids if parent else ()
    return (
        _begins_with(image, before, layers)
        and len(image.history) > len(before)
        and image.history[len(before)].get("created_by") == created_by
    )


def _begins_with(image: Image, history: Sequence[Mapping[str, Any]], layers: Sequence[str]) -> bool:
    same_steps = image.history[: len(history)] == history
    return same_steps and image.diff_ids[: len(layers)] == layers
