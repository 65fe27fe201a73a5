"""GET /containers/{id}/logs: what a container has printed, and what it prints."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

import anyio.to_thread
import msgspec

from logs.container_log import ContainerLog
from logs.follow import Follower, follow
from logs.framing import Stream
from logs.log_file import LogFile
from logs.reader import Chunks, read
from logs.spots import START, Spot
from supervisor.api import places
from supervisor.api.containers import found
from supervisor.api.hijacked import MULTIPLEXED, RAW
from supervisor.api.messages import Request
from supervisor.api.parameters import flag, moment, resumed
from supervisor.container import Container
from supervisor.engine import Engine
from supervisor.errors import BadParameter, Unsupported
from supervisor.feeds import place_word

WORTH_COPYING = 64 * 1024
"""Bytes up to which a copy costs less than another system call."""

SEND_BUFFER = 1024 * 1024
"""Socket buffer of a client that reads a log: a whole chunk of the reader fits in."""


class LogRequest(msgspec.Struct, frozen=True):
    """What of a log is asked for.

    Attributes:
        tail: Number of newest lines, None for all.
        since_ns: ns since the epoch, None for the beginning.
        until_ns: ns since the epoch, None for the end.
        begin: A place to begin at, whatever `tail` says.
        framed: With Docker's frames, which tell the streams apart; a terminal has but one.
        lined: Each line in a frame of its own.
    """

    streams: frozenset[Stream]
    tail: int | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    timestamps: bool = False
    details: bool = False
    begin: Spot | None = None
    framed: bool = True
    lined: bool = False


def asked_streams(request: Request) -> frozenset[Stream]:
    wanted = (("stdout", Stream.STDOUT), ("stderr", Stream.STDERR))
    return frozenset(stream for name, stream in wanted if flag(request, name))


def _log_request(request: Request) -> LogRequest:
    streams = asked_streams(request)
    if not streams:
        raise BadParameter("Bad parameters: you must choose at least one stream")
    tail = request.parameter("tail").strip()
    return LogRequest(
        streams=streams,
        # As in Docker whatever is no number means all.
        tail=int(tail) if tail.isascii() and tail.isdigit() and len(tail) < 19 else None,
        since_ns=moment(request, "since"),
        until_ns=moment(request, "until"),
        timestamps=flag(request, "timestamps"),
        details=flag(request, "details"),
        begin=resumed(request, places.read_place),
    )


async def logs(engine: Engine, request: Request) -> None:
    """GET /containers/{id}/logs"""
    container = found(engine, request)
    telling = places.are_wanted(request)
    # Of a terminal Docker's clients take raw bytes, which have no room for places.
    framed = telling or not container.config.tty
    # docker-py and aiodocker hand frames on as lines. Ours, which takes places, joins them.
    wish = _log_request(request)
    asked = msgspec.structs.replace(wish, framed=framed, lined=framed and not telling)
    if container.config.log_driver == "none":
        raise Unsupported("configured logging driver does not support reading")
    connection = request.connection
    log = engine.log_of(container) if flag(request, "follow") else None
    past: Chunks | Follower | None
    if log is not None:
        past = await _live(engine, log, asked)
    else:
        past = await open_history(engine, container, asked)
    connection.stream.widen(SEND_BUFFER)
    content_type = MULTIPLEXED if request.version >= (1, 42) and asked.framed else RAW
    await connection.start_stream(200, content_type, _headers(past) if telling else ())
    with connection.hangups.cancelling(connection.stream) as scope:
        if past is not None:
            place = functools.partial(_place_frame, past) if telling else bytes
            pieces = past if isinstance(past, Follower) else history(engine, past)
            if isinstance(past, Follower):
                past.push_to(lambda piece: connection.push_piece(piece + place()))
            async with closed_after(pieces):
                async for piece in pieces:
                    where = place()
                    if len(piece) < WORTH_COPYING:
                        piece, where = piece + where, b""
                    await connection.send_piece(piece)
                    if where:
                        await connection.send_piece(where)
        await connection.end_stream()
    if scope.cancelled_caught:
        connection.abandon()


def _place_frame(past: Chunks | Follower) -> bytes:
    """Where the client is behind the last chunk, to be sent with it."""
    return b"" if past.spot is None else places.frame(place_word(past.spot))


def _headers(past: Chunks | Follower | None) -> list[tuple[bytes, bytes]]:
    """Where the client is now, and whether it has missed something before that."""
    spot = START if past is None else past.spot
    headers = [] if spot is None else [places.header(place_word(spot))]
    if past is not None and past.missed:
        headers.append(places.MISSED)
    return headers


@contextlib.asynccontextmanager
async def closed_after(pieces: AsyncIterator[object]) -> AsyncGenerator[None, None]:
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
        details=asked.details,
        framed=asked.framed,
        lined=asked.lined,
        begin=asked.begin,
    )
    # It opens the rotated files and looks for the place to begin: the disk may be slow.
    return await anyio.to_thread.run_sync(begin, limiter=engine.limits.readers)


async def open_history(
    engine: Engine,
    container: Container,
    asked: LogRequest,
    upto: tuple[LogFile, int] | None = None,
) -> Chunks | None:
    """What has been logged so far; None where nothing has ever been.

    Args:
        upto: Not what is behind this size of this file.
    """
    begin = functools.partial(
        read,
        container.log_path,
        container.config.log_driver,
        streams=asked.streams,
        tail=asked.tail,
        since_ns=asked.since_ns,
        until_ns=asked.until_ns,
        timestamps=asked.timestamps,
        details=asked.details,
        framed=asked.framed,
        lined=asked.lined,
        log=engine.log_of(container),
        begin=asked.begin,
        upto=upto,
    )
    try:
        return await anyio.to_thread.run_sync(begin, limiter=engine.limits.readers)
    except FileNotFoundError:
        return None  # it has never run


async def history(engine: Engine, chunks: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The chunks of a log, each read by a thread: a hung disk holds up nobody but this client."""
    while True:
        chunk = await anyio.to_thread.run_sync(next, chunks, None, limiter=engine.limits.readers)
        if chunk is None:
            return
        yield chunk
