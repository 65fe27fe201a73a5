"""Where names lead in an image, with what a new layer puts there.

The image's root is this process's own. Its links are followed as a container would follow them; a
link that the layer makes, or replaces, counts as the layer has it.
"""

from __future__ import annotations

import os

from runtime import archive_paths


class Places:
    """One image and one layer on it. Paths have no slash before them; b"" is the root."""

    def __init__(self) -> None:
        # What the layer puts where: a link's target, or None for anything else.
        self._made: dict[bytes, bytes | None] = {}
        self._directories: dict[bytes, bytes] = {}

    def real(self, path: bytes) -> bytes:
        """The place that a path means, every link followed, the last one too; perhaps a new one.

        Raises:
            Refused: It leads in circles.
        """
        return archive_paths.final_target(b"/" + path, self._target).lstrip(b"/")

    def real_directory(self, path: bytes) -> bytes:
        """As `real`; neighbours are found at once."""
        found = self._directories.get(path)
        if found is None:
            found = self._directories[path] = self.real(path)
        return found

    def put(self, place: bytes, target: bytes | None = None) -> None:
        """The layer has something at a place now: a link to `target`, or no link."""
        before = self._target(b"/" + place)
        self._made[place] = target
        if before != target:
            self._directories.clear()

    def has_made(self, place: bytes) -> bool:
        """Whether the layer has something there."""
        return place in self._made

    def status(self, place: bytes) -> os.stat_result | None:
        """What the image has at a place, where no link leads; None for nothing."""
        try:
            return os.lstat(b"/" + place)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _target(self, path: bytes) -> bytes | None:
        """What a link leads to; takes an absolute path."""
        place = path.lstrip(b"/")
        if place in self._made:
            return self._made[place]
        return archive_paths.target_of(path)
