"""GET, HEAD and PUT /containers/{id}/archive: files out of a container and into it."""

from __future__ import annotations

import base64
import contextlib
import datetime
from collections.abc import AsyncGenerator, Mapping
from typing import Any
from urllib.parse import parse_qs

import anyio
import msgspec

from supervisor.api.containers import found
from supervisor.api.durations import rfc3339_nano
from supervisor.api.messages import BodyTooSlow, Reply, Request
from supervisor.api.streams import SEND_BUFFER, closed_after
from supervisor.archive import Helper, check_there, helper
from supervisor.archive_uploads import SILENCE_S
from supervisor.container import Container
from supervisor.engine import Engine
from supervisor.errors import BadParameter, Conflict
from supervisor.lifecycle import attributes, settled

TAR = b"application/x-tar"

_encode = msgspec.json.Encoder().encode
_FALSE = frozenset({"", "0", "no", "false", "none"})


class _Asked(msgspec.Struct, frozen=True):
    """What of a container is meant. A path may hold any bytes: surrogates stand for odd ones."""

    path: str
    query: Mapping[str, list[str]]

    def flag(self, name: str) -> bool:
        """A boolean parameter, as `supervisor.api.parameters.flag` reads it."""
        values = self.query.get(name)
        return values is not None and values[0].strip().lower() not in _FALSE


def _asked(request: Request) -> _Asked:
    try:
        query = parse_qs(
            request.raw_query.decode("ascii"),
            keep_blank_values=True,
            max_num_fields=1000,
            errors="surrogateescape",
        )
    except ValueError as error:
        raise BadParameter(f"the query string is malformed: {error}") from error
    path = (query.get("path") or [""])[0]
    if not path:
        raise BadParameter("bad parameter: path cannot be empty")
    if "\0" in path:
        raise BadParameter("bad parameter: path cannot hold a NUL character")
    return _Asked(path, query)


async def stat(engine: Engine, request: Request) -> Reply | None:
    """HEAD /containers/{id}/archive"""
    container, asked = found(engine, request), _asked(request)
    order = {"kind": "stat", "path": asked.path}
    connection = request.connection
    reply = None
    with connection.hangups.cancelling(connection.stream) as scope:
        async with helper(engine, container, order, request.names[0]) as (_, first):
            reply = Reply(content_type=b"", headers=(_stat_header(first["stat"]),))
    if scope.cancelled_caught:
        connection.abandon()
    return reply


async def read(engine: Engine, request: Request) -> None:
    """GET /containers/{id}/archive"""
    container, asked = found(engine, request), _asked(request)
    order = {"kind": "read", "path": asked.path, "sparse": asked.flag("sparse")}
    await send_archive(engine, request, container, order, TAR, "archive-path")


async def send_archive(
    engine: Engine,
    request: Request,
    container: Container,
    order: dict[str, Any],
    content_type: bytes,
    action: str,
) -> None:
    """Answer with an archive that a helper makes, as it makes it.

    Args:
        action: Of the event that tells of it.
    """
    connection = request.connection
    with connection.hangups.cancelling(connection.stream) as scope:
        async with helper(engine, container, order, request.names[0]) as (one, first):
            headers = [_stat_header(first["stat"])] if "stat" in first else []
            engine.events.publish("container", action, container.id, attributes(container))
            connection.stream.widen(SEND_BUFFER)
            await connection.start_stream(200, content_type, headers)
            pieces = one.pieces()
            async with closed_after(pieces):
                async for piece in pieces:
                    await connection.send_piece(piece)
            await connection.end_stream()
    if scope.cancelled_caught:
        connection.abandon()


def _stat_header(stat: dict[str, Any]) -> tuple[bytes, bytes]:
    shown = {**stat, "mtime": _go_time(stat["mtime_ns"])}
    del shown["mtime_ns"]
    return b"X-Docker-Container-Path-Stat", base64.b64encode(_encode(shown))


def _go_time(ns: int) -> str:
    """A file's time as Go's JSON has it, times before 1970 included."""
    if ns > 0:
        return rfc3339_nano(ns)
    seconds, fraction = divmod(ns, 10**9)
    whole = datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(seconds=seconds)
    shown = f"{whole:%Y-%m-%dT%H:%M:%S}.{fraction:09d}".rstrip("0").rstrip(".")
    return f"{shown}Z"


async def write(engine: Engine, request: Request) -> Reply | None:
    """PUT /containers/{id}/archive"""
    container, asked = found(engine, request), _asked(request)
    order = {
        "kind": "write",
        "path": asked.path,
        "no_overwrite": asked.flag("noOverwriteDirNonDir"),
        "owner": container.config.user or None if asked.flag("copyUIDGID") else None,
    }
    connection = request.connection
    warnings: dict[str, int] = {}
    done = False
    with connection.hangups.cancelling(connection.stream) as scope:
        async with _turn(engine, container) as turn:
            warnings = await _unpack(engine, request, container, order)
            done = True
        if turn.cancelled_caught:
            raise Conflict(f"container {container.name} was removed while files were copied to it")
    if scope.cancelled_caught or not done:
        connection.abandon()
        return None
    engine.events.publish("container", "extract-to-dir", container.id, attributes(container))
    told = [f"{text} ({count})" for text, count in warnings.items()]
    return Reply(body=_encode({"Warnings": told}) if told else b"")


@contextlib.asynccontextmanager
async def _turn(engine: Engine, container: Container) -> AsyncGenerator[anyio.CancelScope, None]:
    """Be the only one who writes into a container, while no start of it is under way."""
    had = False
    while not had:
        async with engine.limits.uploads.turn(container.id) as scope:
            if container.lock is None or not container.lock.locked():
                check_there(container, "copy files to")
                had = True  # also if its scope is cancelled, which ends the block in silence
                yield scope
        if not had:
            await settled(container)


async def _unpack(
    engine: Engine, request: Request, container: Container, order: dict[str, Any]
) -> dict[str, int]:
    async with helper(engine, container, order, request.names[0], writable=True) as (one, _):
        await _feed(engine, request, container, one)
        told = await one.answer()
        warnings: dict[str, int] = told["done"]["warnings"]
        return warnings


async def _feed(engine: Engine, request: Request, container: Container, one: Helper) -> None:
    connection = request.connection
    while True:
        piece = connection.buffered_body()
        if piece is None:
            await _await_client(engine, request, container)
            piece = await connection.receive_body()
        if not piece:
            one.job.close_input()
            return
        if not await one.feed(piece):
            return


async def _await_client(engine: Engine, request: Request, container: Container) -> None:
    """Wait for more of the body: for ever, or for a while where somebody waits for its end.

    Raises:
        BodyTooSlow: The client has paused for too long.
    """
    while True:
        with anyio.move_on_after(SILENCE_S) as scope:
            await anyio.wait_readable(request.connection.stream.fileno())
        if not scope.cancelled_caught:
            return
        if engine.limits.uploads.somebody_waits(container.id):
            raise BodyTooSlow(
                f"no more of the archive came for {SILENCE_S:.0f} s, and others wait for "
                f"container {container.name}"
            )
