"""Helper processes of a build: each does one thing to files, and is gone with its answer."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from runtime import archive_order as kinds
from runtime.archive_job import ArchiveJob
from supervisor import helper_process
from supervisor.building.errors import StepFailed
from supervisor.errors import BadParameter, EngineFault
from supervisor.helper_process import HelperProcess, Unread

if TYPE_CHECKING:
    from supervisor.engine import Engine


OF_CONTEXT = "file not found in build context or excluded by .dockerignore: "
"""Said before what is missing there."""


class BuildProcess(HelperProcess):
    """One at work."""

    def __init__(self, job: ArchiveJob, step: str, where: str) -> None:
        """Talk to one.

        Args:
            step: The instruction that it works for, in words about it; empty before the first.
            where: Said before what it does not find.
        """
        super().__init__(job, "a process of the build")
        self._step = step
        self._where = where

    def refusal(self, kind: str, words: str) -> Exception:
        """What a refusal of its is for the client."""
        if kind == kinds.UNREAD:
            return Unread("the layer is not read any more")
        if kind == kinds.MISSING:
            words = f"{self._where}stat {words}: file does not exist"
        elif kind != kinds.REFUSED:
            return EngineFault(f"cannot build: {words}")
        return StepFailed(f"{self._step} failed: {words}") if self._step else BadParameter(words)


@contextlib.asynccontextmanager
async def working(
    engine: Engine,
    order: dict[str, Any],
    step: str = "",
    output: int = -1,
    where: str = OF_CONTEXT,
) -> AsyncGenerator[BuildProcess, None]:
    """Have one at work while the block runs.

    Args:
        order: See `runtime.archive_order`.
        step, where: See `BuildProcess`.
        output: Where a layer goes.

    Raises:
        EngineFault: It can't be started.
    """
    job = await helper_process.start(engine, order, output=output)
    try:
        yield BuildProcess(job, step, where)
    finally:
        await helper_process.end(engine, job)


async def ask(
    engine: Engine, order: dict[str, Any], step: str = "", where: str = OF_CONTEXT
) -> Any:  # noqa: ANN401
    """Have one do its work, and return what it tells.

    Raises:
        StepFailed, BadParameter: It refuses; BadParameter before the first step.
        EngineFault: The machine failed.
    """
    async with working(engine, order, step, where=where) as process:
        return (await process.answer())["done"]
