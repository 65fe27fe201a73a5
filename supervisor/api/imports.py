"""POST /images/create: a root file system archive from the request's body into the store."""

from __future__ import annotations

import contextlib
import functools
import os

import anyio
import msgspec

from runtime.images.errors import ImageError
from runtime.images.model import Image
from runtime.images.unpacking import UnpackJob
from supervisor import image_making
from supervisor.api import pulls
from supervisor.api.create import architecture
from supervisor.api.messages import Reply, Request
from supervisor.engine import Engine
from supervisor.errors import BadParameter, Unsupported

PROGRESS_EVERY = 16 * 1024 * 1024
"""Bytes between two progress lines."""

_encode = msgspec.json.Encoder().encode


async def create(engine: Engine, request: Request) -> Reply | None:
    """POST /images/create"""
    if request.parameter("fromImage"):
        await pulls.pull(engine, request)
        return None
    source = request.parameter("fromSrc")
    if not source:
        raise BadParameter("nothing to create an image from: give fromSrc=- and the archive")
    if source != "-":
        raise Unsupported(
            "mdocker does not fetch archives from URLs yet: download it and import the file"
        )
    _check_platform(request.parameter("platform"))
    repository, tag = request.parameter("repo"), request.parameter("tag")
    name = f"{repository}:{tag}" if repository and tag else repository
    await _Upload(engine, request).run(
        name, request.parameter("message"), request.query.get("changes", [])
    )
    return None


def _check_platform(asked: str) -> None:
    if asked and asked.lower().split("/")[:2] != ["linux", architecture()]:
        raise BadParameter(
            f"invalid platform {asked!r}: only linux/{architecture()} can be imported here"
        )


class _Upload:
    """One import: the body into the unpacking child, progress and the result to the client.

    Until the first progress line nothing has been sent, and an error is an HTTP error; after it
    the status is out, and an error is the stream's last line, as Docker does it.
    """

    def __init__(self, engine: Engine, request: Request) -> None:
        self._engine = engine
        self._request = request
        self._streaming = False
        self._received = 0

    async def run(self, name: str, message: str, changes: list[str]) -> None:
        """Import, or leave nothing behind."""
        begin = functools.partial(self._engine.images.begin_import, name, message, changes)
        try:
            async with image_making.making(self._engine, begin) as job:
                await self._feed(job)
                image = await image_making.finish(self._engine, job)
        except ImageError as error:
            if not self._streaming:
                raise
            await self._line({"errorDetail": {"message": str(error)}, "error": str(error)})
        else:
            self._publish(image)
            for warning, count in job.warnings.items():
                await self._line({"status": f"warning: {warning} ({count})"})
            await self._line({"status": image.id})
        await self._request.connection.end_stream()

    async def _feed(self, job: UnpackJob[Image]) -> None:
        os.set_blocking(job.stdin_fd, False)
        reported = 0
        async with contextlib.aclosing(self._request.body_pieces()) as pieces:
            async for piece in pieces:
                if not await _write(job.stdin_fd, piece):
                    return  # the child has seen enough: its result says why
                self._received += len(piece)
                if self._received - reported >= PROGRESS_EVERY:
                    reported = self._received
                    await self._progress()
        job.close_stdin()

    async def _progress(self) -> None:
        detail = {"current": self._received}
        total = self._request.header(b"content-length")
        if total:
            detail["total"] = int(total)
        shown = f"{self._received / 1e6:.1f} MB"
        await self._line({"status": "Importing", "progressDetail": detail, "progress": shown})

    async def _line(self, message: object) -> None:
        connection = self._request.connection
        if not self._streaming:
            self._streaming = True
            await connection.start_stream(200, b"application/json")
        await connection.send_piece(_encode(message) + b"\r\n")

    def _publish(self, image: Image) -> None:
        name = image.tags[0] if image.tags else image.id
        self._engine.events.publish("image", "import", image.id, {"name": name})


async def _write(descriptor: int, data: bytes) -> bool:
    """Write all of it; False if the reader is gone."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            await anyio.wait_writable(descriptor)
        except BrokenPipeError:
            return False
    return True
