"""What an archive of images says is to be loaded. Pure, but for the documents that it reads.

Two formats, often both in one file: docker's `manifest.json` (a list of Config, RepoTags, Layers by
name), and an OCI image layout (`oci-layout`, `index.json`, `blobs/sha256/…`; https://github.com/
opencontainers/image-spec/blob/main/image-layout.md). The layout comes first, as it says more: which
platforms there are, and each blob's digest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import msgspec

from runtime.images import references
from runtime.images.archive_members import Member
from runtime.images.entry_names import shown
from runtime.images.errors import ImportRefused, InvalidReference
from supervisor.registries import manifests, platforms
from supervisor.registries.errors import NoMatchingPlatform
from supervisor.registries.manifests import Descriptor, Manifest, PlatformSpec

_LAYOUT, _INDEX, _MANIFEST = "oci-layout", "index.json", "manifest.json"
_FULL_NAME = "io.containerd.image.name"
_NAME = "org.opencontainers.image.ref.name"
_REFERENCE_TYPE = "vnd.docker.reference.type"
_BLOBS = "blobs/sha256/"
_DEEPEST = 4
_MOST_ENTRIES = 10_000
_MOST_READ = 64 << 20
"""Bytes of all documents, each as often as it is named: they are kept until their image is made,
and one of 8 MiB takes no room in an archive. A thousand images have a fifth of it."""

_T = TypeVar("_T")


class _Listed(msgspec.Struct, rename="pascal"):
    """An image in manifest.json; names are those of files in the archive."""

    config: str
    repo_tags: list[str] | None = None
    layers: list[str] | None = None


class _Rootfs(msgspec.Struct):
    diff_ids: list[str] | None = None


class _Config(msgspec.Struct):
    """What matters here of an image's configuration."""

    rootfs: _Rootfs
    os: str | None = None
    architecture: str | None = None
    variant: str | None = None


class Files(Protocol):
    """The archive's files."""

    def find(self, name: str) -> Member | None:
        """The file that a name means."""

    def read(self, name: str, member: Member) -> bytes:
        """A document."""


@dataclass(frozen=True, slots=True)
class LayerFile:
    """A layer's archive.

    Attributes:
        number: Which one of its image, from 0 on.
        diff_id: What the image's configuration says of it.
        listed: What the image's manifest calls the archive, `sha256:…`; empty if there is none.
    """

    number: int
    member: Member
    diff_id: str
    listed: str = ""


@dataclass(frozen=True, slots=True)
class Loadable:
    """One image.

    Attributes:
        tags: `name:tag`, in the short form.
        config: Its configuration.
        layers: The lowest first.
        manifest: OCI's, or Docker's schema 2; empty if the archive has none.
    """

    tags: tuple[str, ...]
    config: bytes
    layers: tuple[LayerFile, ...]
    manifest: bytes = b""


def loadables(files: Files, platform: PlatformSpec | None = None) -> list[Loadable]:
    """Return all images of an archive, of several platforms' the one for this machine.

    Args:
        platform: Take those for this one instead, and no others.

    Raises:
        ImportRefused: The archive is none of images, lacks a part, or contradicts itself.
        UnsupportedManifest: It holds something else than images.
    """
    found = _Reader(files, platform).images()
    if not found:
        which = f" for {platforms.shown(platform)}" if platform else ""
        raise ImportRefused(f"invalid archive: it holds no image{which}")
    return found


