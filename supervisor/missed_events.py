"""Events that a dead supervisor did not come to publish, found by comparing history and records.

A change is on record before it is published. A kill between the two leaves a record that tells of
something nobody was told of: one event of a container at most. The next supervisor publishes it,
late but in its place among the container's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from supervisor.container import Container
from supervisor.events import EngineEvent, EventBus
from supervisor.lifecycle import attributes
from supervisor.states import ALIVE, State

_PHASES = frozenset({"create", "start", "die", "destroy"})
_OF_AN_END = frozenset({"exitCode", "signal", "oldName"})


def publish(bus: EventBus, containers: Iterable[Container], is_gone: Callable[[str], bool]) -> None:
    """Publish what is missing, before anything new is.

    Args:
        bus: The stream, with the history of the supervisor before.
        containers: Those that have a record.
        is_gone: Tells of the id of one without a record whether nothing of it is left.
    """
    past = bus.past()
    last = {e.id: e for e in past if e.type == "container" and e.action in _PHASES}
    # A reboot forgets the history: then nothing can be told to be missing in it.
    begins_ns = past[0].time_ns if past else None
    for container in containers:
        known = last.pop(container.id, None)
        for action, more in _missing(container, known, begins_ns):
            bus.publish("container", action, container.id, attributes(container, **more))
    for event in last.values():
        if event.action != "destroy" and is_gone(event.id):
            kept = {k: v for k, v in event.attributes.items() if k not in _OF_AN_END}
            bus.publish("container", "destroy", event.id, kept)


def _missing(
    container: Container, last: EngineEvent | None, begins_ns: int | None
) -> Iterator[tuple[str, dict[str, str]]]:
    life = container.life
    if last is None:
        if begins_ns is not None and container.created_ns > begins_ns:
            yield "create", {}
        return
    if life.state in ALIVE and last.action != "start":
        yield "start", {}
    elif life.state in (State.EXITED, State.RESTARTING) and last.action == "start":
        yield "die", {"exitCode": str(life.exit_code)}
