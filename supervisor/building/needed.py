"""Which images builds under way need: nobody takes them away meanwhile."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

from runtime.images.model import ImageUser


class NeededByBuilds:
    """Those of all builds of one engine."""

    def __init__(self) -> None:
        self._images: dict[str, set[str]] = {}

    @contextlib.contextmanager
    def build(self) -> Iterator[set[str]]:
        """A build is under way while the block runs; it puts ids of images into the set."""
        called = f"build-{secrets.token_hex(3)}"
        images = self._images[called] = set()
        try:
            yield images
        finally:
            del self._images[called]

    def users(self) -> Iterator[tuple[str, ImageUser]]:
        """Each image that is needed, and by whom, as if that were a container that runs."""
        for called, images in self._images.items():
            for image_id in images:
                yield image_id, ImageUser(called, running=True)
