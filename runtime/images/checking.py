"""Is the store what it should be? The parent's half of `mdocker system check`.

    check = store.check()
    check.begin()               what can be seen at a glance, while nothing changes
    for each of check.layers:
        job = check.begin_layer(layer)      a child reads its archive and its files
        wait until job.result_fd is readable, job.read(); again until that returns False
        job.finish()            or, at any moment, job.abort()
    check.end()

Every blob is hashed, and each layer's files are held against its archive, in a confined child (see
`layer_checker`). Images may come and go meanwhile: a layer is held while it is looked at, and what
is gone by then is no finding. Nothing is changed.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.images import confined_child
from runtime.images.blobs import digest_of
from runtime.images.contents import Contents
from runtime.images.entry_names import shown
from runtime.images.holding import Hold
from runtime.images.model import Image, Layer
from runtime.images.trees import walk

_OVERLAY = "trusted.overlay."
_OPAQUE = "trusted.overlay.opaque"
_SWEPT = "it takes up room and harms nobody: it goes when the engine starts the next time"
_WRITTEN_ANEW = "the engine still knows better: tag any image, and it is written anew"
_NAMED_ANEW = "restart the engine, which makes these names anew"
_PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        kind: `catalogue`, `image`, `blob`, `layer`, `name` or `orphan`.
        subject: A digest, an image id, or a path within the store.
        words: What is wrong.
        advice: What to do about it.
        images: The names, or short ids, of the images that it harms.
    """

    kind: str
    subject: str
    words: str
    advice: str
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LayerToCheck:
    """A layer with its archive.

    Attributes:
        size: Bytes of the archive.
        is_lowest: No image has anything below it.
        images: Who it belongs to.
    """

    diff_id: str
    size: int
    is_lowest: bool
    images: tuple[str, ...]


