"""Cancelled at every await of create, start, stop and remove: nothing is left, nothing is stuck.

The engine runs inside the test, on both backends, with a real shim and real containers. A phase is
driven by hand, so that the k-th time it waits its scope is cancelled, for each k until the phase
gets through uncancelled.
"""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import msgspec
import pytest

from logs.marks import MarkFile
from runtime.cgroups import Cgroups
from runtime.images.store import ImageStore
from supervisor.config import Settings, claim_directories
from supervisor.container import ContainerConfig
from supervisor.engine import Engine
from supervisor.errors import EngineError
from supervisor.pumping import Lane, Stages
from supervisor.shim_link import ShimLink
from supervisor.states import State
from supervisor.strays import clear_cgroup
from tests.real.engine_process import descriptors_of

pytestmark = pytest.mark.anyio

MOST_AWAITS = 200


class CancelledAt:
    """Awaits `work`, and cancels `scope` the `k`-th time it waits."""

    def __init__(self, work, k, scope):
        self._work = work
        self._left = k
        self._scope = scope

    def __await__(self):
        inner = self._work.__await__()
        send, value = inner.send, None
        while True:
            try:
                waiting_for = send(value)
            except StopIteration as done:
                return done.value
            if self._left == 0:
                self._scope.cancel("the test cancels here")
            self._left -= 1
            try:
                send, value = inner.send, (yield waiting_for)
            except BaseException as error:  # noqa: BLE001  (passed on, as await does)
                send, value = inner.throw, error


async def cancel_at_each_await(work, check):
    """Run `work()` cancelled at its 0th, 1st, … await, with `check(cancelled)` after each."""
    for k in range(MOST_AWAITS):
        with anyio.CancelScope() as scope:
            await CancelledAt(work(), k, scope)
        await check(scope.cancelled_caught)
        if not scope.cancel_called:
            assert k > 0, "it never waited: nothing was tested"
            return
    raise AssertionError(f"more than {MOST_AWAITS} awaits")


@asynccontextmanager
async def engine_in(base, backend):
    """An engine in this very process."""
    settings = Settings(base / "root", base / "run", backend)
    claim_directories(settings)
    cgroups = Cgroups.detect(settings.cgroup_parent)
    images = ImageStore(settings.root / "images")
    images.refresh_host()
    try:
        async with ShimLink.connect(settings.run_dir) as shim, anyio.create_task_group() as tasks:
            marks = MarkFile(settings.run_dir / "marks")
            stages = Stages(marks, shim.hold)
            engine = Engine(settings, tasks, shim, images, cgroups, stages)
            try:
                yield engine
            finally:
                with anyio.CancelScope(shield=True):
                    await remove_all(engine)
                    await shim.quit()
                tasks.cancel_scope.cancel()
                stages.close()
                marks.close()
    finally:
        with anyio.CancelScope(shield=True):
            for left in cgroups.containers():
                await clear_cgroup(cgroups, left)
        cgroups.remove_parent()


async def remove_all(engine):
    """Tests that have failed leave containers."""
    for container in list(engine.containers):
        with anyio.move_on_after(5), suppress(EngineError):
            await engine.remove(container, force=True)


@pytest.fixture
async def engine(tmp_path, anyio_backend):
    async with engine_in(tmp_path, anyio_backend) as made:
        yield made


CONFIG = ContainerConfig(
    image="host", image_id="", cmd=("sh", "-c", "trap '' TERM; while :; do sleep 1; done")
)


def config_for(engine):
    return msgspec.structs.replace(CONFIG, image_id=engine.images.host().id)


def held_open():
    """What each of our descriptors refers to, and how many do."""
    return Counter(descriptors_of("self"))


async def all_closed(before):
    """Let tasks finish that close their descriptors after they have told of the end.

    One of before may be closed meanwhile: a task of that time may have been about to.
    """
    with anyio.move_on_after(20):
        while held_open() - before:
            await anyio.lowlevel.checkpoint()
        return
    raise AssertionError(f"still open: {dict(held_open() - before)}")


def cgroups_of(engine):
    return [
        path.name
        for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
        for path in Path(root, engine.settings.cgroup_parent).glob("*")
        if path.is_dir()
    ]


async def test_create(engine):
    made = []

    async def work():
        made.append(await engine.create("bird", config_for(engine)))

    async def check(cancelled):
        on_disk = list(engine.settings.containers.iterdir())
        assert len(on_disk) == len(engine.containers) == len(made)
        for container in made:
            await engine.remove(container)
        made.clear()

    await cancel_at_each_await(work, check)


async def test_start(engine):
    container = await engine.create("bird", config_for(engine))
    await engine.start(container)
    await engine.kill(container)
    before = held_open()
    outcomes = []

    async def work():
        await engine.start(container)

    async def check(cancelled):
        outcomes.append(container.state)
        if container.state is State.RUNNING:
            await engine.kill(container)
        assert container.state is State.EXITED
        assert container.run is None
        assert cgroups_of(engine) == []
        await all_closed(before)

    await cancel_at_each_await(work, check)
    assert outcomes[0] is State.EXITED
    assert outcomes[-1] is State.RUNNING


async def test_stop_belongs_to_the_container(engine):
    container = await engine.create("bird", config_for(engine))
    await engine.start(container)
    await engine.kill(container)
    before = held_open()

    async def work():
        if container.state is not State.RUNNING:
            await engine.start(container)
        await engine.stop(container, 0)

    async def check(cancelled):
        if container.run is not None:
            if container.run.escalation is None:
                await engine.kill(container)
            else:
                # The request was cancelled; the stop was not.
                await container.run.ended.wait()
        assert container.state in (State.EXITED, State.CREATED)
        assert cgroups_of(engine) == []
        await all_closed(before)

    await cancel_at_each_await(work, check)


async def test_remove(engine):
    container = None

    async def work():
        await engine.remove(container, force=True)

    async def check(cancelled):
        nonlocal container
        if container.state is not State.GONE:
            await engine.remove(container, force=True)
        assert list(engine.settings.containers.iterdir()) == []
        assert cgroups_of(engine) == []
        assert len(engine.containers) == 0
        container = await engine.create("bird", config_for(engine))
        await engine.start(container)

    container = await engine.create("bird", config_for(engine))
    await engine.start(container)
    await cancel_at_each_await(work, check)
    await engine.remove(container, force=True)


async def test_an_end_is_recorded_even_if_the_pump_fails(engine, monkeypatch):
    async def broken(*_):
        raise OSError(5, "Input/output error")

    container = await engine.create("bird", config_for(engine))
    await engine.start(container)
    await engine.stop(container, 0)
    before = held_open()  # with the pump's thread
    monkeypatch.setattr(Lane, "pump", broken)
    await engine.start(container)
    await engine.stop(container, 0)
    assert container.state is State.EXITED
    assert container.life.exit_code == 137
    assert cgroups_of(engine) == []
    await all_closed(before)
