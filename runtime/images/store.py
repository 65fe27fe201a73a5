"""The image store: what the engine asks for images.

    <root>/repositories.json         the catalogue; see `catalogue`
    <root>/blobs/sha256/<hex>        configurations, manifests, archives of layers; see `blobs`
    <root>/layers/<diff id>/…        unpacked layers; see `layers`
    <root>/short/…                   what overlayfs is told of them; see `short_names`
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

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runtime.images import adding, configuration, lookup, references, removal
from runtime.images.adding import New, checked_name
from runtime.images.archive_members import StagingJob
from runtime.images.changes import apply_changes
from runtime.images.checking import StoreCheck
from runtime.images.contents import Contents
from runtime.images.errors import BuiltInImage, InvalidReference, StoreCorrupted
from runtime.images.holding import Hold
from runtime.images.host import HostImage
from runtime.images.lookup import HOST_NAME
from runtime.images.model import Deleted, Image, ImageUser, Layer, Removal, RootfsLayers, Untagged
from runtime.images.unpacking import UnpackJob

_COPY = 1 << 20


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
        self._contents = Contents(self.root)
        self._blobs, self._layers = self._contents.blobs, self._contents.layers
        self._host = HostImage(self.root / "host", self._contents.staging)

    checked_name = staticmethod(checked_name)

    # --- looking ---

    @property
    def broken(self) -> Mapping[str, str]:
        """Image id -> why it can't be used; such images are left on disk as they are."""
        return self._contents.known.broken

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
        found = [self._host.image(), *self._contents.known.images.values()]
        return sorted(found, key=lambda image: (-image.created_ns, image.id))

    def resolve(self, reference: str) -> Image:
        """The image that a name[:tag], an id or an unambiguous beginning of an id means.

        Raises:
            ImageNotFound, AmbiguousImage, InvalidReference: Docker's texts.
            StoreCorrupted: The image is listed but can't be used.
        """
        return lookup.find(reference, self._contents.known, self._host.image)

    def layers(self, image: Image) -> RootfsLayers:
        """What a container of this image is mounted from."""
        if image.built_in:
            return self._host.layers()
        # overlayfs refuses a directory twice; the upper of two that are alike hides the lower.
        distinct = dict.fromkeys(reversed(image.diff_ids))
        lower = tuple(self._layers.lower(diff_id) for diff_id in distinct)
        if image.base:
            machine = self._host.layers()
            return RootfsLayers(lower + machine.lower, machine.binds)
        return RootfsLayers(lower)

    def layer_directories(self, image: Image) -> tuple[str, ...]:
        """Where the files of its layers are, the topmost first."""
        own = tuple(str(self._layers.path(one) / "fs") for one in reversed(image.diff_ids))
        return own + self._host.layers().lower if image.built_in or image.base else own

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
        while (
            parent := self._contents.known.images.get((found or [image])[-1].parent)
        ) is not None:
            found.append(parent)
        oldest = (found or [image])[-1].parent
        if oldest and oldest == self._host.image().id:
            found.append(self._host.image())
        return found

    def check(self) -> StoreCheck:
        """A check of all that is here; see `checking`."""
        return StoreCheck(self._contents)

    # --- changing ---

    def hold(self) -> Hold:
        """Layers that are about to become an image's; see `holding`."""
        return Hold(self._contents)

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
        return self._begin(New(checked_name(name), step, apply_changes(changes)))

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
            ImportRefused: It has as many layers as there can be.
            ImportFailed: The child can't be started.
        """
        configuration.check_count(len(parent.diff_ids) + 1 if parent else 1)
        new = New(checked_name(name), step, dict(inherited), parent, is_step=True)
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
        new = New(checked_name(name), step, dict(inherited), parent, is_step=True)
        return adding.add_step(self._contents, new)

    def _begin(self, new: New) -> UnpackJob[Image]:
        return self._contents.begin_unpacking(
            lambda unpacked: adding.commit(self._contents, unpacked, new), is_layer=new.is_step
        )

    def begin_staging(self) -> StagingJob:
        """Starts taking an archive of images apart, in the way of an import.

        What the job's `finish` gives is named by the archive alone: see `archive_members`. It must
        be removed in the end.

        Raises:
            ImportFailed: The child can't be started.
        """
        return self._contents.begin_staging()

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
        tag = checked_name(name)
        with self._contents.writing:
            image = self._not_built_in(
                reference,
                f"{HOST_NAME} can have no other name: it is the image of this machine, and "
                "becomes another one when the machine changes",
            )
            now = time.time_ns()
            self._contents.save(
                self._contents.known.catalogue.with_image(image.id, now, tag, tagged_ns=now)
            )
            return self._contents.known.images[image.id]

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
        with self._contents.writing:
            image = self._not_built_in(
                reference,
                f"conflict: unable to delete {HOST_NAME} (cannot be forced) - "
                "it is the image of this machine that the engine brings along",
            )
            children = self._contents.known.catalogue.children_of(image.id)
            plan = removal.plan(image, reference, force, in_use(image.id), bool(children))
            done: list[Removal] = [Untagged(tag) for tag in plan.untag]
            if not plan.delete:
                self._contents.save(self._contents.known.catalogue.without_names(plan.untag))
                return done
            gone = [image]
            if parents:
                gone += self._unnamed_parents(image, in_use)
            listed = self._contents.known.catalogue
            for one in gone:
                needed = bool(list(in_use(one.id)))
                listed = listed.with_retired(one.id) if needed else listed.without_image(one.id)
            self._contents.save(listed)
            garbage = []
            for one in gone:
                for blob in filter(None, (one.id, one.manifest)):
                    if blob not in listed.retired:
                        self._blobs.discard(blob)
                done.append(Deleted(one.id))
                taken = self._contents.take_unused(reversed(one.diff_ids))
                done.extend(Deleted(diff_id) for diff_id, _ in taken)
                garbage += taken
        for _, directory in garbage:
            self._contents.discard(directory)
        return done

    @property
    def retired(self) -> Collection[str]:
        """Ids of images that were removed while containers had them, whose files are here."""
        return self._contents.known.retired.keys()

    def of_container(self, image_id: str) -> Image:
        """The image that a container was made of, also if that was removed since.

        Raises:
            ImageNotFound: It was removed behind the engine's back.
            StoreCorrupted: It can't be used.
        """
        known = self._contents.known
        return known.retired.get(image_id) or self.resolve(image_id)

    def release(self, used: Collection[str]) -> None:
        """Removes what is left of images that are retired and that no container needs any more.

        Syncs to disk and removes trees: worker thread.

        Args:
            used: The image ids of all containers.
        """
        contents = self._contents
        with contents.writing:
            gone = [one for one in contents.known.retired.values() if one.id not in used]
            if not gone:
                return
            contents.save(contents.known.catalogue.without_retired(one.id for one in gone))
            garbage = []
            for one in gone:
                self._blobs.discard(one.id)
                garbage += contents.take_unused(reversed(one.diff_ids))
        for _, directory in garbage:
            self._contents.discard(directory)

    def sweep(self) -> list[str]:
        """Removes what a crash left: half imports, and layers and blobs that no image leads to.

        Returns:
            What was removed, as paths within the store. Nothing but staging is touched while an
            image is broken, so that it can be repaired.
        """
        trees, blobs = self.begin_sweep()
        self.end_sweep(trees)
        return [str(path.relative_to(self.root)) for path in (*trees, *blobs)]

    def begin_sweep(self) -> tuple[list[Path], list[Path]]:
        """As `sweep`, but for the removal of trees, which may take minutes.

        Returns:
            The trees, which nobody else touches, for `end_sweep`; and the files that are gone.
        """
        contents = self._contents
        with contents.writing:
            trees = [path for path in contents.staging.iterdir() if contents.take_in_hand(path)]
            # A blob may be wanted again as soon as the lock is free.
            blobs = self._blobs.drafts()
            if not contents.known.broken:
                trees += [path for _, path in contents.take_unused(list(self._layers.all()))]
                kept = contents.blobs_in_use()
                blobs += [path for digest, path in self._blobs.all() if digest not in kept]
            for path in blobs:
                contents.discard(path)
        return trees, blobs

    def end_sweep(self, trees: Iterable[Path]) -> None:
        """Removes the trees that `begin_sweep` has found: worker thread."""
        for path in trees:
            self._contents.discard(path)

    # --- inside ---

    def _not_built_in(self, reference: str, refusal: str) -> Image:
        image = self.resolve(reference)
        if image.built_in:
            raise BuiltInImage(refusal)
        return image

    def _unnamed_parents(
        self, image: Image, in_use: Callable[[str], Iterable[ImageUser]]
    ) -> list[Image]:
        """What an image was made of and that is of no more use to anybody, the nearest first."""
        found: list[Image] = []
        child = image
        while (parent := self._contents.known.images.get(child.parent)) is not None:
            others = set(self._contents.known.catalogue.children_of(parent.id)) - {child.id}
            if parent.tags or parent.digests or others or list(in_use(parent.id)):
                break
            found.append(parent)
            child = parent
        return found


def _damaged(image: Image, error: Exception) -> StoreCorrupted:
    return StoreCorrupted(f"image {image.short_id} is damaged: {error}")


def _write_all(fd: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return len(data)
