"""POST /containers/{id}/attach: a container's live output over a hijacked connection."""

from __future__ import annotations

import functools
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import anyio
import anyio.to_thread

from logs.framing import Stream, frame
from logs.history import parts_of
from logs.reader import Chunks
from logs.spots import START, Spot, spot_at
from supervisor import escape_keys, lifecycle
from supervisor.api import hijacked, places, typed
from supervisor.api.containers import found
from supervisor.api.http import Connection
from supervisor.api.messages import Request
from supervisor.api.parameters import flag, resumed
from supervisor.api.streams import (
    LogRequest,
    asked_streams,
    closed_after,
    history,
    open_history,
)
from supervisor.attachments import Attachment
from supervisor.container import Container
from supervisor.engine import Engine
from supervisor.errors import Conflict
from supervisor.feeds import Fed, place_word
from supervisor.states import State

Send = Callable[[Sequence[bytes]], Awaitable[None]]

_frame_head = struct.Struct(">BxxxL").pack


async def attach(engine: Engine, request: Request) -> None:
    """POST /containers/{id}/attach: output to the client, and with `stdin=1` its input.

    Beyond Docker: `places=1` tells the client where it is, and `resume=PLACE` sends what came
    behind a place before the live output (`supervisor/api/places.py`). Each byte comes once.
    """
    container = found(engine, request)
    begin = resumed(request, places.read_place)
    if begin is None:
        _check_state(container)
    streams = asked_streams(request)
    keys = escape_keys.parse(request.parameter("detachKeys"))
    telling = places.are_wanted(request)
    # A terminal's output is raw bytes to Docker's clients; these have no room for places.
    raw = container.config.tty and not telling
    keeps_log = container.config.log_driver != "none"
    attachment: Attachment | None = None
    fed: Fed | None = None
    if flag(request, "stream") and (begin is None or container.run is not None):
        out, err = Stream.STDOUT in streams, Stream.STDERR in streams
        attachment, fed = engine.attach(container, out, err, telling=telling and keeps_log)
    if begin is None and flag(request, "logs"):
        begin = START
    connection = request.connection
    headers: list[tuple[bytes, bytes]] = []
    try:
        past = None
        if begin is not None and keeps_log:
            upto = None if fed is None else (fed.file, fed.size)
            asked = LogRequest(streams, begin=begin, framed=not raw)
            past = await open_history(engine, container, asked, upto)
            if past is not None and past.missed:
                headers.append(places.MISSED)
        if telling:
            headers.append(places.header(await _place(engine, container, fed)))
        await connection.hijack(hijacked.head(request, headers, raw=raw))
        engine.events.publish("container", "attach", container.id, lifecycle.attributes(container))

        kind = _Kind(raw, telling, streams)
        target = None
        if container.config.open_stdin and flag(request, "stdin") and attachment is not None:
            target = typed.into(container, attachment, keys)
        left = False

        async def show() -> None:
            nonlocal left
            with connection.hangups.cancelling(connection.stream) as scope:
                await _show(engine, connection, past, fed, attachment, kind)
                if telling:
                    await connection.stream.send(places.frame(places.END))
            left = scope.cancelled_caught
            if left and attachment is not None and target is not None:
                # What it had sent before it left (`docker run -a stdin`) is to arrive.
                engine.detach(container, attachment)
                with anyio.move_on_after(typed.REST_S):
                    await target.ended.wait()
                target.end()

        if target is None:
            await show()
        elif await typed.beside(show, connection, target):
            left = True
        if left:
            what = lifecycle.attributes(container)
            engine.events.publish("container", "detach", container.id, what)
    finally:
        if attachment is not None:
            engine.detach(container, attachment)


class _Kind(NamedTuple):
    """How a client gets what it gets.

    Attributes:
        raw: Without frames.
        telling: With places.
    """

    raw: bool
    telling: bool
    streams: frozenset[Stream]


async def _show(
    engine: Engine,
    connection: Connection,
    past: Chunks | None,
    fed: Fed | None,
    attachment: Attachment | None,
    kind: _Kind,
) -> None:
    """Send what was printed before, if that is wanted, and what is printed now."""
    send = connection.stream.send_all
    if past is not None:
        pieces = history(engine, past)
        async with closed_after(pieces):
            async for piece in pieces:
                await send((piece,))
        if fed is not None:
            await send((fed.out,) if kind.raw else _begun(fed, kind.streams, kind.telling))
    if attachment is not None:
        await _send_live(attachment, send, raw=kind.raw)


def _check_state(container: Container) -> None:
    if container.state is State.PAUSED:
        raise Conflict(f"container {container.name} is paused, unpause the container before attach")
    if container.state is State.RESTARTING:
        raise Conflict(
            f"container {container.name} is restarting, wait until the container is running"
        )


async def _place(engine: Engine, container: Container, fed: Fed | None) -> bytes:
    """Where a client is that begins now."""
    if container.config.log_driver == "none":
        return places.UNKNOWN
    if fed is not None:
        return fed.word()
    if not container.life.started_ns:
        return place_word(START)
    spot = await anyio.to_thread.run_sync(
        functools.partial(_end_of_log, container.log_path), limiter=engine.limits.readers
    )
    return places.UNKNOWN if spot is None else place_word(spot)


def _end_of_log(path: str) -> Spot | None:
    try:
        parts = parts_of(path)
    except FileNotFoundError:
        return START
    last = len(parts) - 1
    return spot_at(parts, last, parts[last].end)


def _begun(fed: Fed, streams: frozenset[Stream], telling: bool) -> list[bytes]:
    """The lines that have begun at a place, as frames."""
    pieces = []
    for stream, text in ((Stream.STDOUT, fed.out), (Stream.STDERR, fed.err)):
        if text and stream in streams:
            pieces += [_frame_head(stream, len(text)), text]
    if telling:
        pieces.append(places.frame(fed.word()))
    return pieces or [b""]


async def _send_live(attachment: Attachment, send: Send, *, raw: bool) -> None:
    live = aiter(attachment)
    async with closed_after(live):
        async for number, data in live:
            await send((data,) if raw else (_frame_head(number, len(data)), data))
    if attachment.lost:
        words = attachment.lost.encode()
        await send((words if raw else frame(Stream.SYSTEMERR, words),))
