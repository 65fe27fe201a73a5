"""What is told of processes that were killed for memory, and how often."""

import contextlib
import os
import select
from types import SimpleNamespace

import anyio
import pytest

from runtime import oom_events
from runtime.cgroup_trees import Trees
from runtime.cgroups import Cgroups
from supervisor import lifecycle, oom
from supervisor.container import Container, ContainerConfig, Life, Resources
from supervisor.counts import Counts

pytestmark = pytest.mark.anyio


class Bell:
    """A subscription that the test rings."""

    events = select.EPOLLIN

    def __init__(self, early):
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.early = early
        self.counts = [0]
        self.closed = False

    def ring(self, *counts):
        """From now on each look finds the next of these counts, and the last one for ever."""
        self.counts[:] = counts
        os.eventfd_write(self.fd, 1)

    def kills(self):
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        return self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]

    def close(self):
        os.close(self.fd)
        self.closed = True


class Engine:
    """The little that is needed of one."""

    def __init__(self, tasks):
        self.begin = tasks.start_soon
        self.counts = Counts()
        self.cgroups = None
        self.told = anyio.Event()
        self.events = SimpleNamespace(publish=self._publish)
        self.published = []

    def _publish(self, kind, action, container_id, attributes):
        self.published.append((kind, action, container_id, attributes["name"]))
        self.told.set()

    async def tells(self):
        with anyio.fail_after(10):
            await self.told.wait()
        self.told = anyio.Event()


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(oom, "_PAUSE_S", 0.001)

    def keep(engine, container, **fields):
        for name, value in fields.items():
            setattr(container.life, name, value)

    monkeypatch.setattr(lifecycle, "keep", keep)


def container(**resources):
    config = ContainerConfig(image="host", image_id="i", resources=Resources(**resources))
    made = Container("c" * 64, "bird", config, 1, Life())
    made.run = object()
    return made


@pytest.fixture(params=[True, False], ids=["v1", "v2"])
def bell(request, monkeypatch):
    made = Bell(request.param)
    monkeypatch.setattr(oom_events, "subscribe", lambda cgroups, container_id: made)
    yield made
    if not made.closed:
        made.close()


async def test_each_kill_is_told_and_counted_once(bell):
    limited = container(memory=1 << 26)
    async with anyio.create_task_group() as tasks:
        engine, watch = Engine(tasks), oom.OomWatch()
        watch.watch(engine, limited, limited.run)
        watch.watch(engine, limited, limited.run)  # an update of its limit
        assert engine.published == []
        # v1 tells before it kills.
        bell.ring(*([0, 0, 2] if bell.early else [2]))
        await engine.tells()
        assert engine.published == [("container", "oom", "c" * 64, "bird")]
        assert (limited.life.oom_kills, limited.life.oom_killed) == (2, True)
        bell.ring(5)
        await engine.tells()
        assert (len(engine.published), engine.counts.oom_kills) == (2, 5)
        watch.ended(limited, object())  # a run before this one
        assert not bell.closed
        watch.ended(limited, limited.run)
        watch.ended(limited, limited.run)
        assert bell.closed
        tasks.cancel_scope.cancel()


async def test_what_happened_before_is_told_by_the_next_supervisor(bell):
    limited = container(memory=1 << 26)
    limited.life.oom_kills = 3
    bell.ring(4)
    async with anyio.create_task_group() as tasks:
        engine, watch = Engine(tasks), oom.OomWatch()
        watch.watch(engine, limited, limited.run)
        assert (len(engine.published), engine.counts.oom_kills) == (1, 1)
        watch.ended(limited, limited.run)
        tasks.cancel_scope.cancel()


async def test_who_waits_for_memory_is_told_of_and_was_not_killed(bell):
    waiting = container(memory=1 << 26, oom_kill_disable=True)
    async with anyio.create_task_group() as tasks:
        engine, watch = Engine(tasks), oom.OomWatch()
        watch.watch(engine, waiting, waiting.run)
        bell.ring(0)
        await engine.tells()
        assert (waiting.life.oom_killed, engine.counts.oom_kills) == (False, 0)
        watch.ended(waiting, waiting.run)
        tasks.cancel_scope.cancel()


async def test_without_a_limit_nobody_listens(monkeypatch):
    def subscribe(cgroups, container_id):
        raise AssertionError("it costs a descriptor")

    monkeypatch.setattr(oom_events, "subscribe", subscribe)
    free = container(cpu_shares=5)
    async with anyio.create_task_group() as tasks:
        oom.OomWatch().watch(Engine(tasks), free, free.run)


async def test_one_that_can_not_be_listened_to_lives_on(monkeypatch):
    def subscribe(cgroups, container_id):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(oom_events, "subscribe", subscribe)
    limited = container(memory=1 << 26)
    async with anyio.create_task_group() as tasks:
        oom.OomWatch().watch(Engine(tasks), limited, limited.run)


async def test_one_that_epoll_has_no_room_for_lives_on(bell, monkeypatch):
    watch, limited = oom.OomWatch(), container(memory=1 << 26)
    full = SimpleNamespace(register=lambda fd, events: os.close(-1))  # ENOSPC, say: epoll_ctl(2)
    monkeypatch.setattr(watch, "_poll", full)
    async with anyio.create_task_group() as tasks:
        watch.watch(Engine(tasks), limited, limited.run)
        watch.ended(limited, limited.run)
    assert bell.closed


@pytest.mark.parametrize(
    ("hybrid", "name"), [(True, "memory.oom_control"), (False, "memory.events")]
)
def test_the_count_is_read_where_this_kind_of_tree_has_it(tmp_path, hybrid, name):
    trees = Trees(tmp_path / "v2", {"memory": tmp_path / "v1"} if hybrid else {})
    directory = (tmp_path / "v1" if hybrid else tmp_path / "v2") / "engine/c"
    cgroups = Cgroups("engine", trees)
    assert oom_events.subscribe(cgroups, "c") is None
    directory.mkdir(parents=True)
    (directory / name).write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    (directory / "cgroup.event_control").write_text("")
    found = oom_events.subscribe(cgroups, "c")
    assert (found.kills(), found.early) == (2, hybrid)
    if hybrid:
        registered = (directory / "cgroup.event_control").read_text().split()
        assert registered[0] == str(found.fd)
    (directory / name).write_text("oom_kill 4\n")
    assert found.kills() == 4
    found.close()
