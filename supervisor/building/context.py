"""A build's context: unpacked by a process that reaches nothing else, and rid of what is left out.

What a client sends has been through .dockerignore already, so that file counts for Docker's daemon
in one thing: it may leave out itself and the Dockerfile, which are needed to build and not to be
copied. In a context from elsewhere all of it counts.
"""

from __future__ import annotations

import posixpath
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NamedTuple

from runtime import archive_headers as headers
from supervisor.building import fetching, ignoring
from supervisor.building.dockerfile import LARGEST
from supervisor.building.processes import ask, working
from supervisor.building.staging import Staging
from supervisor.errors import BadParameter, EngineError, Unsupported

if TYPE_CHECKING:
    from supervisor.engine import Engine

DOCKERFILE = "Dockerfile"

_IGNORE_FILE = ".dockerignore"
_SNIFFED = 512
# What an archive begins with: gzip, bzip2, xz, zstd; a tar says so in its first header.
_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
_USTAR = slice(257, 262)
_GIT_PREFIXES = ("git://", "git@", "github.com/", "ssh://")


class DockerfileMissing(EngineError):
    """There is no such file in the context."""

    status = 500  # Docker's


class Texts(NamedTuple):
    """What of a context tells how to build it.

    Attributes:
        path: The Dockerfile's, in the context.
        dockerfile: None where it is not there.
        ignored: .dockerignore; None where it is not there.
    """

    path: str
    dockerfile: bytes | None
    ignored: bytes | None


def checked_path(asked: str) -> str:
    """Return the Dockerfile's path in the context.

    Raises:
        BadParameter: It leads out.
    """
    path = posixpath.normpath(asked or DOCKERFILE)
    if path == ".." or path.startswith("../"):
        raise BadParameter(f"Forbidden path outside the build context: {asked} ()")
    return path.lstrip("/")


async def receive(
    engine: Engine, staging: Staging, asked: str, pieces: AsyncIterator[bytes]
) -> Texts:
    """Unpack a context as it comes.

    Args:
        asked: What the client calls the Dockerfile; empty for its usual names.

    Raises:
        BadParameter: It is no archive, or is damaged.
        EngineFault: The machine failed.
    """
    path = checked_path(asked)
    names = [_IGNORE_FILE, path] + ([] if asked else [DOCKERFILE.lower()])
    order = {
        "kind": "context",
        "directory": str(staging.context),
        "texts": names,
        "most": LARGEST,
    }
    async with working(engine, order) as process:
        async for piece in pieces:
            if not await process.feed(piece):
                break  # it has seen enough: its answer says why
        process.job.close_input()
        told = (await process.answer())["done"]
    ignored, *found = [None if text is None else text.encode("latin-1") for text in told]
    there = [(name, text) for name, text in zip(names[1:], found, strict=True) if text is not None]
    name, text = there[0] if there else (path, None)
    return Texts(name, text, ignored)


async def fetch(engine: Engine, staging: Staging, url: str, asked: str) -> Texts:
    """Fetch a context, or a Dockerfile that is one alone.

    Args:
        asked: What the client calls the Dockerfile of a context; empty for its usual names.

    Raises:
        Unsupported: It is in a git repository.
        BadParameter: It can't be had, or is neither.
        EngineFault: The machine failed.
    """
    check_remote(url)
    try:
        async with fetching.get(engine.registries, url) as found:
            pieces = aiter(found.pieces)
            head = b""
            while len(head) < _SNIFFED and (piece := await anext(pieces, b"")):
                head += piece
            if head.startswith(_MAGIC) or head[_USTAR] == b"ustar":
                texts = await receive(engine, staging, asked, _chained(head, pieces))
            else:
                text = await _whole(head, pieces, url)
                texts = await receive(engine, staging, "", _alone(text))
    except fetching.FetchFailed as error:
        raise BadParameter(f"error downloading remote context {url}: {error}") from error
    return texts


def check_remote(url: str) -> None:
    """Refuse what is no URL of a file.

    Raises:
        Unsupported: It is a git repository.
        BadParameter: It is something else.
    """
    path = url.partition("#")[0]
    if url.startswith(_GIT_PREFIXES) or path.endswith(".git"):
        raise Unsupported(
            "mdocker does not fetch build contexts from git repositories: clone it, and build the "
            "directory"
        )
    if not url.lower().startswith(("http://", "https://")):
        raise BadParameter(f"unable to prepare context: {url} is no URL of a file")


async def _chained(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield head
    async for piece in rest:
        yield piece


async def _whole(head: bytes, rest: AsyncIterator[bytes], url: str) -> bytes:
    async for piece in rest:
        head += piece
        if len(head) > LARGEST:
            raise BadParameter(
                f"{url} is no archive, and with more than {LARGEST} bytes no Dockerfile either"
            )
    return head


async def _alone(text: bytes) -> AsyncIterator[bytes]:
    """A context with nothing but a Dockerfile."""
    entry = headers.Entry(DOCKERFILE.encode(), headers.REGULAR, 0o644, 0, 0, 0)
    entry.size = len(text)
    yield entry.spell() + headers.padded(text) + headers.END


async def settle(engine: Engine, staging: Staging, texts: Texts, *, is_remote: bool) -> bytes:
    """Rid a context of what is left out; returns its Dockerfile.

    Raises:
        DockerfileMissing, BadParameter: It is not there, or can't be one.
        EngineFault: The machine failed.
    """
    if texts.dockerfile is None:
        raise DockerfileMissing(f"Cannot locate specified Dockerfile: {texts.path}")
    if not texts.dockerfile.strip():
        raise BadParameter(f"the Dockerfile ({texts.path}) cannot be empty")
    if texts.ignored is not None:
        rules = ignoring.rules(texts.ignored)
        if not is_remote:
            rules = ignoring.among(rules, (texts.path, _IGNORE_FILE))
        if rules:
            order = {"kind": "exclude", "directory": str(staging.context), "rules": rules}
            await ask(engine, order)
    return texts.dockerfile
