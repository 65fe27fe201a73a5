"""Cancelled at each await: restart, kill, removal of many, a command in a container, a commit.

`tests/real/test_cancellation.py` does the same for create, start, stop and remove.
"""

from __future__ import annotations

import itertools
from contextlib import suppress

import anyio
import msgspec
import pytest

from runtime import freezer
from supervisor.commit import Asked
from supervisor.errors import Conflict
from supervisor.execs import Command, entered
from supervisor.states import ALIVE, State
from tests.real.test_cancellation import (
    all_closed,
    cancel_at_each_await,
    cgroups_of,
    config_for,
    held_open,
)

pytestmark = pytest.mark.anyio


async def end(engine, container):
    """Kill it if it runs, and wait until its end is on record."""
    run = container.run
    if run is not None:
        with suppress(Conflict):
            await engine.kill(container)
        with anyio.fail_after(20):
            await run.ended.wait()
    assert container.state is State.EXITED
    assert container.run is None


async def test_restart(engine):
    container = await engine.create("bird", config_for(engine))
    engine.ready_logs.drop(container.id)
    before = held_open()
    await engine.start(container)
    seen = set()

    async def work():
        await engine.restart(container, 0)

    async def check(cancelled):
        run = container.run
        if run is not None and run.escalation is not None:
            # The request was cancelled, the stop was not.
            with anyio.fail_after(20):
                await run.ended.wait()
        seen.add(container.state)
        with anyio.fail_after(20):
            while container.state is State.RESTARTING:
                # Nor is the wish for the next run, which comes.
                await anyio.lowlevel.checkpoint()
        assert container.state in (*ALIVE, State.EXITED)
        await end(engine, container)
        assert cgroups_of(engine) == []
        await all_closed(before)
        await engine.start(container)

    await cancel_at_each_await(work, check)
    assert State.RUNNING in seen
    await engine.kill(container)


async def test_kill(engine):
    container = await engine.create("bird", config_for(engine))
    engine.ready_logs.drop(container.id)
    before = held_open()
    await engine.start(container)

    async def work():
        await engine.kill(container)

    async def check(cancelled):
        await end(engine, container)
        assert container.life.exit_code == 137
        assert cgroups_of(engine) == []
        await all_closed(before)
        await engine.start(container)

    await cancel_at_each_await(work, check)
    await engine.kill(container)


async def test_the_removal_of_all_that_do_not_run(engine):
    names = (f"bird-{number}" for number in itertools.count())

    async def three():
        for _ in range(3):
            await engine.create(next(names), config_for(engine))

    async def work():
        await engine.prune()

    async def check(cancelled):
        for container in engine.containers:
            assert container.state in (State.CREATED, State.REMOVING, State.GONE)
        await engine.prune()
        with anyio.fail_after(20):
            while len(engine.containers):
                await anyio.lowlevel.checkpoint()
        assert list(engine.settings.containers.iterdir()) == []
        await three()

    before = held_open()
    await three()
    await cancel_at_each_await(work, check)
    await engine.prune()
    await all_closed(before)


async def test_a_command_in_a_container(engine):
    """Wherever it is cancelled, no process, cgroup or descriptor of the command stays."""
    config = msgspec.structs.replace(config_for(engine), cmd=("sleep", "1000"))
    container = await engine.create("bird", config)
    await engine.start(container)
    numbers = itertools.count()
    before = held_open()
    ran = []

    async def work():
        number = next(numbers)
        command = Command(args=("sh", "-c", "echo hi; sleep 1000 & exec sleep 1000"))
        name = f"try-{number}"
        async with entered(engine, container, f"{number:064x}", name, command) as execution:
            await execution.executed()
            await anyio.wait_readable(execution.output)
            execution.kill()
            ending = await execution.ending()
            ran.append(ending.signal)

    async def check(cancelled):
        assert container.state is State.RUNNING
        assert engine.cgroups.pids(container.id) == {container.run.pid}
        await all_closed(before)

    await cancel_at_each_await(work, check)
    assert set(ran) == {9}  # once or more: one that is through may be cancelled while it tidies up
    await engine.kill(container)
    assert cgroups_of(engine) == []


async def test_commit(engine):
    """Wherever it is cancelled the container goes on, and the image is whole or not there."""
    config = msgspec.structs.replace(config_for(engine), cmd=("sleep", "1000"))
    container = await engine.create("bird", config)
    await engine.start(container)
    (engine.directory(container) / "upper/file").write_bytes(bytes(100_000))
    images, root = engine.images, engine.images.root
    before = held_open()
    made = []

    async def work():
        made.append(await engine.commit(container, Asked("nest:1", {"Cmd": ["true"]})))

    async def check(cancelled):
        assert container.state is State.RUNNING
        assert not container.life.thaw_due
        assert not freezer.is_to_be_frozen(engine.cgroups.unified(container.id))
        await all_closed(before)
        assert list((root / "staging").iterdir()) == []
        told = [image for image in images.images() if not image.built_in]
        assert len(told) == len(list((root / "layers").iterdir())) <= 1
        assert [image.size for image in told] in ([], [100_000])
        assert cancelled or told
        for image in told:
            images.delete(image.id)

    await cancel_at_each_await(work, check)
    assert made
    await engine.kill(container)
    assert cgroups_of(engine) == []
