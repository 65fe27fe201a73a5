"""What the store hands out. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from runtime.spec import Bind


@dataclass(frozen=True, slots=True)
class Image:
    """An image that the store holds.

    Attributes:
        id: `sha256:` and the digest of the configuration blob.
        tags: `name:tag` in the short form, sorted; empty for an untagged image.
        created_ns: ns since the epoch.
        size: Bytes of file content in all layers (of `host`: of the generated tree).
        config: What containers inherit, with Docker's keys: Env, Cmd, Entrypoint, WorkingDir,
            User, Labels, StopSignal, ExposedPorts, Volumes; keys without a value are absent.
        architecture: Go's word, such as amd64.
        os: linux.
        diff_ids: `sha256:…` of each layer's uncompressed tar, lowest first; none for `host`.
        comment: Of the last step of its history: `import --message`, `commit --message`.
        built_in: True for `host` alone.
        history: As in the configuration blob, oldest first.
        author: Who is said to have made it.
        parent: Id of the image whose container it was made of; empty for an imported one.
        container: Id of the container that it was made of; empty for an imported one.
        container_image: What that container's image was called.
        container_command: What it has run, where that made the image: the RUN of a build.
        digests: `name@sha256:…` in the short form, sorted: what registries call it.
        manifest: `sha256:…` of the manifest that it came with; empty if it came with none.
        tagged_ns: When it was last given a name on this machine, ns since the epoch; 0 for never.
        variant: Of the architecture, such as v8; often empty.
        base: `host` where its layers lie on the built-in image, whose files are this machine's.
    """

    id: str
    tags: tuple[str, ...]
    created_ns: int
    size: int
    config: dict[str, Any]
    architecture: str
    os: str
    diff_ids: tuple[str, ...]
    comment: str = ""
    built_in: bool = False
    history: tuple[dict[str, Any], ...] = field(default=())
    author: str = ""
    parent: str = ""
    base: str = ""
    container: str = ""
    container_image: str = ""
    container_command: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    manifest: str = ""
    tagged_ns: int = 0
    variant: str = ""

    @property
    def hex(self) -> str:
        """The id's digits."""
        return self.id.removeprefix("sha256:")

    @property
    def short_id(self) -> str:
        """The first 12 digits, as people see it."""
        return self.hex[:12]


@dataclass(frozen=True, slots=True)
class Blob:
    """An archive that is kept as it came.

    Attributes:
        digest: `sha256:…` of its bytes.
        size: Bytes.
        media_type: One of OCI's layer types: a tar that is plain, or compressed by gzip or zstd.
    """

    digest: str
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that the store holds.

    Attributes:
        diff_id: `sha256:…` of its uncompressed tar.
        size: Bytes of file content.
        blob: What it was unpacked from; None where an older engine kept nothing.
    """

    diff_id: str
    size: int
    blob: Blob | None


@dataclass(frozen=True, slots=True)
class RootfsLayers:
    """What a container's root file system is put together from.

    Attributes:
        lower: Overlay lower directories, topmost first.
        binds: Mounted over the overlay.
    """

    lower: tuple[str, ...]
    binds: tuple[Bind, ...] = ()


@dataclass(frozen=True, slots=True)
class Untagged:
    """A tag was taken away; `reference` is `name:tag`."""

    reference: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """An image or layer was removed; `id` is `sha256:…`."""

    id: str


Removal = Untagged | Deleted


class ImageUser(NamedTuple):
    """A container that uses an image; the store's caller tells of them."""

    container_id: str
    running: bool
