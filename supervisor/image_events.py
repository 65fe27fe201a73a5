"""What happens to images, told as Docker tells it: with the labels of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.images.model import Image

if TYPE_CHECKING:
    from supervisor.engine import Engine


def publish(engine: Engine, action: str, image: Image, name: str, actor: str = "") -> None:
    """Tell of something that was done to an image.

    Args:
        name: What the event calls it: of `tag` the new name, of `pull` and `push` the repository,
            of the others its id.
        actor: What it was done to, where that is a name and not the image.
    """
    labels = image.config.get("Labels") or {}
    attributes = {**{key: str(value) for key, value in labels.items()}, "name": name}
    engine.events.publish("image", action, actor or image.id, attributes)
