"""Pauses that do not come about: what can't be frozen, ends meanwhile, or is given up."""

import os
from types import SimpleNamespace

import anyio
import pytest
import trio.testing

from runtime import freezer
from supervisor import lifecycle, pausing
from supervisor.container import Container, ContainerConfig, Life
from supervisor.counts import Counts
from supervisor.errors import Conflict, EngineFault
from supervisor.events import EventBus
from supervisor.states import Event, State, after

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class Bed:
    """An engine with one container, whose freezer does what a test says."""

    def __init__(self, monkeypatch, directory):
        self.cgroups = SimpleNamespace(unified=lambda place: directory, pids=lambda place: {1})
        self.pauses = pausing.Pauses()
        self.counts = Counts()
        self.events = EventBus()
        self.frozen = False
        self.asked = []
        self.bell_r, self.bell = os.pipe2(os.O_NONBLOCK)
        life = Life(state=State.RUNNING, started_ns=1)
        config = ContainerConfig(image="host", image_id="sha256:1")
        self.container = Container("c" * 64, "bird", config, 1, life)
        self.container.run = SimpleNamespace(exited=anyio.Event())
        monkeypatch.setattr(freezer, "freeze", lambda directory: self.asked.append("freeze"))
        monkeypatch.setattr(freezer, "thaw", lambda directory: self.asked.append("thaw"))
        monkeypatch.setattr(freezer, "Freezing", lambda directory: self)
        monkeypatch.setattr(lifecycle, "change_anyway", self._change)

    # It is what `freezer.Freezing` is, too.

    def fileno(self):
        return self.bell_r

    def is_over(self):
        return self.frozen

    def close(self):
        os.close(self.bell_r)
        os.close(self.bell)

    def ring(self, *, frozen):
        self.frozen = frozen
        os.write(self.bell, b"!")

    def _change(self, engine, container, event, **fields):
        container.life.state = after(container.state, event)

    @property
    def heard(self):
        return [event.action for event in self.events.past()]


@pytest.fixture
def bed(monkeypatch, tmp_path):
    return Bed(monkeypatch, tmp_path)


async def pause_and(bed, then):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pausing.pause, bed, bed.container)
        await trio.testing.wait_all_tasks_blocked()
        assert bed.asked == ["freeze"]
        assert bed.container.state is State.RUNNING
        then(tasks)


async def test_it_is_paused_once_all_of_it_has_stopped(bed):
    await pause_and(bed, lambda tasks: bed.ring(frozen=True))
    assert (bed.container.state, bed.heard) == (State.PAUSED, ["pause"])
    assert bed.asked == ["freeze"]


async def test_what_does_not_stop_goes_on(bed):
    with pytest.raises(EngineFault, match="its processes have not stopped within 5 s"):
        await pausing.pause(bed, bed.container)
    assert (bed.container.state, bed.heard) == (State.RUNNING, [])
    assert bed.asked == ["freeze", "thaw"]
    assert not bed.container.phase_lock.locked()


async def test_a_pause_that_is_given_up_is_taken_back(bed):
    await pause_and(bed, lambda tasks: tasks.cancel_scope.cancel())
    assert (bed.container.state, bed.heard) == (State.RUNNING, [])
    assert bed.asked == ["freeze", "thaw"]


async def test_what_ends_meanwhile_does_not_run(bed):
    def end(tasks):
        bed.container.run = None
        bed.container.life.state = after(State.RUNNING, Event.EXIT)
        bed.ring(frozen=True)

    with pytest.RaisesGroup(pytest.RaisesExc(Conflict, match="is not running")):
        await pause_and(bed, end)
    assert (bed.container.state, bed.heard) == (State.EXITED, [])


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (State.CREATED, "is not running"),
        (State.EXITED, "is not running"),
        (State.RESTARTING, "is restarting, wait until the container is running"),
        (State.PAUSED, "is already paused"),
    ],
)
async def test_what_can_not_be_paused(bed, state, text):
    bed.container.life.state = state
    with pytest.raises(Conflict, match=text):
        await pausing.pause(bed, bed.container)
    assert bed.asked == []
    bed.close()
