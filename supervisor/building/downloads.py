"""ADD of a URL: the file comes into a directory of its own, and is copied from there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import anyio.to_thread

from supervisor.building import fetching
from supervisor.building.errors import StepFailed
from supervisor.building.instructions import Copy
from supervisor.building.output import Output
from supervisor.building.processes import working
from supervisor.building.staging import Staging
from supervisor.errors import EngineFault

if TYPE_CHECKING:
    from supervisor.engine import Engine

_NAMELESS = "file"


class Download(NamedTuple):
    """A file that has come."""

    directory: Path
    name: str


async def fetch_all(engine: Engine, staging: Staging, copy: Copy, output: Output) -> list[Download]:
    """Fetch the sources of an ADD that are URLs.

    Raises:
        StepFailed: A COPY has one, or it can't be had.
        EngineFault: The disk refused.
    """
    urls = [source for source in copy.sources if is_url(source)]
    if urls and copy.keyword != "ADD":
        raise StepFailed(f"{copy.keyword} failed: source can't be a URL for {copy.keyword}")
    return [await _fetch(engine, staging, copy, url, output) for url in urls]


def is_url(source: str) -> bool:
    """Whether an ADD fetches it."""
    return source.lower().startswith(("http://", "https://"))


async def _fetch(
    engine: Engine, staging: Staging, copy: Copy, url: str, output: Output
) -> Download:
    try:
        directory = await anyio.to_thread.run_sync(staging.download, limiter=engine.limits.images)
    except OSError as error:
        raise EngineFault(f"cannot make a place for {url}: {error.strerror}") from error
    try:
        async with fetching.get(engine.registries, url) as found:
            if not found.name and copy.destination.endswith("/"):
                raise StepFailed(f"ADD failed: cannot determine filename for url: {url}")
            name = found.name or _NAMELESS
            order = {
                "kind": "receive",
                "directory": str(directory),
                "name": name,
                "mtime_ns": found.modified_ns,
            }
            async with working(engine, order, "ADD") as process:
                received = 0
                async for piece in found.pieces:
                    if not await process.feed(piece):
                        break
                    received += len(piece)
                    output.progress.show("", "Downloading", received, found.size)
                process.job.close_input()
                await process.answer()
    except fetching.FetchFailed as error:
        raise StepFailed(f"ADD failed: {error}") from error
    await output.say("\n")
    return Download(directory, name)