class _Reader:
    def __init__(self, files: Files, platform: PlatformSpec | None) -> None:
        self._files = files
        self._platform = platform
        self._entries = 0
        self._bytes = 0

    def images(self) -> list[Loadable]:
        index, manifest = self._files.find(_INDEX), self._files.find(_MANIFEST)
        if index and (self._files.find(_LAYOUT) or not manifest):
            return self._of_layout(index)
        if manifest:
            return list(self._of_manifest(manifest))
        raise ImportRefused(f"invalid archive: does not contain a {_MANIFEST}, nor an {_INDEX}")

    # -- docker's

    def _of_manifest(self, member: Member) -> Iterator[Loadable]:
        data = self._read(_MANIFEST, member)
        if data.strip() == b"null":
            raise ImportRefused("invalid manifest, manifest cannot be null (but can be [])")
        listed = _parsed(_MANIFEST, data, list[_Listed])
        if len(listed) > _MOST_ENTRIES:
            raise ImportRefused(f"invalid archive: {_MANIFEST} lists {len(listed)} images")
        for item in listed:
            config = self._read(item.config, self._file(item.config))
            parsed = _parsed(item.config, config, _Config)
            if not self._is_wanted(_platform_of(parsed)):
                continue
            names = item.layers or []
            layers = [
                LayerFile(number, self._file(names[number]), diff_id)
                for number, diff_id in enumerate(_diff_ids(parsed, len(names)))
            ]
            tags = dict.fromkeys(map(_tag, item.repo_tags or []))
            yield Loadable(tuple(tags), config, tuple(layers))

    def _is_wanted(self, platform: PlatformSpec) -> bool:
        wanted = self._platform
        return wanted is None or platforms.fitness(platform, wanted) is not None

    # -- OCI's

    def _of_layout(self, index: Member) -> list[Loadable]:
        data = self._read(_INDEX, index)
        tags: dict[Descriptor, list[str]] = {}
        for leaves, names in self._choices(_entries_of(data, index.digest)):
            chosen = self._chosen(leaves)
            if chosen is not None:
                tags.setdefault(replace(chosen, platform=None), []).extend(names)
        return [
            self._image(descriptor, tuple(dict.fromkeys(names)))
            for descriptor, names in tags.items()
        ]

    def _choices(
        self, entries: tuple[Descriptor, ...]
    ) -> Iterator[tuple[list[Descriptor], tuple[str, ...]]]:
        """Manifests that are one image for several platforms, with the image's names.

        Such are those of an index below the top, and those at the top with the same name.
        """
        together: dict[tuple[str, ...], list[Descriptor]] = {}
        for number, entry in enumerate(entries):
            if _is_image(entry):
                names = _names(entry.annotations)
                key = names or (f"/{number}",)  # no name begins so
                together.setdefault(key, []).extend(self._leaves(entry))
        for key, leaves in together.items():
            yield leaves, () if key[0].startswith("/") else key

    def _leaves(self, entry: Descriptor, depth: int = 0) -> Iterator[Descriptor]:
        """All manifests of images that an entry leads to; of an index those that are here."""
        self._entries += 1
        if self._entries > _MOST_ENTRIES or depth > _DEEPEST:
            raise ImportRefused(f"invalid archive: {_INDEX} leads to indexes without end")
        if entry.media_type not in manifests.LISTS:
            yield entry
            return
        for below in _entries_of(self._document(entry), entry.digest, entry.media_type):
            # An image that was pulled for one platform is exported with the index of all.
            if _is_image(below) and self._files.find(_place(below.digest)):
                yield from self._leaves(below, depth + 1)

    def _chosen(self, leaves: list[Descriptor]) -> Descriptor | None:
        if not leaves:
            return None
        if self._platform is None and len({leaf.digest for leaf in leaves}) == 1:
            return leaves[0]
        known = [replace(leaf, platform=leaf.platform or self._told(leaf)) for leaf in leaves]
        try:
            return platforms.choose(known, self._platform or platforms.here())
        except NoMatchingPlatform as error:
            if self._platform is None:
                raise ImportRefused(f"invalid archive: {error}") from None
            return None

    def _told(self, leaf: Descriptor) -> PlatformSpec:
        """What an image's configuration says, where the index says nothing."""
        config = self._manifest(leaf)[1].config
        return _platform_of(_parsed(config.digest, self._document(config), _Config))

    def _image(self, entry: Descriptor, tags: tuple[str, ...]) -> Loadable:
        manifest, parts = self._manifest(entry)
        config = self._document(parts.config)
        parsed = _parsed(parts.config.digest, config, _Config)
        _platform_of(parsed)
        diff_ids = _diff_ids(parsed, len(parts.layers))
        layers = [
            LayerFile(number, self._blob(layer), diff_ids[number], layer.digest)
            for number, layer in enumerate(parts.layers)
        ]
        return Loadable(tags, config, tuple(layers), manifest.data)

    def _manifest(self, entry: Descriptor) -> tuple[Manifest, manifests.ImageManifest]:
        manifest = Manifest(entry.media_type, entry.digest, self._document(entry))
        return manifest, manifests.parse_image(manifest)

    def _document(self, descriptor: Descriptor) -> bytes:
        return self._read(_place(descriptor.digest), self._blob(descriptor))

    def _read(self, name: str, member: Member) -> bytes:
        self._bytes += member.size
        if self._bytes > _MOST_READ:
            raise ImportRefused(
                f"invalid archive: what it says of its images has more than {_MOST_READ} bytes: "
                "save them a few at a time"
            )
        return self._files.read(name, member)

    def _blob(self, descriptor: Descriptor) -> Member:
        """A blob that a descriptor names, checked."""
        member = self._file(_place(descriptor.digest))
        if member.size != descriptor.size:
            raise ImportRefused(
                f"invalid archive: blob {descriptor.digest} should have {descriptor.size} bytes, "
                f"it has {member.size}"
            )
        return member

    def _file(self, name: str) -> Member:
        member = self._files.find(name)
        if member is None:
            raise ImportRefused(f"invalid archive: {shown(name)} is missing")
        digits = name.removeprefix(_BLOBS)
        if digits != name and member.digest != f"sha256:{digits}":
            raise ImportRefused(
                f"invalid archive: {shown(name)} is damaged: its digest is {member.digest}"
            )
        return member


