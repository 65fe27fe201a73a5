"""What an image is for: each is for one platform."""

from __future__ import annotations

from runtime.images.model import Image
from supervisor.errors import NotFound
from supervisor.registries import platforms
from supervisor.registries.manifests import PlatformSpec


def check(image: Image, wanted: PlatformSpec | None) -> None:
    """Refuse a platform that an image is not for; None is any.

    Raises:
        NotFound: It is for another; Docker's text.
    """
    if wanted is None:
        return
    own = PlatformSpec(image.os, image.architecture, image.variant)
    if platforms.fitness(own, wanted) is None:
        name = image.tags[0] if image.tags else image.short_id
        raise NotFound(
            f"image {name} was found but does not provide the specified platform "
            f"({platforms.shown(wanted)}): it is for {platforms.shown(own)}"
        )
