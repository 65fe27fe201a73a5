"""What images weigh, and what of it they share: a layer is stored once, for all that have it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from runtime.images.errors import StoreCorrupted
from runtime.images.model import Layer
from runtime.images.store import ImageStore


class Weight(NamedTuple):
    """Bytes of a layer.

    Attributes:
        files: The content of its files.
        archive: What it was unpacked from.
    """

    files: int
    archive: int

    @property
    def both(self) -> int:
        """What it takes of the disk, and what removing it gives back."""
        return self.files + self.archive


def weight(layer: Layer) -> Weight:
    """Weigh one layer."""
    return Weight(layer.size, layer.blob.size if layer.blob else 0)


class Weights:
    """The layers of all images, weighed; the image `host` counts as one layer."""

    def __init__(self, layers: Mapping[str, Mapping[str, Weight]]) -> None:
        """Takes each image's id, and its layers by their names."""
        self._layers = layers
        self._users = Counter(name for found in layers.values() for name in found)

    def images(self) -> set[str]:
        """The ids of those that could be weighed."""
        return set(self._layers)

    def total(self) -> int:
        """Bytes of all layers on the disk, each counted once."""
        distinct = {name: one for found in self._layers.values() for name, one in found.items()}
        return sum(one.both for one in distinct.values())

    def of(self, image_id: str) -> int:
        """Bytes of an image on the disk; 0 for one that could not be weighed."""
        return sum(one.both for one in self._found(image_id).values())

    def freed_with(self, image_ids: Iterable[str]) -> int:
        """Bytes that removing all of these images would give back."""
        gone = Counter(name for one in image_ids for name in self._found(one))
        distinct = {name: one for found in self._layers.values() for name, one in found.items()}
        return sum(distinct[name].both for name in gone if gone[name] == self._users[name])

    def archives(self, image_id: str) -> int:
        """Bytes of the archives that its layers came in."""
        return sum(one.archive for one in self._found(image_id).values())

    def shared(self, image_id: str) -> int:
        """Bytes on the disk of those of its layers that other images have, too."""
        return sum(one.both for one in self._shared(image_id))

    def shared_files(self, image_id: str) -> int:
        """The same without archives: the part of an image's size, as lists have it."""
        return sum(one.files for one in self._shared(image_id))

    def _found(self, image_id: str) -> Mapping[str, Weight]:
        return self._layers.get(image_id, {})

    def _shared(self, image_id: str) -> list[Weight]:
        found = self._found(image_id)
        return [one for name, one in found.items() if self._users[name] > 1]


def weigh(store: ImageStore) -> Weights:
    """Weigh all images. Reads the disk: a worker thread.

    A damaged one weighs nothing, which does not keep others from being told.
    """
    known: dict[str, Weight] = {}
    found: dict[str, dict[str, Weight]] = {}
    for image in store.images():
        if image.built_in:
            found[image.id] = {image.id: Weight(image.size, 0)}
            continue
        missing = tuple(one for one in image.diff_ids if one not in known)
        if missing:  # each record is read once
            try:
                found_now = store.layers_of(replace(image, diff_ids=missing))
            except StoreCorrupted:
                continue
            known |= {layer.diff_id: weight(layer) for layer in found_now}
        found[image.id] = {diff_id: known[diff_id] for diff_id in image.diff_ids}
    return Weights(found)
