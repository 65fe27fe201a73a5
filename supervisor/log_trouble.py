"""What people hear of a log that can't be written: our own log, the event stream, `inspect`.

The gap itself is noted in the container's log (`logs/container_log.py`).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import anyio
import structlog

from logs.drivers import ContainerLog
from supervisor.container import Container
from supervisor.lifecycle import attributes

if TYPE_CHECKING:
    from supervisor.engine import Engine
    from supervisor.pumping import Stages

log = structlog.get_logger()

LOST = "log_lost"
"""The event when a log begins to refuse records: attribute `error`."""

WRITTEN_AGAIN = "log_written"
"""The event when it takes them again: attribute `lostBytes`, of this run."""

UNFINISHED = "log_unfinished"
"""The event when a container has ended and its disk does not answer."""


STEADY_S = 1.0
"""A log that has refused records is written again when it has taken all of them for so long, and
twice as long at most. While a disk is all but full, single records still fit, and each would be a
recovery of milliseconds."""


def watch(engine: Engine, container: Container, container_log: ContainerLog) -> None:
    """Tell of the log's troubles from now on. The pump's thread finds them, the loop tells."""
    teller = _Teller(engine, container, container_log)

    def troubled(which: ContainerLog) -> None:
        engine.stages.mailbox.post(functools.partial(teller.hear, which.trouble))

    container_log.on_trouble = troubled


class Recoveries:
    """The logs that take records again since a moment ago; one task looks after all of them."""

    def __init__(self) -> None:
        self._hoped: dict[_Teller, int] = {}
        self._news = anyio.Event()

    def hope(self, teller: _Teller) -> None:
        """A log takes records again, for now."""
        self._hoped.setdefault(teller, -1)
        self._news.set()

    async def watch(self) -> None:
        """Tell of each that goes on taking them, for as long as the engine lives."""
        try:
            while True:
                await self._news.wait()
                self._news = anyio.Event()
                while self._hoped:
                    await anyio.sleep(STEADY_S)
                    self._look()
        finally:
            # The next engine watches anew: it would not know what has been told.
            for teller in self._hoped:
                if not teller.refused:
                    teller.tell_written()

    def _look(self) -> None:
        for teller, seen in list(self._hoped.items()):
            if not teller.refused and teller.refusals != seen:
                self._hoped[teller] = teller.refusals
                continue
            del self._hoped[teller]  # where it is refused again its next success brings it back
            if not teller.refused:
                teller.tell_written()


class _Teller:
    """Says that a log is not written, and when it is again; each once, however often it changes.

    Attributes:
        refused: The last record was refused.
        refusals: How often that has begun.
    """

    def __init__(self, engine: Engine, container: Container, container_log: ContainerLog) -> None:
        self._engine = engine
        self._container = container
        self._log = container_log
        self._lost_is_told = False
        self.refused = False
        self.refusals = 0

    def hear(self, error: OSError | None) -> None:
        """Writing has begun to fail, or has succeeded again."""
        self.refused = error is not None
        if error is not None:
            self.refusals += 1
            if not self._lost_is_told:
                self._lost_is_told = True
                self._tell_lost(error)
        elif self._lost_is_told:
            self._engine.log_recoveries.hope(self)

    def _tell_lost(self, error: OSError) -> None:
        reason = error.strerror or str(error)
        log.error("log.not_written", error=reason, **self._words())
        self._publish(LOST, error=reason)

    def tell_written(self) -> None:
        """It is written again, and was for a while."""
        self._lost_is_told = False
        lost = self._log.dropped_bytes
        log.warning("log.written_again", lost_bytes=lost, **self._words())
        self._publish(WRITTEN_AGAIN, lostBytes=str(lost))

    def _words(self) -> dict[str, str]:
        return {"container": self._container.short_id, "path": self._container.log_path}

    def _publish(self, action: str, **more: str) -> None:
        told = attributes(self._container, **more)
        self._engine.events.publish("container", action, self._container.id, told)


def tell_unfinished(engine: Engine, container: Container) -> None:
    """A container has ended, and its disk has not taken its last output yet."""
    log.error("log.unfinished", container=container.short_id, path=container.log_path)
    engine.events.publish("container", UNFINISHED, container.id, attributes(container))


def words(stages: Stages, container: Container) -> str:
    """What `inspect` says of a log that has lost output or waits for its disk; "" for nothing."""
    told = []
    seconds = stages.stalls().get(container.id, 0.0)
    if seconds:
        told.append(f"its disk has not answered for {seconds:.0f} s; output waits")
    elif stages.is_unsettled(container.id):
        told.append("the disk has not taken the end of its last run's output yet")
    run = container.run
    lost = run.log.dropped_bytes if run is not None else container.life.log_dropped_bytes
    trouble = run.log.trouble if run is not None else None
    if lost:
        told.append(f"{lost} bytes of output were lost because the log could not be written")
    if trouble is not None:
        told.append(f"it can't be written now: {trouble.strerror}")
    return "; ".join(told)
