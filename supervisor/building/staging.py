"""Where a build keeps its context and downloads; whatever happens, it goes with the build."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import structlog

from runtime.images.trees import remove_tree
from supervisor.errors import EngineFault

if TYPE_CHECKING:
    from supervisor.engine import Engine

log = structlog.get_logger()

REMOVE_SECONDS = 30.0
"""A disk that hangs holds up a build's end no longer; the next start removes what is left."""


def directory_of(root: Path) -> Path:
    """Where all builds of an engine have theirs."""
    return root / "builds"


class Staging:
    """One build's directory.

    Attributes:
        context: What the client has sent.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.context = directory / "context"
        self._downloads = 0

    def make(self) -> None:
        """Make it, and an empty context. Blocks.

        Raises:
            OSError: It can't be made.
        """
        # Nobody else of this machine's may reach what clients send, setuid programs among it.
        self.directory.parent.mkdir(mode=0o700, exist_ok=True)
        self.directory.mkdir(mode=0o700)
        self.context.mkdir(mode=0o755)

    def download(self) -> Path:
        """Make an empty directory for one file. Blocks.

        Raises:
            OSError: It can't be made.
        """
        self._downloads += 1
        made = self.directory / f"download-{self._downloads}"
        made.mkdir(mode=0o700)
        return made


@contextlib.asynccontextmanager
async def staged(engine: Engine) -> AsyncGenerator[Staging, None]:
    """Have a directory for a build while the block runs.

    Raises:
        EngineFault: The disk refused.
    """
    directory = directory_of(engine.root) / secrets.token_hex(8)
    staging = Staging(directory)
    limiter = engine.limits.images
    try:
        try:
            await anyio.to_thread.run_sync(staging.make, limiter=limiter)
        except OSError as error:
            raise EngineFault(f"cannot make a place for the build: {error.strerror}") from error
        yield staging
    finally:
        with anyio.move_on_after(REMOVE_SECONDS, shield=True):
            try:
                await anyio.to_thread.run_sync(
                    remove_tree, directory, limiter=limiter, abandon_on_cancel=True
                )
            except OSError as error:
                log.error("build.not_removed", path=str(directory), error=error.strerror)


def left(root: Path) -> list[Path]:
    """What builds have left that a death of the engine has cut off."""
    try:
        return list(directory_of(root).iterdir())
    except OSError:  # there were none; what can't be read stays for the next start
        return []


def remove(directory: Path) -> None:
    """Remove what one of them has left. Blocks."""
    with contextlib.suppress(OSError):  # what can't be removed stays for the next start
        remove_tree(directory)
