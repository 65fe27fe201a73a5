"""What every phase of a container's life shares: a change of state, and the first phase, create.

Changes of state go through `supervisor.states.after`, are written to disk, logged and published,
in that order. The other phases: `supervisor/start.py`, `supervisor/run.py`, `supervisor/stop.py`,
`supervisor/remove.py`; what goes on after a death, `supervisor/recovery.py`. Each phase that fails
or is cancelled half-way takes back what it did.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import msgspec
import structlog

from supervisor import restart_policy, store, volumes_mounted
from supervisor.container import Container, Life
from supervisor.disk import DiskHangs
from supervisor.errors import EngineFault
from supervisor.phases import Laps, Timeline
from supervisor.ready_logs import make_ready
from supervisor.states import Event, State, after

if TYPE_CHECKING:
    from logs.drivers import ContainerLog
    from supervisor.engine import Engine

log = structlog.get_logger()


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
    except OSError as error:
        container.life = before
        if isinstance(error, DiskHangs):
            store.catch_up(engine.directory(container), container)  # it may be written after all
        raise


class Ahead:
    """A change of state that goes on record while it happens, so that nobody waits for the disk.

    Nobody sees it before `happened`. Whoever is killed in between leaves a record that runs ahead
    by as much: it must be one that the next supervisor can go on with.
    """

    def __init__(
        self, engine: Engine, container: Container, event: Event, **fields: object
    ) -> None:
        """Begin to write it down.

        Raises:
            IllegalTransition: The table does not allow it; nothing has happened.
            OSError: The disk can't be looked at.
        """
        self._container = container
        self._directory = engine.directory(container)
        before = container.life
        self._life = msgspec.structs.replace(before, state=after(before.state, event), **fields)
        self._written = store.begin_to_save(self._directory, container, self._life)
        self._refused = False

    async def on_record(self) -> None:
        """Wait until it is on record, while other tasks run.

        Raises:
            OSError: It can't be written; the container is as it was.
        """
        try:
            await self._written()
        except OSError as error:
            self._refused = not isinstance(error, DiskHangs)
            raise

    def happened(self, **fields: object) -> None:
        """It is true now. What is known better since goes on record by `store.catch_up`."""
        self._container.life = msgspec.structs.replace(self._life, **fields)

    async def take_back(self) -> None:
        """It did not happen: put the record back.

        Raises:
            OSError: It can't be written.
        """
        if self._refused:
            return
        try:
            await store.save_patiently(self._directory, self._container)
        except BaseException as error:
            if not isinstance(error, OSError) or isinstance(error, DiskHangs):
                store.catch_up(self._directory, self._container)
            raise


def change_anyway(engine: Engine, container: Container, event: Event, **fields: object) -> bool:
    """Change a container's state for what has happened already, whether or not the disk takes it.

    Returns:
        Whether it is on record.

    Raises:
        IllegalTransition: The table does not allow it; nothing has happened.
    """
    try:
        change(engine, container, event, **fields)
    except OSError as error:
        log.error("container.change_not_written", change=event.value, error=error.strerror)
        container.life = msgspec.structs.replace(
            container.life, state=after(container.state, event), **fields
        )
        return False
    return True


def keep(engine: Engine, container: Container, **fields: object) -> None:
    """Put facts on record that change no state: what the next supervisor has to know."""
    container.life = msgspec.structs.replace(container.life, **fields)
    try:
        store.save(engine.directory(container), container)
    except OSError as error:
        log.error("container.facts_not_written", facts=list(fields), error=error.strerror)


async def settled(container: Container) -> None:
    """Let a start or a removal under way end: what is asked now is about what it leaves."""
    if container.lock is not None and container.lock.locked():
        async with container.lock:
            return


def end_run(
    engine: Engine,
    container: Container,
    *,
    exit_code: int,
    finished_ns: int,
    timeline: Timeline,
    **fields: object,
) -> bool:
    """Record the end of a run, and in the same stroke whether another one follows by the policy.

    Who calls this lets the waiting begin (`Engine.await_restart`) where the state is now
    `restarting`.

    Returns:
        Whether it is on record. What is not is written before the next start.
    """
    life, policy = container.life, container.config.restart
    if life.boot_id and life.boot_id != engine.boot_id:
        comes_back = restart_policy.after_reboot(policy, life, ended_with_it=True)
        attempt = restart_policy.AT_BOOT if comes_back else None
    else:
        ran_ns = finished_ns - life.started_ns
        attempt = restart_policy.after_end(policy, life, exit_code, ran_ns, random.random())
    fields |= {"exit_code": exit_code, "finished_ns": finished_ns}
    fields |= {"stopping": None, "restart_asked": False, "thaw_due": False}
    if attempt is None:
        event = Event.EXIT
        fields |= {"restart_at_ns": 0, "timeline": timeline}
    else:
        event = Event.AWAIT_RESTART
        fields |= awaiting(attempt, timeline)
    container.is_written = change_anyway(engine, container, event, **fields)
    return container.is_written


def awaiting(attempt: restart_policy.Attempt, timeline: Timeline) -> dict[str, object]:
    """What a life says of the attempt that it waits for from now on."""
    now = time.time_ns()
    return {
        "restart_count": attempt.count,
        "restart_delay_ms": attempt.delay_ms,
        "restart_at_ns": now + attempt.wait_ns,
        "timeline": timeline.open("restart-delay", now),
    }


def with_failure(life: Life, exit_code: int, error: str) -> Life:
    """The same life with a failed start on record; the state stays."""
    return msgspec.structs.replace(life, exit_code=exit_code, error=error)


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


async def create(engine: Engine, container: Container) -> None:
    """Make a container's directory and record, and its volumes: all of it, or nothing.

    Raises:
        BadParameter: A volume can't have the name or the options that were asked for.
        EngineFault: The disk refused, or does not answer; nothing is left.
    """
    laps = Laps("create")

    def settle() -> None:
        timeline = container.life.timeline.add(*laps.done())
        container.life = msgspec.structs.replace(container.life, timeline=timeline)

    directory = engine.directory(container)
    wanted = engine.ready_logs.wants(container)

    def then() -> ContainerLog | None:
        return make_ready(container, directory) if wanted else None

    try:
        opened = await store.make(directory, container, settle, then)
    except OSError as error:
        raise EngineFault(
            f"cannot create container {container.name}: {error.strerror}"
            + (f": {error.filename}" if error.filename else "")
        ) from error
    if container.config.mounts.points:
        try:
            await volumes_mounted.make(engine, container)
        except BaseException:
            await store.unmake(engine.directory(container))
            raise
    if opened is not None:
        engine.ready_logs.put(container, opened)
    engine.counts.over(laps.phases)
    engine.events.publish("container", "create", container.id, attributes(container))