class StoreCheck:
    """One check of a store. All methods wait for the disk: worker thread.

    Attributes:
        layers: After `begin`: what there is to be read.
        counts: What was looked at: `images`, `layers`, `blobs`, and `without_archive`, the layers
            that an older engine made, of which there is nothing to compare with.
    """

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._staging: set[str] = set()
        self._all_read = True
        self.layers: list[LayerToCheck] = []
        self.counts = {"images": 0, "layers": 0, "blobs": 0, "without_archive": 0}

    def begin(self) -> list[Finding]:
        """Looks at catalogue, configurations, manifests, records and names."""
        with self._contents.writing:
            self._staging = self._half_made()
            return list(self._glance())

    def begin_layer(self, layer: LayerToCheck) -> LayerCheck | None:
        """Starts a child that reads a layer; None if that is gone, or can't be read at all.

        Raises:
            OSError: The child can't be started.
        """
        hold = Hold(self._contents)
        try:
            found = hold.layer(layer.diff_id)
            if found is None or found.blob is None:
                hold.close()
                return None
            path = self._contents.blobs.path(found.blob.digest)
            blob = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                directory = self._contents.layers.path(layer.diff_id) / "fs"
                return LayerCheck(found, layer, directory, blob, hold)
            finally:
                os.close(blob)
        except FileNotFoundError:
            hold.close()  # `begin` has told
            return None
        except BaseException:
            hold.close()
            raise

    def end(self) -> list[Finding]:
        """What was half-made at the beginning, and is now, and nobody is at work on."""
        with self._contents.writing:
            left = self._staging & self._half_made()
        return [_orphan(f"staging/{name}", "is half-made or half-removed") for name in sorted(left)]

    def _half_made(self) -> set[str]:
        staging = self._contents.staging.iterdir()
        return {path.name for path in staging if not self._contents.is_in_hand(path)}

    def _glance(self) -> Iterator[Finding]:
        contents, listed = self._contents, self._contents.known.catalogue
        words = contents.catalogue_trouble()
        if words:
            yield Finding("catalogue", "repositories.json", words, _WRITTEN_ANEW)
        users: dict[str, list[Image]] = {}
        for image_id in (*sorted(listed.images), *sorted(listed.retired)):
            self.counts["images"] += 1
            yield from self._image(image_id, users)
        used = contents.layers_in_use()
        for diff_id in sorted(used):
            yield from self._layer(diff_id, users.get(diff_id, []))
        for diff_id in sorted(set(contents.layers.all()) - used):
            yield _orphan(f"layers/{_digits(diff_id)}", "belongs to no image")
        kept = contents.blobs_in_use()
        # Whose an archive is is in the record of its layer.
        for digest in sorted(self._blobs_beside(kept) if self._all_read else ()):
            yield _orphan(f"blobs/sha256/{_digits(digest)}", "belongs to no image")
        for words in contents.layers.misnamed():
            yield Finding("name", "short", words, _NAMED_ANEW)

    def _blobs_beside(self, kept: set[str]) -> set[str]:
        return {digest for digest, _ in self._contents.blobs.all()} - kept

    def _image(self, image_id: str, users: dict[str, list[Image]]) -> Iterator[Finding]:
        known = self._contents.known
        listed, broken = known.catalogue, known.broken
        name = next(iter(listed.tags_of(image_id)), _short(image_id))
        advice = f"remove it and get it again: mdocker rmi -f {name}"
        if image_id in listed.retired:
            advice = "it was removed, and its containers can't be started again: remove them, too"
        image = known.images.get(image_id) or known.retired.get(image_id)
        if image is None:
            words = f"can't be used: {broken.get(image_id, 'nobody knows why')}"
            yield Finding("image", image_id, words, advice, (name,))
        else:
            for diff_id in dict.fromkeys(image.diff_ids):
                users.setdefault(diff_id, []).append(image)
        for digest in (image_id, listed.manifests.get(image_id, "")):
            if digest:
                self.counts["blobs"] += 1
                words = _trouble_of(self._contents.blobs.path(digest), digest)
                if words:
                    what = "configuration" if digest == image_id else "manifest"
                    yield Finding("blob", digest, f"its {what} {words}", advice, (name,))

    def _layer(self, diff_id: str, users: list[Image]) -> Iterator[Finding]:
        self.counts["layers"] += 1
        names = tuple(_name(image) for image in users)
        directory = self._contents.layers.path(diff_id)
        try:
            layer = self._contents.layers.get(diff_id)
            if not (directory / "fs").is_dir():
                raise FileNotFoundError(2, "its files are gone")
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._all_read = False
            yield Finding("layer", diff_id, f"can't be used: {_words(error)}", _again(names), names)
            return
        if layer.blob is None:
            self.counts["without_archive"] += 1
            return
        self.counts["blobs"] += 1
        try:
            size = self._contents.blobs.path(layer.blob.digest).stat().st_size
        except OSError as error:
            words = f"the archive of layer {_short(diff_id)} is lost: {_words(error)}"
            yield Finding("blob", layer.blob.digest, words, _push(names), names)
            return
        lowest = bool(users) and all(_is_lowest(diff_id, image) for image in users)
        self.layers.append(LayerToCheck(diff_id, size, lowest, names))


class LayerCheck:
    """One layer being read by a child. Not thread-safe; `finish` or `abort` must be called, once.

    Attributes:
        result_fd: Readable when there is something new; non-blocking.
        done: Bytes of the archive that were read.
    """

    def __init__(
        self, layer: Layer, about: LayerToCheck, directory: Path, blob: int, hold: Hold
    ) -> None:
        self._layer = layer
        self._about = about
        self._directory = directory
        self._hold = hold
        self._buffer = b""
        self._lines: list[dict[str, Any]] = []
        self.done = 0
        self.result_fd, result = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.set_blocking(result, True)
            kind = "lowest" if about.is_lowest else "layer"
            words = [str(directory), str(result), kind]
            self._process = confined_child.start("layer_checker", words, blob, (result,))
        except BaseException:
            os.close(self.result_fd)
            raise
        finally:
            os.close(result)

    def read(self) -> bool:
        """Takes what the child has said so far; False once it has ended. Does not wait."""
        while True:
            try:
                piece = os.read(self.result_fd, _PIECE)
            except BlockingIOError:
                return True
            if not piece:
                return False
            *lines, self._buffer = (self._buffer + piece).split(b"\n")
            for line in map(json.loads, lines):
                if "read" in line:
                    self.done = line["read"]
                else:
                    self._lines.append(line)

    def finish(self) -> list[Finding]:
        """What was found. Call it once `read` has returned False."""
        try:
            return list(self._findings(self._process.wait()))
        finally:
            self._close()

    def abort(self) -> None:
        """Kills the child. Harmless after `finish` or `abort`."""
        if self.result_fd >= 0:
            self._process.kill()
            self._process.wait()
            self._close()

    def _close(self) -> None:
        os.close(self.result_fd)
        self.result_fd = -1
        self._hold.close()

    def _findings(self, code: int) -> Iterator[Finding]:
        diff_id, blob, names = self._about.diff_id, self._layer.blob, self._about.images
        assert blob is not None
        archive = f"the archive of layer {_short(diff_id)}"
        end = self._lines[-1] if self._lines else {}
        if "error" in end or "digest" not in end:
            how = (
                f"the reading process was killed by {signal.Signals(-code).name}"
                if code < 0
                else ""
            )
            words = str(end.get("error") or how or "the reading process ended without an answer")
            yield Finding(
                "blob", blob.digest, f"{archive} can't be read: {words}", _push(names), names
            )
            return
        if end["digest"] != blob.digest or end["diff_id"] != diff_id:
            words = f"{archive} is damaged: it has the digest {end['digest']}"
            yield Finding("blob", blob.digest, words, _push(names), names)
            return
        opaque = set(end["opaque"])
        words_of_marks = list(_marks_amiss(self._directory, opaque, self._about.is_lowest))
        told = [(line["path"], line["words"]) for line in self._lines[:-1]] + words_of_marks
        for path, words in told:
            yield Finding("layer", diff_id, f"{path} {words}", _again(names), names)
        more = end["differences"] + len(words_of_marks) - len(told)
        if more:
            yield Finding("layer", diff_id, f"{more} more files differ", _again(names), names)


