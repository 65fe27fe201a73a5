"""Where names lead in an image, with what a new layer puts there.

The image's root is this process's own. Its links are followed as a container would follow them; a
link that the layer makes, or replaces, counts as the layer has it.
"""

from __future__ import annotations

import os
import stat

from runtime.archive_order import REFUSED, Refused
from runtime.images.entry_names import shown

_MOST_LINKS = 255


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
        todo = path.split(b"/")[::-1]
        done: list[bytes] = []
        followed = 0
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                del done[-1:]
                continue
            done.append(part)
            target = self._target(b"/".join(done))
            if target is None:
                continue
            followed += 1
            if followed > _MOST_LINKS:
                words = shown(os.fsdecode(path))
                raise Refused(REFUSED, f"lstat /{words}: too many levels of symbolic links")
            done.pop()
            if target.startswith(b"/"):
                done.clear()
            todo.extend(target.split(b"/")[::-1])
        return b"/".join(done)

    def real_directory(self, path: bytes) -> bytes:
        """As `real`; neighbours are found at once."""
        found = self._directories.get(path)
        if found is None:
            found = self._directories[path] = self.real(path)
        return found

    def put(self, place: bytes, target: bytes | None = None) -> None:
        """The layer has something at a place now: a link to `target`, or no link."""
        before = self._target(place)
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

    def _target(self, place: bytes) -> bytes | None:
        if place in self._made:
            return self._made[place]
        status = self.status(place)
        if status is None or not stat.S_ISLNK(status.st_mode):
            return None
        return os.readlink(b"/" + place)
