"""repositories.json: which images the store has, and what they are called.

    {"version": 2,
     "images": {"sha256:<hex>": {"added_ns": <int>, "tagged_ns": <int>,
                                 "parent": "sha256:<hex>", "manifest": "sha256:<hex>"}},
     "tags": {"busybox:latest": "sha256:<hex>"},
     "digests": {"busybox@sha256:<hex>": "sha256:<hex>"},
     "retired": {"sha256:<hex>": <added_ns>}}

This file is the point of commit: a blob or layer that it leads to was complete before it was
written, one that it does not lead to is garbage. Untagged images are in `images` alone. A parent is
there for what was committed, and stays as long as its children do. A manifest is there for what
came with one, and tagged_ns for what was given a name on this machine. Version 1 knew none of
manifests, digests and tagged_ns. Retired is what was removed by force while containers had it,
whose files they need: it is no image any more, and goes with the last of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from runtime.images import spare_room
from runtime.images.durable import write_durably
from runtime.images.errors import StoreCorrupted

_VERSION = 2
_OLDEST = 1
_ID = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)

Names = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
"""Image id -> its tags and its digests."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One state of the file; changes make a new one.

    Attributes:
        images: Image id -> ns since the epoch when it was added.
        tags: `name:tag` in the short form -> image id.
        parents: Image id -> id of the image that it was made of, where there is one.
        digests: `name@sha256:…` in the short form -> image id.
        manifests: Image id -> digest of the manifest that it came with, where there is one.
        tagged: Image id -> ns since the epoch when it was last given a name here, if ever.
        retired: Image id -> ns since the epoch when it was added; in none of the others.
    """

    images: dict[str, int] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    manifests: dict[str, str] = field(default_factory=dict)
    tagged: dict[str, int] = field(default_factory=dict)
    retired: dict[str, int] = field(default_factory=dict)

    def names(self) -> Names:
        """Of those that have any; sorted."""
        found: dict[str, tuple[list[str], list[str]]] = {}
        for kind, names in enumerate((self.tags, self.digests)):
            for name in sorted(names):
                found.setdefault(names[name], ([], []))[kind].append(name)
        return {image_id: (tuple(one[0]), tuple(one[1])) for image_id, one in found.items()}

    def tags_of(self, image_id: str) -> tuple[str, ...]:
        """The names of an image, sorted."""
        return tuple(sorted(tag for tag, holder in self.tags.items() if holder == image_id))

    def children_of(self, image_id: str) -> tuple[str, ...]:
        """The images that were made of containers of this one."""
        return tuple(child for child, parent in self.parents.items() if parent == image_id)

    def with_image(
        self,
        image_id: str,
        added_ns: int,
        tag: str = "",
        parent: str = "",
        digests: Iterable[str] = (),
        manifest: str = "",
        tagged_ns: int = 0,
    ) -> Catalogue:
        """Adds an image, or names to one; a name that another image has moves to it."""
        images = self.images | {image_id: self.images.get(image_id, added_ns)}
        return replace(
            self,
            images=images,
            tags=self.tags | ({tag: image_id} if tag else {}),
            parents=self.parents | ({image_id: parent} if parent else {}),
            digests=self.digests | dict.fromkeys(digests, image_id),
            manifests=self.manifests | ({image_id: manifest} if manifest else {}),
            tagged=self.tagged | ({image_id: tagged_ns} if tagged_ns else {}),
            retired={i: added for i, added in self.retired.items() if i != image_id},
        )

    def without_names(self, names: Iterable[str]) -> Catalogue:
        """Takes names away, of either kind; the images stay."""
        gone = frozenset(names)
        return replace(
            self,
            tags={name: one for name, one in self.tags.items() if name not in gone},
            digests={name: one for name, one in self.digests.items() if name not in gone},
        )

    def without_image(self, image_id: str) -> Catalogue:
        """Removes an image and its names."""
        return Catalogue(
            images={i: added for i, added in self.images.items() if i != image_id},
            tags={t: i for t, i in self.tags.items() if i != image_id},
            parents={i: parent for i, parent in self.parents.items() if i != image_id},
            digests={name: i for name, i in self.digests.items() if i != image_id},
            manifests={i: one for i, one in self.manifests.items() if i != image_id},
            tagged={i: at for i, at in self.tagged.items() if i != image_id},
            retired=self.retired,
        )

    def with_retired(self, image_id: str) -> Catalogue:
        """Removes an image and its names, but for its files."""
        retired = self.retired | {image_id: self.images[image_id]}
        return replace(self.without_image(image_id), retired=retired)

    def without_retired(self, image_ids: Iterable[str]) -> Catalogue:
        """Forgets images that are retired."""
        gone = frozenset(image_ids)
        return replace(self, retired={i: at for i, at in self.retired.items() if i not in gone})

    def save(self, path: Path) -> None:
        """Writes the file durably; one that gets shorter also on a full disk.

        Raises:
            OSError: The old file is still there, whole.
        """
        document = {
            "version": _VERSION,
            "images": {
                image_id: {"added_ns": added}
                | ({"parent": self.parents[image_id]} if image_id in self.parents else {})
                | ({"manifest": self.manifests[image_id]} if image_id in self.manifests else {})
                | ({"tagged_ns": self.tagged[image_id]} if image_id in self.tagged else {})
                for image_id, added in self.images.items()
            },
            "tags": self.tags,
            "digests": self.digests,
            "retired": self.retired,
        }
        data = json.dumps(document, indent=1).encode() + b"\n"
        try:
            write_durably(path, data)
        except OSError as refusal:
            spare_room.replace(path, data, refusal)
        else:
            spare_room.keep(path, len(data))


def load(path: Path) -> Catalogue:
    """Reads the file; a missing one is an empty catalogue.

    Raises:
        StoreCorrupted: It is not what `save` writes; it is left as it is.
        OSError: It can't be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Catalogue()
    try:
        document = json.loads(data)
        version = document["version"]
        images = {
            image_id: int(entry["added_ns"]) for image_id, entry in document["images"].items()
        }
        parents = {
            image_id: str(entry["parent"])
            for image_id, entry in document["images"].items()
            if entry.get("parent")
        }
        manifests = {
            image_id: str(entry["manifest"])
            for image_id, entry in document["images"].items()
            if entry.get("manifest")
        }
        tagged = {
            image_id: int(entry["tagged_ns"])
            for image_id, entry in document["images"].items()
            if entry.get("tagged_ns")
        }
        retired = {str(one): int(at) for one, at in document.get("retired", {}).items()}
        tags = {str(tag): str(image_id) for tag, image_id in document["tags"].items()}
        named = document.get("digests", {}) if version == _OLDEST else document["digests"]
        digests = {str(name): str(image_id) for name, image_id in named.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _corrupted(path, f"{type(error).__name__}: {error}") from None
    if version not in range(_OLDEST, _VERSION + 1):
        raise StoreCorrupted(
            f"{path} has version {version}, this engine knows version {_VERSION}: "
            "it was written by a newer engine"
        )
    for image_id in (*images, *retired):
        if not _ID.fullmatch(image_id):
            raise _corrupted(path, f"not an image id: {image_id}")
    for name, image_id in (*tags.items(), *digests.items()):
        if image_id not in images:
            raise _corrupted(path, f"{name} names an image that is not listed")
    return Catalogue(images, tags, parents, digests, manifests, tagged, retired)


def _corrupted(path: Path, words: str) -> StoreCorrupted:
    return StoreCorrupted(
        f"{path} is damaged ({words}); nothing was changed: restore it from a backup, or move it "
        "away to start with no images"
    )
