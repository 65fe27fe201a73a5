"""A container's files, looked at, read and written from outside by a helper process.

The engine opens none of them: a path of a container's is followed by a process that has nothing but
the container's root in reach (`runtime.archive_child`), one for each request. Its streams are
pipes, so memory is flat and a slow client holds up nobody but its own helper.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import anyio.lowlevel

from runtime import archive_order as order
from runtime.archive_job import ArchiveJob
from supervisor import helper_process, network_files
from supervisor.container import Container
from supervisor.errors import (
    BadParameter,
    Conflict,
    EngineError,
    EngineFault,
    NoSuchContainer,
    NotFound,
)
from supervisor.helper_process import HelperProcess, Unread
from supervisor.lifecycle import settled
from supervisor.mount_points import depth
from supervisor.states import State

if TYPE_CHECKING:
    from supervisor.engine import Engine

_TRIES = 5


class Forbidden(EngineError):
    """The path lies in a file system that is mounted read-only."""

    status = 403


class _ContainerEnded(Exception):
    """Its helper came too late into a container that ran a moment ago."""


class Helper(HelperProcess):
    """One helper process at work in a container's files."""

    def __init__(self, job: ArchiveJob, reference: str, path: str) -> None:
        super().__init__(job, f"the process for the files of container {reference}")
        self._reference = reference
        self._path = path

    def refusal(self, kind: str, words: str) -> Exception:
        """What a refusal of its is for who has asked."""
        if kind == order.GONE:
            return _ContainerEnded()
        if kind == order.UNREAD:
            return Unread(f"the archive of container {self._reference} is not read any more")
        if kind == order.MISSING:
            return NotFound(f"Could not find the file {self._path} in container {self._reference}")
        if kind == order.REFUSED:
            return BadParameter(words)
        if kind == order.READ_ONLY:
            return Forbidden(words)
        return EngineFault(f"cannot copy files of container {self._reference}: {words}")


@contextlib.asynccontextmanager
async def helper(
    engine: Engine,
    container: Container,
    asked: dict[str, Any],
    reference: str = "",
    *,
    writable: bool = False,
    view: dict[str, Any] | None = None,
    output: int = -1,
) -> AsyncGenerator[tuple[Helper, dict[str, Any]], None]:
    """Have a helper at work in a container's files; it is gone when the block is left.

    Args:
        asked: The order without its view (`runtime.archive_order`).
        reference: What the client calls the container, for its error texts.
        writable: It will write. The caller has the container's turn then (`Limits.uploads`).
        view: What it looks at; None for the container's root as it is now.
        output: Where a `layer` goes.

    Yields:
        The helper and its first answer.

    Raises:
        EngineError: It refuses, or can't be started.
    """
    for _ in range(_TRIES):
        pidfd, seen = -1, view
        if seen is None:
            # Without what is mounted over its root: in a user namespace that can't be left behind,
            # as it is locked (mount_namespaces(7)), so its layers are read, as a commit does.
            apart = asked["kind"] == "export" and container.life.user_namespace is not None
            seen, pidfd = await _view(engine, container, writable, apart)
        try:
            if pidfd >= 0:
                seen = {"pidfd": pidfd, "user": container.life.user_namespace is not None}
            job = await helper_process.start(engine, {**asked, "view": seen}, pidfd, output)
        finally:
            if pidfd >= 0:
                os.close(pidfd)
        one = Helper(job, reference or container.name, asked.get("path", ""))
        try:
            try:
                first = await one.answer()
            except _ContainerEnded:
                continue
            except EngineFault:
                check_there(container)  # removed meanwhile: that is why its files are not
                raise
            yield one, first
            return
        finally:
            await helper_process.end(engine, job)
    raise EngineFault(f"container {container.name} ends and starts too often to look into it")


async def _view(
    engine: Engine, container: Container, writable: bool, apart: bool
) -> tuple[dict[str, Any], int]:
    """How a helper enters a container now; of one that runs the second is its pidfd, ours.

    Args:
        apart: It is not to be entered, even if it runs.
    """
    if not writable:
        await settled(container)  # a start that is under way waits for who writes
    while not apart and (run := container.run) is not None:
        if run.pidfd >= 0 and not run.exited.is_set():
            try:
                return {}, os.dup(run.pidfd)
            except OSError as error:
                raise EngineFault(
                    f"cannot look into container {container.name}: {error.strerror}"
                ) from error
        await run.ended.wait()
        await anyio.lowlevel.checkpoint()
    check_there(container)
    return layers_of(engine, container) | {
        "binds": _mounted(engine, container, writable),
        "readonly_root": container.config.mounts.readonly_root,
        "writable": writable,
        "volatile": container.config.auto_remove,
    }, -1


def layers_of(engine: Engine, container: Container) -> dict[str, Any]:
    """What a container's root is put together from, and an empty directory to do it in."""
    directory = engine.directory(container)
    return {
        "lower": list(engine.layers(container).lower),
        "upper": str(directory / "upper"),
        "work": str(directory / "work"),
        "merged": str(engine.settings.rootfs),
    }


def _mounted(engine: Engine, container: Container, writable: bool) -> list[dict[str, Any]]:
    """What a start would mount over its root, in order.

    Args:
        writable: As in Docker the layer's own /etc/hosts and its like are written to before the
            first start, which then covers them.
    """
    directory = engine.directory(container)
    points = container.config.mounts.points
    taken = {point.target for point in points}
    own = () if writable and not container.life.started_ns else network_files.NAMES
    found = [
        *(_mount(one.source, one.target, one.readonly) for one in engine.layers(container).binds),
        *(
            _mount(f"{directory}/{name}", f"/etc/{name}") | ({} if writable else {"made": "file"})
            for name in own
            if f"/etc/{name}" not in taken
        ),
    ]
    for point in points:
        source, filled = point.source, False
        if point.kind == "volume":
            options = engine.volumes.find(point.volume).options or {}
            source = (
                options.get("device", "") if options else str(engine.volumes.data(point.volume))
            )
            filled = not options and point.copy_up and not container.life.started_ns
        if point.kind == "tmpfs":
            source = ""
        found.append(
            _mount(source, point.target, point.readonly)
            | {"made": "directory", "subpath": point.subpath, "filled": filled}
        )
    return sorted(found, key=lambda one: depth(one["target"]))


def _mount(source: str, target: str, readonly: bool = False) -> dict[str, Any]:
    return {"source": source, "target": target, "readonly": readonly}


def check_there(container: Container, verb: str = "copy files of") -> None:
    """See that a container has files.

    Raises:
        Conflict, NoSuchContainer: It is being removed, or is dead.
    """
    if container.state is State.GONE:
        raise NoSuchContainer(container.name)
    if container.state is State.REMOVING:
        raise Conflict(f"You cannot {verb} container {container.id} which is being removed")
    if container.state is State.DEAD:
        raise Conflict(f"You cannot {verb} container {container.id} which is Dead: remove it again")