def _place(digest: str) -> str:
    return _BLOBS + _sha256(digest)


def _entries_of(
    data: bytes, digest: str, media_type: str = manifests.OCI_INDEX
) -> tuple[Descriptor, ...]:
    return manifests.parse_list(Manifest(media_type, digest, data))


def _is_image(entry: Descriptor) -> bool:
    """Whether an entry is of an image, and no note about one (an attestation of BuildKit's)."""
    return _REFERENCE_TYPE not in entry.annotations and (
        entry.platform is None or entry.platform.os != "unknown"
    )


def _names(annotations: Mapping[str, str]) -> tuple[str, ...]:
    """The name in an entry's annotations, as `name:tag`, if it is one."""
    name = annotations.get(_FULL_NAME, "")
    if not name:
        name = annotations.get(_NAME, "")
        if "/" not in name and ":" not in name:
            return ()  # a tag, and nobody says of what
        try:
            references.parse(name)
        except InvalidReference:
            return ()  # OCI allows more letters than names have
    reference = _parsed_name(name)
    return () if reference.digest else (reference.tagged(),)


def _tag(name: str) -> str:
    """What manifest.json calls an image, in the short form."""
    reference = _parsed_name(name)
    if reference.digest or not reference.tag:
        raise ImportRefused(f'invalid tag "{shown(name)}"')
    return reference.tagged()


def _parsed_name(name: str) -> references.Reference:
    try:
        return references.parse(name)
    except InvalidReference as error:
        raise ImportRefused(f"invalid archive: {shown(name)}: {error}") from None


def _platform_of(config: _Config) -> PlatformSpec:
    """For what an image says that it is; it must be Linux."""
    system = config.os or "linux"
    if system != "linux":
        raise ImportRefused(f"cannot load {shown(system)} image on linux")
    return PlatformSpec(system, config.architecture or "", config.variant or "")


def _diff_ids(config: _Config, layers: int) -> list[str]:
    """Of all layers, which must be as many as there are archives of."""
    diff_ids = config.rootfs.diff_ids or []
    if layers != len(diff_ids):
        raise ImportRefused(
            f"invalid manifest, layers length mismatch: expected {layers}, got {len(diff_ids)}"
        )
    for diff_id in diff_ids:
        _sha256(diff_id)
    return diff_ids


def _sha256(digest: str) -> str:
    """The digits of a digest."""
    if not manifests.DIGEST.fullmatch(digest):
        raise ImportRefused(f"invalid archive: {shown(digest)} is no sha256 digest")
    return digest.removeprefix("sha256:")


def _parsed(name: str, data: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ImportRefused(f"invalid archive: failed to decode {shown(name)}: {error}") from None
