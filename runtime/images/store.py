"""The image store: what the engine asks for images.

    <root>/repositories.json         the catalogue; see `catalogue`
    <root>/blobs/sha256/<hex>        configurations, manifests, archives of layers; see `blobs`
    <root>/layers/<diff id>/…        unpacked layers; see `layers`
    <root>/host/…                    the built-in image; see `host`
    <root>/staging/…                 half-made things; what is here at start-up is garbage

An image comes to be in this order: layers renamed out of staging, blobs, catalogue. It goes in the
opposite one. So a crash at any moment leaves garbage at worst, which `sweep` removes. What a pull,
a load or a build has in hand is no garbage; see `holding`.

All methods may be called from any thread. Looking (`host`, `images`, `resolve`, `layers`) waits for
no lock and no disk, so it suits the event loop. `begin_import` starts a process (ms). `delete`,
`sweep`, `UnpackJob.finish` and `UnpackJob.abort` sync to disk or remove trees: worker thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from runtime.images import catalogue, configuration, lookup, references, removal
from runtime.images.blobs import Blobs, digest_of
from runtime.images.changes import apply_changes
from runtime.images.errors import (
    BuiltInImage,
    ImageNotFound,
    ImportFailed,
    ImportRefused,
    InvalidReference,
    StoreCorrupted,
)
from runtime.images.holding import Hold
from runtime.images.host import HostImage
from runtime.images.layers import Layers
from runtime.images.lookup import HOST_NAME, Known
from runtime.images.model import Deleted, Image, ImageUser, Layer, Removal, RootfsLayers, Untagged
from runtime.images.trees import remove_tree
from runtime.images.unpacking import Unpacked, UnpackJob, words_of

_COPY = 1 << 20

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _New:
    """What an image will be, beside its files.

    Attributes:
        tag: `name:tag`, or empty.
        parent: What it is made of; None where its layer is all of it.
        is_step: Its layer lies above others, or is the first of several; an empty one is none.
    """

    tag: str
    step: configuration.Step
    inherited: dict[str, Any] = field(default_factory=dict)
    parent: Image | None = None
    is_step: bool = False


def nobody(image_id: str) -> Iterable[ImageUser]:
    """No container uses any image: the default for `ImageStore.delete`."""
    return ()


class ImageStore:
    """All images of one engine.

    Attributes:
        root: Its directory.
    """

    def __init__(self, root: Path) -> None:
        """Opens the store, or makes an empty one.

        Raises:
            StoreCorrupted: repositories.json is not what the store writes.
            OSError: The directories can't be made or read.
        """
        self.root = Path(root)
        self._staging = self.root / "staging"
        self._blobs = Blobs(self.root / "blobs" / "sha256")
        self._layers = Layers(self.root / "layers", self._staging, self._blobs)
        self._index = self.root / "repositories.json"
        # 0700: layers hold setuid programs that users of this machine must not reach.
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory in (self._blobs.directory, self._layers.directory, self._staging):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Writers sync to disk while they hold it; readers take `_known` as it is, without it.
        self._writing = threading.Lock()
        self._host = HostImage(self.root / "host", self._staging)
        self._jobs: set[Path] = set()
        self._held: Counter[str] = Counter()
        listed = catalogue.load(self._index)
        images: dict[str, Image] = {}
        broken: dict[str, str] = {}
        for image_id in listed.images:
            try:
                images[image_id] = self._read(image_id, listed)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                broken[image_id] = f"{type(error).__name__}: {error}"
        self._known = Known(listed, images, broken)

    # --- looking ---

    @property
    def broken(self) -> Mapping[str, str]:
        """Image id -> why it can't be used; such images are left on disk as they are."""
        return self._known.broken

    def host(self) -> Image:
        """The built-in image `host:latest`, built now if it never was."""
        return self._host.image()

    def refresh_host(self) -> Image:
        """Builds the `host` image anew if this machine's /etc changed; about 1 ms if not.

        Raises:
            OSError: It could not be built; the previous one still counts.
        """
        return self._host.refresh()

    def images(self) -> list[Image]:
        """All usable images, `host` among them, the newest first."""
        found = [self._host.image(), *self._known.images.values()]
        return sorted(found, key=lambda image: (-image.created_ns, image.id))

    def resolve(self, reference: str) -> Image:
        """The image that a name[:tag], an id or an unambiguous beginning of an id means.

        Raises:
            ImageNotFound, AmbiguousImage, InvalidReference: Docker's texts.
            StoreCorrupted: The image is listed but can't be used.
        """
        return lookup.find(reference, self._known, self._host.image)

    def layers(self, image: Image) -> RootfsLayers:
        """What a container of this image is mounted from."""
        if image.built_in:
            return self._host.layers()
        # overlayfs refuses a directory twice; the upper of two that are alike hides the lower.
        distinct = dict.fromkeys(reversed(image.diff_ids))
        lower = tuple(str(self._layers.path(diff_id) / "fs") for diff_id in distinct)
        if image.base:
            machine = self._host.layers()
            return RootfsLayers(lower + machine.lower, machine.binds)
        return RootfsLayers(lower)

    def layer_sizes(self, image: Image) -> list[int]:
        """Bytes of file content in each of its layers, the lowest first. Reads files.

        Raises:
            StoreCorrupted: A layer's record can't be read.
        """
        if image.built_in:
            return [image.size]
        try:
            return [self._layers.get(diff_id).size for diff_id in image.diff_ids]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(image, error) from error

    def layers_of(self, image: Image) -> list[Layer]:
        """Its layers, the lowest first; none for `host`. Reads files.

        Raises:
            StoreCorrupted: A layer's record can't be read.
        """
        try:
            return [self._layers.get(diff_id) for diff_id in image.diff_ids]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(image, error) from error

    def blob_path(self, digest: str) -> Path:
        """Where the bytes of this digest are, if they are here."""
        return self._blobs.path(digest)

    def config_blob(self, image: Image) -> bytes:
        """The bytes whose digest is its id. Reads a file; `host` has none.

        Raises:
            StoreCorrupted: They are gone, or others.
        """
        try:
            return self._blobs.read(image.id)
        except (OSError, ValueError) as error:
            raise _damaged(image, error) from error

    def manifest_blob(self, image: Image) -> bytes | None:
        """The manifest that it came with; None if it came with none. Reads a file.

        Raises:
            StoreCorrupted: It is gone, or another.
        """
        if not image.manifest:
            return None
        try:
            return self._blobs.read(image.manifest)
        except (OSError, ValueError) as error:
            raise _damaged(image, error) from error

    def ancestors(self, image: Image) -> list[Image]:
        """What it was made of, the nearest first, as far as that is here."""
        found: list[Image] = []
        while (parent := self._known.images.get((found or [image])[-1].parent)) is not None:
            found.append(parent)
        oldest = (found or [image])[-1].parent
        if oldest and oldest == self._host.image().id:
            found.append(self._host.image())
        return found

    # --- changing ---

    def hold(self) -> Hold:
        """Layers that are about to become an image's; see `holding`."""
        return Hold(self)

    def begin_import(
        self, name: str = "", message: str = "", changes: Sequence[str] = ()
    ) -> UnpackJob[Image]:
        """Starts an import; see `unpacking` for how it goes on.

        Args:
            name: `name[:tag]`, or empty for an untagged image.
            message: The comment in the image's history; empty for Docker's "Imported from -".
            changes: Dockerfile instructions.

        Raises:
            InvalidReference, InvalidChange, BuiltInImage: Before anything is started.
            ImportFailed: The child can't be started.
        """
        step = configuration.Step(message or "Imported from -")
        return self._begin(_New(self.checked_name(name), step, apply_changes(changes)))

    def begin_commit(
        self,
        parent: Image | None,
        inherited: Mapping[str, Any],
        step: configuration.Step,
        name: str = "",
    ) -> UnpackJob[Image]:
        """Starts an image that is another one with one more layer, in the way of an import.

        What is written to it is a layer as OCI has it, with whiteouts. One that is empty becomes
        none.

        Args:
            parent: What it lies on; None for an image from scratch.
            inherited: The whole configuration (`Image.config`).
            step: Who and what; `empty_layer` is found out.
            name: `name[:tag]`, or empty for an untagged image.

        Raises:
            InvalidReference, BuiltInImage: Before anything is started.
            ImportFailed: The child can't be started.
        """
        new = _New(self.checked_name(name), step, dict(inherited), parent, is_step=True)
        return self._begin(new)

    def add_step(
        self,
        parent: Image | None,
        inherited: Mapping[str, Any],
        step: configuration.Step,
        name: str = "",
    ) -> Image:
        """Makes an image that differs from another one by its configuration alone. Durable.

        Args:
            As `begin_commit`.

        Raises:
            InvalidReference, BuiltInImage: The name can't be had.
            ImageNotFound: The parent is gone.
            ImportFailed: This machine failed, such as by a full disk.
        """
        new = _New(self.checked_name(name), step, dict(inherited), parent, is_step=True)
        try:
            with self._writing:
                return self._add(new, None)
        except OSError as error:
            raise ImportFailed(f"cannot store the image: {words_of(error)}") from error

    def _begin(self, new: _New) -> UnpackJob[Image]:
        return self.begin_unpacking(
            lambda unpacked: self._commit(unpacked, new), is_layer=new.is_step
        )

    def begin_unpacking(self, commit: Callable[[Unpacked], _T], *, is_layer: bool) -> UnpackJob[_T]:
        """Starts the unpacking of an archive; for `Hold` and what is above.

        Args:
            commit: Makes of the unpacked layer what the job's `finish` returns.

        Raises:
            ImportFailed: The child can't be started.
        """
        directory = self._staging / f"import-{secrets.token_hex(8)}"
        self._jobs.add(directory)
        try:
            return UnpackJob(directory, commit, self._jobs.discard, is_layer=is_layer)
        except OSError as error:
            raise ImportFailed(f"cannot begin to make an image: {error}") from error

    def import_file(
        self,
        path: Path,
        name: str = "",
        progress: Callable[[int], None] | None = None,
        message: str = "",
        changes: Sequence[str] = (),
    ) -> Image:
        """Imports an archive from a file and waits for it.

        Args:
            progress: Called with the number of bytes handed over so far.

        Raises:
            ImageError: As `begin_import` and `UnpackJob.finish`.
            OSError: The file can't be read.
        """
        with open(path, "rb", buffering=0) as archive:
            job = self.begin_import(name, message, changes)
            try:
                sent = 0
                while piece := archive.read(_COPY):
                    try:
                        sent += _write_all(job.stdin_fd, piece)
                    except BrokenPipeError:
                        break
                    if progress is not None:
                        progress(sent)
                return job.finish()
            finally:
                job.abort()

    def tag(self, reference: str, name: str) -> Image:
        """Gives an image a name more; one that another image has moves to it.

        Args:
            reference: As `resolve` takes it.
            name: `name[:tag]`.

        Raises:
            ImageNotFound, AmbiguousImage, InvalidReference: As `resolve`.
            InvalidReference: The name can't be one.
            BuiltInImage: It is that of `host`, or the image is.
        """
        if references.parse(name).digest:
            raise InvalidReference("refusing to create a tag with a digest reference")
        tag = self.checked_name(name)
        with self._writing:
            image = self._not_built_in(
                reference,
                f"{HOST_NAME} can have no other name: it is the image of this machine, and "
                "becomes another one when the machine changes",
            )
            self._save(self._known.catalogue.with_image(image.id, image.created_ns, tag))
            return self._known.images[image.id]

    def delete(
        self,
        reference: str,
        force: bool = False,
        in_use: Callable[[str], Iterable[ImageUser]] = nobody,
        parents: bool = True,
    ) -> list[Removal]:
        """Removes a name, and the image with its last name; see `removal` for the rules.

        Args:
            in_use: Tells, for an image id, which containers use it.
            parents: Also images that it was made of, those without a name that nobody uses.

        Raises:
            ImageConflict: Docker's text; BuiltInImage for `host`.
            ImageNotFound, AmbiguousImage, InvalidReference: As `resolve`.
        """
        with self._writing:
            image = self._not_built_in(
                reference,
                f"conflict: unable to delete {HOST_NAME} (cannot be forced) - "
                "it is the image of this machine that the engine brings along",
            )
            children = self._known.catalogue.children_of(image.id)
            plan = removal.plan(image, reference, force, in_use(image.id), bool(children))
            done: list[Removal] = [Untagged(tag) for tag in plan.untag]
            if not plan.delete:
                self._save(self._known.catalogue.without_names(plan.untag))
                return done
            gone = [image]
            if parents:
                gone += self._unnamed_parents(image, in_use)
            listed = self._known.catalogue
            for one in gone:
                listed = listed.without_image(one.id)
            self._save(listed)
            garbage = []
            for one in gone:
                for blob in filter(None, (one.id, one.manifest)):
                    self._blobs.discard(blob)
                done.append(Deleted(one.id))
                garbage += self._take_layers(one.diff_ids)
        done.extend(Deleted(diff_id) for diff_id, _ in garbage)
        for _, directory in garbage:
            self._discard(directory)
        return done

    def sweep(self) -> list[str]:
        """Removes what a crash left: half imports, and layers and blobs that no image leads to.

        Returns:
            What was removed, as paths within the store. Nothing but staging is touched while an
            image is broken, so that it can be repaired.
        """
        with self._writing:
            known = self._known
            garbage = [path for path in self._staging.iterdir() if path not in self._jobs]
            if not known.broken:
                used = self._layers_in_use()
                for diff_id in [one for one in self._layers.all() if one not in used]:
                    taken = self._layers.take(diff_id)
                    if taken is not None:
                        garbage.append(taken)
                kept = {*known.catalogue.images, *known.catalogue.manifests.values()}
                for diff_id in used:
                    layer = self._layers.find(diff_id)
                    if layer is not None and layer.blob is not None:
                        kept.add(layer.blob.digest)
                garbage += [path for digest, path in self._blobs.all() if digest not in kept]
            for path in garbage:
                self._discard(path)
        return [str(path.relative_to(self.root)) for path in garbage]

    # --- inside ---

    def _not_built_in(self, reference: str, refusal: str) -> Image:
        image = self.resolve(reference)
        if image.built_in:
            raise BuiltInImage(refusal)
        return image

    # --- for `Hold` ---

    def keep_layer(self, diff_id: str, kept: set[str]) -> Layer | None:
        """Has a layer kept, if it is here; `kept` is whoever wants it to be."""
        with self._writing:
            layer = self._layers.find(diff_id)
            if layer is not None:
                self._keep(diff_id, kept)
            return layer

    def put_layer(self, unpacked: Unpacked, kept: set[str]) -> Layer:
        """Takes over an unpacked layer, and has it kept.

        Raises:
            OSError: Nothing was added.
        """
        with self._writing:
            layer, _ = self._layers.put(unpacked)
            self._keep(layer.diff_id, kept)
            return layer

    def put_image(
        self,
        config: bytes,
        tags: Sequence[str],
        digests: Sequence[str],
        manifest: bytes,
        kept: set[str],
    ) -> Image:
        """Makes an image of layers that are kept; see `Hold.add_image`."""
        document = configuration.checked(config)
        names = [self.checked_name(tag) for tag in tags]
        missing = set(document["rootfs"].get("diff_ids") or ()) - kept
        if missing:
            raise ImportRefused(
                f"the image's configuration names a layer that it did not come with: {min(missing)}"
            )
        try:
            with self._writing:
                return self._put_image(config, names, digests, manifest)
        except OSError as error:
            raise ImportFailed(f"cannot store the image: {words_of(error)}") from error

    def _put_image(
        self, config: bytes, tags: Sequence[str], digests: Sequence[str], manifest: bytes
    ) -> Image:
        image_id = digest_of(config)
        before = self._known.catalogue
        manifest_id = digest_of(manifest) if manifest else before.manifests.get(image_id, "")
        listed = before.with_image(image_id, time.time_ns(), digests=digests, manifest=manifest_id)
        for tag in tags:
            listed = listed.with_image(image_id, 0, tag)
        new = [
            blob
            for blob in filter(None, (manifest, config))
            if not self._blobs.path(digest_of(blob)).exists()
        ]
        try:
            for blob in new:
                self._blobs.put(blob)
            self._save(listed, self._read(image_id, listed))
        except BaseException:
            for blob in new:
                self._blobs.discard(digest_of(blob))
            raise
        replaced = before.manifests.get(image_id, "")
        if replaced not in ("", manifest_id):
            self._blobs.discard(replaced)
        return self._known.images[image_id]

    def let_go(self, kept: set[str]) -> None:
        """Ends what `keep_layer` and `put_layer` began; removes what is of no use to anybody."""
        with self._writing:
            self._held.subtract(kept)
            garbage = self._take_layers(kept)
            kept.clear()
            self._held = +self._held
        for _, directory in garbage:
            self._discard(directory)

    def _keep(self, diff_id: str, kept: set[str]) -> None:
        if diff_id not in kept:
            kept.add(diff_id)
            self._held[diff_id] += 1

    def _layers_in_use(self) -> set[str]:
        return self._known.layers_in_use() | set(+self._held)

    @staticmethod
    def _discard(path: Path) -> None:
        """Removes garbage; what can't be removed stays for the next sweep."""
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                remove_tree(path)
            else:
                path.unlink(missing_ok=True)

    def _unnamed_parents(
        self, image: Image, in_use: Callable[[str], Iterable[ImageUser]]
    ) -> list[Image]:
        """What an image was made of and that is of no more use to anybody, the nearest first."""
        found: list[Image] = []
        child = image
        while (parent := self._known.images.get(child.parent)) is not None:
            others = set(self._known.catalogue.children_of(parent.id)) - {child.id}
            if parent.tags or others or list(in_use(parent.id)):
                break
            found.append(parent)
            child = parent
        return found

    def _read(self, image_id: str, listed: catalogue.Catalogue) -> Image:
        """An image from its blob and layers, checked against their digests and names."""
        document: dict[str, Any] = json.loads(self._blobs.read(image_id))
        sizes = [
            self._layers.get(diff_id).size for diff_id in document["rootfs"].get("diff_ids") or ()
        ]
        return configuration.decode(
            image_id,
            document,
            listed.tags_of(image_id),
            sum(sizes),
            parent=listed.parents.get(image_id, ""),
            digests=listed.digests_of(image_id),
            manifest=listed.manifests.get(image_id, ""),
        )

    @staticmethod
    def checked_name(name: str) -> str:
        """The whole `name:tag` that a new image may have; empty for none.

        Raises:
            InvalidReference, BuiltInImage: It may not; Docker's texts.
        """
        if not name:
            return ""
        reference = references.parse(name)
        if reference.digest:
            raise InvalidReference("cannot import digest reference")
        tag = reference.tagged()
        if tag == HOST_NAME:
            raise BuiltInImage(
                f"the name {HOST_NAME} is taken by the built-in image: choose another"
            )
        return tag

    def _commit(self, unpacked: Unpacked, new: _New) -> Image:
        """Layer, blob, catalogue; undone in case of an error, so that nothing half is left."""
        if new.is_step and unpacked.is_empty:
            with self._writing:
                return self._add(new, None)
        with self._writing:
            self._parent_of(new)  # before anything is moved
            layer, is_new = self._layers.put(unpacked)
            try:
                return self._add(new, layer)
            except BaseException:
                if is_new:
                    taken = self._layers.take(layer.diff_id)
                    if taken is not None:
                        taken.rename(unpacked.directory)
                raise

    def _add(self, new: _New, layer: Layer | None) -> Image:
        """Configuration and catalogue of a new image whose layers are here."""
        parent_id = self._parent_of(new)
        created_ns = time.time_ns()
        below = new.parent.diff_ids if new.parent else ()
        step = new.step._replace(empty_layer=layer is None)
        diff_ids = (*below, layer.diff_id) if layer else below
        blob = configuration.encode(new.inherited, created_ns, diff_ids, step, new.parent)
        image_id = digest_of(blob)
        try:
            self._blobs.put(blob)
            listed = self._known.catalogue.with_image(image_id, created_ns, new.tag, parent_id)
            self._save(listed, self._read(image_id, listed))
        except BaseException:
            self._blobs.discard(image_id)
            raise
        return self._known.images[image_id]

    def _parent_of(self, new: _New) -> str:
        """Its parent's id; that must be there still, since its layers go with it."""
        if new.parent is None:
            return ""
        if not new.parent.built_in and new.parent.id not in self._known.images:
            raise ImageNotFound(new.parent.id)
        return new.parent.id

    def _save(self, changed: catalogue.Catalogue, new: Image | None = None) -> None:
        """Commits: first on disk, then in memory."""
        changed.save(self._index)
        images = dict(self._known.images)
        if new is not None:
            images[new.id] = new
        self._known = Known(
            changed,
            {
                image_id: _with_names(image, changed)
                for image_id, image in images.items()
                if image_id in changed.images
            },
            self._known.broken,
        )

    def _take_layers(self, diff_ids: Iterable[str]) -> list[tuple[str, Path]]:
        """Moves layers that nobody uses any more into staging: (diff id, where)."""
        used = self._layers_in_use()
        taken = []
        for diff_id in diff_ids:
            directory = None if diff_id in used else self._layers.take(diff_id)
            if directory is not None:
                taken.append((diff_id, directory))
        return taken


def _damaged(image: Image, error: Exception) -> StoreCorrupted:
    return StoreCorrupted(f"image {image.short_id} is damaged: {error}")


def _with_names(image: Image, listed: catalogue.Catalogue) -> Image:
    tags, digests = listed.tags_of(image.id), listed.digests_of(image.id)
    manifest = listed.manifests.get(image.id, "")
    if (image.tags, image.digests, image.manifest) == (tags, digests, manifest):
        return image
    return replace(image, tags=tags, digests=digests, manifest=manifest)


def _write_all(fd: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return len(data)