def _marks_amiss(layer: Path, expected: set[str], is_lowest: bool) -> Iterator[tuple[str, str]]:
    """Directories with marks of overlayfs that they should not have, or without."""
    found = _marks(layer)
    for place, marks in sorted(found.items()):
        for mark in sorted(marks - {_OPAQUE}):
            yield f"/{shown(place)}", f"has the attribute {mark}, which is not in the archive"
    opaque = {place for place, marks in found.items() if _OPAQUE in marks}
    for place in sorted(opaque - expected):
        yield f"/{shown(place)}", "hides what is below it, which the archive does not say"
    # With nothing below there is nothing to hide.
    for place in sorted(expected - opaque) if not is_lowest else ():
        yield f"/{shown(place)}", "does not hide what is below it, as the archive says"


def _marks(layer: Path) -> dict[str, set[str]]:
    """Places of directories -> attributes of overlayfs that they have."""
    found: dict[str, set[str]] = {}
    levels: list[tuple[str, list[str], list[str]]] = []

    def enter(fd: int) -> list[str]:
        place = ""
        if levels:
            above, names, pending = levels[-1]
            place = f"{above}/{names[len(pending)]}".lstrip("/")
        marks = {name for name in os.listxattr(fd) if name.startswith(_OVERLAY)}
        if marks:
            found[place] = marks
        with os.scandir(fd) as entries:
            below = [one.name for one in entries if one.is_dir(follow_symlinks=False)]
        levels.append((place, list(below), below))
        return below

    walk(layer, enter, lambda *_: levels.pop() and None)
    return found


def _trouble_of(path: Path, digest: str) -> str:
    """What is wrong with a small blob, in words."""
    try:
        found = digest_of(path.read_bytes())
    except OSError as error:
        return f"is lost: {_words(error)}"
    return "" if found == digest else f"is damaged: it has the digest {found}"


def _is_lowest(diff_id: str, image: Image) -> bool:
    return not image.base and image.diff_ids[0] == diff_id


def _name(image: Image) -> str:
    return image.tags[0] if image.tags else image.short_id


def _digits(digest: str) -> str:
    return digest.partition(":")[2]


def _short(digest: str) -> str:
    return _digits(digest)[:12]


def _orphan(path: str, words: str, advice: str = _SWEPT) -> Finding:
    return Finding("orphan", path, words, advice)


def _again(names: tuple[str, ...], what: str = "see wrong files") -> str:
    """What to do about a layer of these images, whose containers do this."""
    if not names:
        return "nothing is made of it yet: begin anew with what you are about to make"
    return (
        f"containers of {', '.join(names)} {what}: remove and get these images again "
        f"(mdocker rmi -f {' '.join(names)})"
    )


def _push(names: tuple[str, ...]) -> str:
    return _again(names, "work, push and save don't")


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return f"{type(error).__name__}: {error}"
