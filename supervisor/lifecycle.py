"""What every phase of a container's life shares: a change of state, and the first phase, create.

Changes of state go through `supervisor.states.after`, are written to disk, logged and published,
in that order. The other phases: `supervisor/start.py`, `supervisor/run.py`, `supervisor/stop.py`,
`supervisor/remove.py`; what goes on after a death, `supervisor/recovery.py`. Each phase that fails
or is cancelled half-way takes back what it did.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import msgspec

from supervisor import store
from supervisor.container import Container, Life
from supervisor.errors import EngineFault
from supervisor.phases import Laps
from supervisor.states import Event, State, after

if TYPE_CHECKING:
    from supervisor.engine import Engine


def change(engine: Engine, container: Container, event: Event, **fields: object) -> None:
    """Change a container's state by the table, and write it down.

    Raises:
        IllegalTransition: The table does not allow it; nothing has happened.
        OSError: The record can't be written; the container is as it was.
    """
    before = container.life
    container.life = msgspec.structs.replace(before, state=after(before.state, event), **fields)
    try:
        store.save(engine.directory(container), container)
    except OSError:
        container.life = before
        raise


def with_failure(life: Life, exit_code: int, error: str) -> Life:
    """The same life with a failed start on record; the state stays."""
    return msgspec.structs.replace(life, exit_code=exit_code, error=error)


def with_stop_request(life: Life) -> Life:
    """The same life, with somebody having asked for its end."""
    return msgspec.structs.replace(life, stopped_by_request=True)


def as_dead(life: Life) -> Life:
    """The same life, with a removal that a crash cut off."""
    return msgspec.structs.replace(life, state=after(State.REMOVING, Event.REMOVE_FAILED))


def attributes(container: Container, **more: str) -> dict[str, str]:
    """The attributes of an event about a container (Docker's: labels, image, name, and more)."""
    return {
        **container.config.labels,
        "image": container.config.image,
        "name": container.name,
        **more,
    }


def create(engine: Engine, container: Container) -> None:
    """Make a container's directory and record. It has no await: nothing can cut it in half.

    Raises:
        EngineFault: The disk refused; nothing is left.
    """
    directory = engine.directory(container)
    laps = Laps("create")
    try:
        os.mkdir(directory, 0o710)
        os.mkdir(f"{directory}/upper", 0o755)
        os.mkdir(f"{directory}/work", 0o755)
        timeline = container.life.timeline.add(*laps.done())
        container.life = msgspec.structs.replace(container.life, timeline=timeline)
        store.save(directory, container)
    except OSError as error:
        shutil.rmtree(directory, ignore_errors=True)
        raise EngineFault(
            f"cannot create container {container.name}: {error.strerror}"
            + (f": {error.filename}" if error.filename else "")
        ) from error
    engine.counts.over(laps.phases)
    engine.events.publish("container", "create", container.id, attributes(container))
