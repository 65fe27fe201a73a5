"""What people hear of a log that can't be written: our own log, the event stream, `inspect`.

The gap itself is noted in the container's log (`logs/container_log.py`).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

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


def watch(engine: Engine, container: Container, container_log: ContainerLog) -> None:
    """Tell of the log's troubles from now on. The pump's thread finds them, the loop tells."""

    def troubled(which: ContainerLog) -> None:
        error, lost = which.trouble, which.dropped_bytes
        engine.stages.mailbox.post(functools.partial(_tell, engine, container, error, lost))

    container_log.on_trouble = troubled


def _tell(engine: Engine, container: Container, error: OSError | None, lost: int) -> None:
    words = {"container": container.short_id, "path": container.log_path}
    if error is not None:
        reason = error.strerror or str(error)
        log.error("log.not_written", error=reason, **words)
        more, action = {"error": reason}, LOST
    else:
        log.warning("log.written_again", lost_bytes=lost, **words)
        more, action = {"lostBytes": str(lost)}, WRITTEN_AGAIN
    engine.events.publish("container", action, container.id, attributes(container, **more))


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
