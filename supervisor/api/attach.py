"""POST /containers/{id}/attach: a container's live output over a hijacked connection."""

from __future__ import annotations

import functools
import struct
from typing import NamedTuple

import anyio
import anyio.to_thread
import msgspec

from logs.framing import Stream, frame
from logs.history import parts_of
from logs.reader import Chunks
from logs.spots import START, Spot, spot_at
from supervisor import escape_keys, lifecycle
from supervisor.api import hijacked, places, typed
from supervisor.api.containers import found
from supervisor.api.hijacked import Channel
from supervisor.api.messages import Request
from supervisor.api.parameters import flag, resumed
from supervisor.api.sockets import ClientGone
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

_frame_head = struct.Struct(">BxxxL").pack


async def attach(engine: Engine, request: Request) -> None:
    """POST /containers/{id}/attach: output to the client, and with `stdin=1` its input.

    Beyond Docker: `places=1` tells the client where it is, and `resume=PLACE` sends what came
    behind a place before the live output (`supervisor/api/places.py`). Each byte comes once.
    With `running=1` one that does not run is refused, rather than its next start awaited: who has
    looked whether it runs can't know that it still does.
    """
    container = found(engine, request)
    # Of what no log keeps there is no place to go on behind, and no next start to wait for either.
    comes_back = request.parameter("resume") == places.UNKNOWN.decode()
    place = None if comes_back else resumed(request, places.read_place)
    telling = places.are_wanted(request)
    asked = Asked(
        streams=asked_streams(request),
        stdin=flag(request, "stdin"),
        live=flag(request, "stream"),
        begin=START if place is None and flag(request, "logs") else place,
        resuming=comes_back or place is not None,
        telling=telling,
        keys=escape_keys.parse(request.parameter("detachKeys")),
    )
    if flag(request, "running") and not asked.resuming and container.run is None:
        _check_state(container)
        raise Conflict("You cannot attach to a stopped container, start it first")
    # A terminal's output is raw bytes to Docker's clients; these have no room for places.
    channel = hijacked.Channel(request, raw=container.config.tty and not telling)
    await attend(engine, container, asked, channel)


class Asked(msgspec.Struct, frozen=True):
    """What a client wants of a container's streams.

    Attributes:
        streams: Those that it is shown.
        stdin: Whether it types.
        live: Whether it stays, for what is printed from now on.
        begin: Where in the log to begin; None for now.
        resuming: It goes on where another engine has died.
        telling: It is told places.
        keys: Those by which it leaves a terminal.
    """

    streams: frozenset[Stream]
    stdin: bool
    live: bool
    keys: bytes
    begin: Spot | None = None
    resuming: bool = False
    telling: bool = False


async def attend(engine: Engine, container: Container, asked: Asked, channel: Channel) -> None:
    """Be a container's streams for a client, until they end or it leaves.

    Raises:
        Conflict: It is paused, or between two runs.
    """
    if not asked.resuming:
        _check_state(container)
    keeps_log = container.config.log_driver != "none"
    attachment: Attachment | None = None
    fed: Fed | None = None
    if asked.live and (not asked.resuming or container.run is not None):
        out, err = Stream.STDOUT in asked.streams, Stream.STDERR in asked.streams
        attachment, fed = engine.attach(container, out, err, telling=asked.telling and keeps_log)
    headers: list[tuple[bytes, bytes]] = []
    try:
        past = None
        if asked.begin is not None and keeps_log:
            upto = None if fed is None else (fed.file, fed.size)
            wish = LogRequest(asked.streams, begin=asked.begin, framed=not channel.raw)
            past = await open_history(engine, container, wish, upto)
            if past is not None and past.missed:
                headers.append(places.MISSED)
        if asked.telling:
            headers.append(places.header(await _place(engine, container, fed)))
        target = None
        if container.config.open_stdin and asked.stdin and attachment is not None:
            target = typed.into(container, attachment, asked.keys)
        await channel.begin(headers, typing=target is not None)
        engine.events.publish("container", "attach", container.id, lifecycle.attributes(container))
        shown = _Shown(past, fed, attachment)
        async with channel.attended():
            left = await _be_there(engine, container, asked, channel, shown, target)
        if left:
            what = lifecycle.attributes(container)
            engine.events.publish("container", "detach", container.id, what)
    finally:
        if attachment is not None:
            engine.detach(container, attachment)


class _Shown(NamedTuple):
    """What a client is shown, one behind the other."""

    past: Chunks | None
    fed: Fed | None
    attachment: Attachment | None


async def _be_there(
    engine: Engine,
    container: Container,
    asked: Asked,
    channel: Channel,
    shown: _Shown,
    target: typed.Target | None,
) -> bool:
    """Both directions; returns whether the client has left before the end."""
    attachment = shown.attachment
    left = False

    async def show() -> None:
        nonlocal left
        gone = False
        with channel.until_left() as scope:
            try:
                await _show(engine, channel, asked, shown)
                if asked.telling:
                    await channel.send([places.frame(places.END)])
                await channel.end(attachment.lost if attachment is not None else "")
            except ClientGone:  # something was sent before its leaving was noticed
                gone = True
        left = gone or scope.cancelled_caught
        if left and attachment is not None and target is not None:
            # What it had sent before it left (`docker run -a stdin`) is to arrive.
            engine.detach(container, attachment)
            with anyio.move_on_after(typed.REST_S):
                await target.ended.wait()
            target.end()

    if target is None:
        await show()
    elif await typed.beside(show, channel.typed(), target):
        await channel.end("")
        return True
    return left


async def _show(engine: Engine, channel: Channel, asked: Asked, shown: _Shown) -> None:
    """Send what was printed before, if that is wanted, and what is printed now."""
    past, fed, attachment = shown
    if past is not None:
        pieces = history(engine, past)
        async with closed_after(pieces):
            async for piece in pieces:
                await channel.send((piece,))
        if fed is not None:
            await channel.send(_begun(fed, asked, raw=channel.raw))
    if attachment is not None:
        await _send_live(attachment, channel)


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


def _begun(fed: Fed, asked: Asked, *, raw: bool) -> list[bytes]:
    """The lines that have begun at a place, as frames unless they are wanted raw."""
    pieces = []
    for stream, text in ((Stream.STDOUT, fed.out), (Stream.STDERR, fed.err)):
        if text and stream in asked.streams:
            pieces += [text] if raw else [_frame_head(stream, len(text)), text]
    if asked.telling:
        pieces.append(places.frame(fed.word()))
    return pieces


async def _send_live(attachment: Attachment, channel: Channel) -> None:
    raw = channel.raw
    live = aiter(attachment)
    async with closed_after(live):
        async for number, data in live:
            await channel.send((data,) if raw else (_frame_head(number, len(data)), data))
    if attachment.lost:
        words = attachment.lost.encode()
        await channel.send((words if raw else frame(Stream.SYSTEMERR, words),))
