"""What is told of a log that can't be written, under a virtual clock."""

import contextlib
import errno
import os
from types import SimpleNamespace

import anyio
import pytest
import trio.testing

from supervisor import log_trouble
from supervisor.container import Container, ContainerConfig
from supervisor.events import EventBus

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class Log:
    """A log whose disk is full or not."""

    def __init__(self):
        self.trouble = None
        self.dropped_bytes = 0
        self.on_trouble = None

    def is_refused(self, lost=10):
        self.trouble = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.dropped_bytes += lost
        self.on_trouble(self)

    def is_written(self):
        self.trouble = None
        self.on_trouble(self)


class Engine:
    """What the telling needs of an engine; letters arrive at once."""

    def __init__(self, tasks):
        self.log_recoveries = log_trouble.Recoveries()
        tasks.start_soon(self.log_recoveries.watch)
        self.events = EventBus()
        self.stages = SimpleNamespace(mailbox=SimpleNamespace(post=lambda letter: letter()))

    def told(self):
        return [
            (event.action, event.attributes.get("error") or event.attributes.get("lostBytes"))
            for event in self.events.past()
        ]


@contextlib.asynccontextmanager
async def watching():
    """An engine that watches a log, until it ends."""
    container = Container(
        "1" * 64, "talker", ContainerConfig(image="host", image_id=""), 0, log_path="/log"
    )
    async with anyio.create_task_group() as tasks:
        engine, log = Engine(tasks), Log()
        log_trouble.watch(engine, container, log)
        yield engine, log
        tasks.cancel_scope.cancel()


@pytest.fixture
async def watched():
    async with watching() as both:
        yield both


FULL = ("log_lost", "No space left on device")


async def test_while_single_records_still_fit_it_is_lost_once(watched):
    """A disk that is all but full takes one record and refuses the next, hundreds a second."""
    engine, log = watched
    for _ in range(1000):
        log.is_refused()
        await anyio.sleep(0.004)
        log.is_written()
        await anyio.sleep(0.004)
    assert engine.told() == [FULL]
    await anyio.sleep(2 * log_trouble.STEADY_S + 0.01)
    assert engine.told() == [FULL, ("log_written", "10000")]


async def test_it_is_written_again_once_it_has_been_for_a_while(watched):
    engine, log = watched
    log.is_refused()
    await anyio.sleep(60)
    log.is_written()
    await anyio.sleep(log_trouble.STEADY_S - 0.01)
    assert engine.told() == [FULL]
    await anyio.sleep(log_trouble.STEADY_S + 0.02)
    assert engine.told() == [FULL, ("log_written", "10")]
    log.is_refused()
    assert engine.told()[2:] == [FULL]


async def test_a_relapse_that_stays_says_nothing_twice(watched):
    engine, log = watched
    log.is_refused()
    log.is_written()
    await anyio.sleep(log_trouble.STEADY_S / 2)
    log.is_refused()
    await anyio.sleep(60)
    assert engine.told() == [FULL]
    log.is_written()
    await anyio.sleep(60)
    assert engine.told() == [FULL, ("log_written", "20")]


async def test_who_ends_meanwhile_says_what_was_so():
    async with watching() as (engine, log):
        log.is_refused()
        log.is_written()
        await anyio.sleep(0.01)
    assert engine.told() == [FULL, ("log_written", "10")]
