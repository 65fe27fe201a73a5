"""GET /events: what happens, a JSON object a line, each sent as it happens.

Beyond Docker: the answer's `Mdocker-Resume` header is a place in the stream, and so is each
event's `timeNano`. Given back as the parameter `resume`, the stream goes on behind it: a client
that a supervisor's death has cut off misses and repeats nothing. Where events in between are
forgotten (the memory is bounded), `Mdocker-Begins` says from which time on they are remembered.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import structlog

from supervisor.api import filters as filtering
from supervisor.api.filters import Filters
from supervisor.api.messages import Request
from supervisor.api.parameters import moment, read_time, resumed
from supervisor.engine import Engine
from supervisor.errors import BadParameter
from supervisor.events import EngineEvent, FellBehind

log = structlog.get_logger()

_KNOWN = frozenset(
    [
        "config",
        "container",
        "daemon",
        "event",
        "image",
        "label",
        "network",
        "node",
        "plugin",
        "scope",
        "secret",
        "service",
        "type",
        "volume",
    ]
)
_encode = msgspec.json.Encoder().encode


async def events(engine: Engine, request: Request) -> None:
    """GET /events"""
    filters = filtering.parse(request, _KNOWN)
    behind = resumed(request, read_time)
    since = moment(request, "since") if behind is None else behind + 1
    until = moment(request, "until")
    if since is not None and until is not None and since > until:
        raise BadParameter(
            f"`since` time ({request.parameter('since')}) cannot be after `until` time "
            f"({request.parameter('until')})"
        )
    bus = engine.events
    place = behind if behind is not None else bus.latest_ns if since is None else since - 1
    headers = [(b"Mdocker-Resume", b"%d" % place)]
    if place + 1 < bus.begins_ns:
        headers.append((b"Mdocker-Begins", b"%d" % bus.begins_ns))
    happened = bus.subscribe(since, until)
    connection = request.connection
    await connection.start_stream(200, b"application/json", headers)
    with connection.hangups.cancelling(connection.stream) as scope:
        try:
            async with contextlib.aclosing(happened):
                async for event in happened:
                    if _fits(event, filters):
                        await connection.send_piece(_encode(_shown(event)) + b"\n")
        except FellBehind as error:
            # Cut, not completed: a client that can resume learns what it has missed.
            log.warning("events.listener_too_slow", reason=str(error))
            connection.abandon()
            return
        await connection.end_stream()
    if scope.cancelled_caught:
        connection.abandon()


def _fits(event: EngineEvent, filters: Filters) -> bool:
    for name, values in filters.items():
        match name:
            case "type":
                fits = event.type in values
            case "event":
                # An action may have details: "health_status" means each of "health_status: …".
                fits = event.action in values or event.action.partition(":")[0] in values
            case "container":
                fits = event.type == "container" and _names(event, values)
            case "image":
                fits = _is_image(event, values)
            case "volume":
                fits = event.type == "volume" and event.id in values
            case "label":
                fits = filtering.labels_match(values, event.attributes)
            case "scope":
                fits = "local" in values
            case _:
                fits = False  # daemon, network … : nothing of the kind happens here yet
        if not fits:
            return False
    return True


def _names(event: EngineEvent, values: list[str]) -> bool:
    # As in Docker, the beginning of a name or an id is enough.
    name = event.attributes.get("name", "")
    return any(value and (event.id.startswith(value) or name.startswith(value)) for value in values)


def _is_image(event: EngineEvent, values: list[str]) -> bool:
    name = event.attributes.get("name" if event.type == "image" else "image", "")
    known = {event.id if event.type == "image" else "", name, name.partition(":")[0]}
    return any(value in known for value in values if value)


def _shown(event: EngineEvent) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if event.type == "container":
        # The three older fields, which clients of all ages still read.
        shown = {
            "status": event.action,
            "id": event.id,
            "from": event.attributes.get("image", ""),
        }
    elif event.type == "image":
        shown = {"status": event.action, "id": event.id}
    return shown | {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": "local",
        "time": event.time_ns // 10**9,
        "timeNano": event.time_ns,
    }
