"""What a container says: its log, and its live output over a hijacked connection."""

from __future__ import annotations

import contextlib
import functools
import struct
from collections.abc import AsyncGenerator, AsyncIterator

import anyio.to_thread
import msgspec

from logs.container_log import ContainerLog
from logs.follow import Follower, follow
from logs.framing import Stream, frame
from logs.reader import read
from supervisor import lifecycle
from supervisor.api.containers import found
from supervisor.api.messages import Request
from supervisor.api.parameters import flag, moment
from supervisor.api.sockets import ByteSocket
from supervisor.attachments import Attachment
from supervisor.container import Container
from supervisor.engine import Engine
from supervisor.errors import BadParameter, Conflict, Unsupported
from supervisor.states import State

RAW = b"application/vnd.docker.raw-stream"
MULTIPLEXED = b"application/vnd.docker.multiplexed-stream"

SEND_BUFFER = 1024 * 1024
"""Socket buffer of a client that reads a log: a whole chunk of the reader fits in."""

_frame_head = struct.Struct(">BxxxL").pack


class LogRequest(msgspec.Struct, frozen=True):
    """What of a log is asked for.

    Attributes:
        tail: Number of newest lines, None for all.
        since_ns: ns since the epoch, None for the beginning.
        until_ns: ns since the epoch, None for the end.
    """

    streams: frozenset[Stream]
    tail: int | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    timestamps: bool = False


def _streams(request: Request) -> frozenset[Stream]:
    wanted = (("stdout", Stream.STDOUT), ("stderr", Stream.STDERR))
    return frozenset(stream for name, stream in wanted if flag(request, name))


def _log_request(request: Request) -> LogRequest:
    streams = _streams(request)
    if not streams:
        raise BadParameter("Bad parameters: you must choose at least one stream")
    if flag(request, "details"):
        raise Unsupported("mdocker does not support details of logs yet: ask without them")
    tail = request.parameter("tail").strip()
    return LogRequest(
        streams=streams,
        # As in Docker whatever is no number means all.
        tail=int(tail) if tail.isascii() and tail.isdigit() and len(tail) < 19 else None,
        since_ns=moment(request, "since"),
        until_ns=moment(request, "until"),
        timestamps=flag(request, "timestamps"),
    )


async def logs(engine: Engine, request: Request) -> None:
    """GET /containers/{id}/logs"""
    container = found(engine, request)
    asked = _log_request(request)
    if container.config.log_driver == "none":
        raise Unsupported("configured logging driver does not support reading")
    connection = request.connection
    log = engine.log_of(container) if flag(request, "follow") else None
    pieces = _history(engine, container, asked) if log is None else await _live(engine, log, asked)
    connection.stream.widen(SEND_BUFFER)
    await connection.start_stream(200, MULTIPLEXED if request.version >= (1, 42) else RAW)
    with connection.hangups.cancelling(connection.stream) as scope:
        async with _closed_after(pieces):
            async for piece in pieces:
                await connection.send_piece(piece)
        await connection.end_stream()
    if scope.cancelled_caught:
        connection.abandon()


@contextlib.asynccontextmanager
async def _closed_after(pieces: AsyncIterator[object]) -> AsyncGenerator[None, None]:
    """Close an iterator that is a generator, wherever in it we are."""
    try:
        yield
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


async def _live(engine: Engine, log: ContainerLog, asked: LogRequest) -> Follower:
    begin = functools.partial(
        follow,
        log,
        streams=asked.streams,
        tail=asked.tail,
        since_ns=asked.since_ns,
        until_ns=asked.until_ns,
        timestamps=asked.timestamps,
        framed=True,
    )
    # It opens the rotated files and looks for the place to begin: the disk may be slow.
    return await anyio.to_thread.run_sync(begin, limiter=engine.limits.readers)


async def _history(
    engine: Engine, container: Container, asked: LogRequest
) -> AsyncGenerator[bytes, None]:
    """What has been logged so far, as framed chunks."""
    begin = functools.partial(
        read,
        container.log_path,
        container.config.log_driver,
        streams=asked.streams,
        tail=asked.tail,
        since_ns=asked.since_ns,
        until_ns=asked.until_ns,
        timestamps=asked.timestamps,
        framed=True,
        log=engine.log_of(container),
    )
    try:
        chunks = await anyio.to_thread.run_sync(begin, limiter=engine.limits.readers)
    except FileNotFoundError:
        return  # it has never run
    try:
        while True:
            # A hung disk must hold up nobody but the client that reads from it.
            chunk = await anyio.to_thread.run_sync(
                next, chunks, None, limiter=engine.limits.readers
            )
            if chunk is None:
                return
            yield chunk
    finally:
        del chunks  # which closes the file


async def attach(engine: Engine, request: Request) -> None:
    """POST /containers/{id}/attach: output only; what the client sends goes nowhere."""
    container = found(engine, request)
    if container.state is State.PAUSED:
        raise Conflict(f"container {container.name} is paused, unpause the container before attach")
    if container.state is State.RESTARTING:
        raise Conflict(
            f"container {container.name} is restarting, wait until the container is running"
        )
    streams = _streams(request)
    connection = request.connection
    attachment = (
        engine.attach(container, Stream.STDOUT in streams, Stream.STDERR in streams)
        if flag(request, "stream")
        else None
    )
    try:
        await connection.hijack(_hijack_head(request))
        engine.events.publish("container", "attach", container.id, lifecycle.attributes(container))
        with connection.hangups.cancelling(connection.stream):
            if flag(request, "logs") and container.config.log_driver != "none":
                past = _history(engine, container, LogRequest(streams))
                async with _closed_after(past):
                    async for piece in past:
                        await connection.stream.send_all((piece,))
            if attachment is not None:
                await _send_live(attachment, connection.stream)
    finally:
        if attachment is not None:
            engine.detach(container, attachment)


async def _send_live(attachment: Attachment, stream: ByteSocket) -> None:
    live = aiter(attachment)
    async with _closed_after(live):
        async for number, data in live:
            await stream.send_all((_frame_head(number, len(data)), data))
    if attachment.lost:
        await stream.send(frame(Stream.SYSTEMERR, attachment.lost.encode()))


def _hijack_head(request: Request) -> bytes:
    if not request.wants_upgrade:
        return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n\r\n" % RAW
    content_type = MULTIPLEXED if request.version >= (1, 42) else RAW
    return (
        b"HTTP/1.1 101 UPGRADED\r\nContent-Type: %b\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        % content_type
    )
