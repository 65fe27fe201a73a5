"""What a store holds at one moment, and the one way to change it.

Readers take `known` as it is, without a lock. Whoever changes something does it under `writing`:
first on disk, then in memory.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from runtime.images import catalogue, configuration
from runtime.images.archive_members import StagingJob
from runtime.images.blobs import Blobs
from runtime.images.errors import ImportFailed, StoreCorrupted
from runtime.images.layers import Layers
from runtime.images.lookup import Known
from runtime.images.model import Image, Layer
from runtime.images.trees import remove_tree
from runtime.images.unpacking import Unpacked, UnpackJob

_T = TypeVar("_T")


class Contents:
    """The files of one store, and what is known of them.

    Attributes:
        writing: Held while something is changed; whoever holds it syncs to disk.
        staging: Where half-made things are, and things that are being removed.
        blobs: By digest.
        layers: By diff id.
        known: All images; replaced as a whole.
    """

    def __init__(self, root: Path) -> None:
        """Opens them, or makes them anew.

        Raises:
            StoreCorrupted: repositories.json is not what the store writes.
            OSError: The directories can't be made or read.
        """
        self.writing = threading.Lock()
        self.staging = root / "staging"
        self.blobs = Blobs(root / "blobs" / "sha256")
        self._index = root / "repositories.json"
        # 0700: layers hold setuid programs that users of this machine must not reach.
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory in (self.blobs.directory, self.staging):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.layers = Layers(root / "layers", self.staging, self.blobs)
        self._jobs: set[Path] = set()
        self._held: Counter[str] = Counter()
        listed = catalogue.load(self._index)
        names = listed.names()
        images: dict[str, Image] = {}
        broken: dict[str, str] = {}
        for image_id in listed.images:
            try:
                images[image_id] = _as_listed(self.read(image_id, listed), listed, names)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                broken[image_id] = f"{type(error).__name__}: {error}"
        retired: dict[str, Image] = {}
        for image_id in listed.retired:
            # Of one that is damaged its containers say that it is gone.
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                retired[image_id] = self.read(image_id, listed)
        self.known = Known(listed, images, broken, retired)

    def read(self, image_id: str, listed: catalogue.Catalogue) -> Image:
        """An image from its blob and layers, checked against their digests; without its names.

        Raises:
            OSError, ValueError, KeyError, TypeError, AttributeError: It is damaged.
        """
        document: dict[str, Any] = json.loads(self.blobs.read(image_id))
        sizes = [
            self.layers.get(diff_id).size for diff_id in document["rootfs"].get("diff_ids") or ()
        ]
        return configuration.decode(
            image_id,
            document,
            (),
            sum(sizes),
            parent=listed.parents.get(image_id, ""),
        )

    def save(self, changed: catalogue.Catalogue, new: Image | None = None) -> None:
        """Commits a change of the list of images: first on disk, then in memory.

        Raises:
            OSError: Nothing was changed.
        """
        changed.save(self._index)
        images = dict(self.known.images)
        if new is not None:
            images[new.id] = new
        names = changed.names()
        self.known = Known(
            changed,
            {
                image_id: _as_listed(image, changed, names)
                for image_id, image in images.items()
                if image_id in changed.images
            },
            self.known.broken,
            {
                image_id: image
                for image_id, image in {**self.known.images, **self.known.retired}.items()
                if image_id in changed.retired
            },
        )

    def begin_unpacking(
        self, commit: Callable[[Unpacked], _T], *, is_layer: bool, file: Path | None = None
    ) -> UnpackJob[_T]:
        """Starts the unpacking of an archive.

        Args:
            commit: Makes of the unpacked layer what the job's `finish` returns.
            is_layer: It lies above others, or may.
            file: The archive, if it is in staging already.

        Raises:
            ImportFailed: The child can't be started.
        """
        directory = self._new_place("import")
        try:
            return UnpackJob(directory, commit, self._jobs.discard, is_layer=is_layer, file=file)
        except OSError as error:
            raise ImportFailed(f"cannot begin to make an image: {error}") from error

    def begin_staging(self) -> StagingJob:
        """Starts taking an archive of images apart; what the job gives must be removed.

        Raises:
            ImportFailed: The child can't be started.
        """
        directory = self._new_place("import")
        try:
            return StagingJob(directory, self._new_place("archive"), self._jobs.discard)
        except OSError as error:
            raise ImportFailed(f"cannot begin to load images: {error}") from error

    def _new_place(self, what: str) -> Path:
        """A name in staging of something that is worked on, until it is forgotten."""
        place = self.staging / f"{what}-{secrets.token_hex(8)}"
        self._jobs.add(place)
        return place

    def take_in_hand(self, staged: Path) -> bool:
        """Has what is in staging there left to the caller; False if somebody else is at it."""
        if staged in self._jobs:
            return False
        self._jobs.add(staged)
        return True

    def is_in_hand(self, staged: Path) -> bool:
        """Whether somebody is making, or removing, what is in staging there."""
        return staged in self._jobs

    # --- layers in hand ---

    def keep(self, diff_id: str, kept: set[str]) -> None:
        """Has a layer kept; `kept` is whoever wants it to be, and has it once."""
        if diff_id not in kept:
            kept.add(diff_id)
            self._held[diff_id] += 1

    def let_go(self, kept: set[str]) -> list[tuple[str, Path]]:
        """Ends what `keep` began, and takes away what is of no use to anybody, as `take_unused`."""
        self._held.subtract(kept)
        self._held = +self._held
        taken = self.take_unused(kept)
        kept.clear()
        return taken

    def layers_in_use(self) -> set[str]:
        """The diff ids of what an image has, or somebody in hand."""
        return self.known.layers_in_use() | set(self._held)

    def take_unused(self, diff_ids: Iterable[str]) -> list[tuple[str, Path]]:
        """Moves those that nobody uses any more into staging, to be discarded: (diff id, where)."""
        used = self.layers_in_use()
        taken = []
        for diff_id in diff_ids:
            directory = None if diff_id in used else self.layers.take(diff_id)
            if directory is not None:
                self._jobs.add(directory)
                taken.append((diff_id, directory))
        return taken

    def discard(self, path: Path) -> None:
        """Removes garbage; what can't be removed stays for the next sweep."""
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                remove_tree(path)
            else:
                path.unlink(missing_ok=True)
        self._jobs.discard(path)

    def catalogue_trouble(self) -> str:
        """How the catalogue on disk differs from what is known, in words; empty if it does not."""
        try:
            there = catalogue.load(self._index)
        except (OSError, StoreCorrupted) as error:
            return str(error)
        return "" if there == self.known.catalogue else "it is not what the engine has written"

    def blobs_in_use(self) -> set[str]:
        """The digests of all that images, and layers in use, are made of. Reads files."""
        listed = self.known.catalogue
        layers: list[Layer | None] = [self.layers.find(one) for one in self.layers_in_use()]
        archives = {layer.blob.digest for layer in layers if layer is not None and layer.blob}
        return {*listed.images, *listed.retired, *listed.manifests.values()} | archives


def _as_listed(image: Image, listed: catalogue.Catalogue, names: catalogue.Names) -> Image:
    """The image with what the list says of it."""
    tags, digests = names.get(image.id, ((), ()))
    manifest, tagged_ns = listed.manifests.get(image.id, ""), listed.tagged.get(image.id, 0)
    known = (image.tags, image.digests, image.manifest, image.tagged_ns)
    if known == (tags, digests, manifest, tagged_ns):
        return image
    return replace(image, tags=tags, digests=digests, manifest=manifest, tagged_ns=tagged_ns)
