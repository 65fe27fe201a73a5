"""What an image is called in a list of containers."""

from __future__ import annotations

from runtime.images.errors import ImageError
from supervisor.container import Container
from supervisor.engine import Engine


class ImageNames:
    """An image's name in a list, while it still means that image. Each is looked up once."""

    def __init__(self, engine: Engine) -> None:
        self._images = engine.images
        self._ids: dict[str, str] = {}

    def shown(self, container: Container) -> str:
        """Return the name, or the image's id where the name means another image now."""
        name, image_id = container.config.image, container.config.image_id
        current = self._ids.get(name)
        if current is None:
            try:
                current = self._images.resolve(name).id
            except ImageError:
                current = ""
            self._ids[name] = current
        return name if current == image_id else image_id
