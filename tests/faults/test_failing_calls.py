"""Each system call of create, start, stop and remove fails once, in the supervisor.

The engine runs inside the test, on both backends, with a real shim and real containers. For each k
the k-th call of a phase fails: the phase gets through all the same, or fails in words; either way
nothing is left, and the same phase succeeds right after. (The calls of shim and init:
tests/real/test_runtime_faults.py.)
"""

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest

from supervisor.errors import Conflict, EngineError, EngineFault
from supervisor.states import ALIVE, State
from tests.faults.failing_calls import failing_call
from tests.real.test_cancellation import (
    all_closed,
    cgroups_of,
    config_for,
    held_open,
)

pytestmark = pytest.mark.anyio


async def each_call_fails(work, check):
    """Run `work()` with its 1st, 2nd, … call failing, and `check(words)` after each.

    Returns:
        What failed, and with which words: {call: words, empty where it got through}.
    """
    told = {}
    fatal = 0
    while True:
        fatal += 1
        words = ""
        with failing_call(fatal) as calls:
            try:
                with anyio.fail_after(20):
                    await work()
            except EngineError as error:
                words = str(error)
            except BaseException as error:
                error.add_note(f"call {fatal} failed: {calls.failed}")
                raise
        if not calls.failed:
            assert fatal > 1, "no call was made: nothing was tested"
            await check("")
            return told
        told[calls.failed] = words
        try:
            await check(words)
        except BaseException as error:
            error.add_note(f"call {fatal} failed: {calls.failed}: {words}")
            raise


async def end(engine, container):
    """Kill it if it still runs, and wait until its end is on record."""
    run = container.run
    if run is not None:
        with suppress(Conflict):
            await engine.kill(container)
        with anyio.fail_after(20):
            await run.ended.wait()
    assert container.state is State.EXITED
    assert container.life.exit_code == 137


async def test_create(engine):
    async def work():
        await engine.create("bird", config_for(engine))

    async def check(words):
        found = [c for c in engine.containers if c.name == "bird"]
        assert len(found) == (0 if words else 1)
        assert len(list(engine.settings.containers.iterdir())) == len(found)
        for container in found:
            await engine.remove(container)

    before = held_open()
    told = await each_call_fails(work, check)
    assert any(told.values())
    await all_closed(before)


async def start_fails_at_each_call(engine, container):
    """Afterwards it has been started and ended without any failing."""
    engine.ready_logs.drop(container.id)
    before = held_open()

    async def work():
        await engine.start(container)

    async def check(words):
        if words:
            assert container.state in (State.CREATED, State.EXITED)
            assert container.run is None
            assert words in container.life.error
            await all_closed(before)
            assert cgroups_of(engine) == []
            await engine.start(container)
        assert container.state is State.RUNNING
        await end(engine, container)
        await all_closed(before)
        assert cgroups_of(engine) == []

    told = await each_call_fails(work, check)
    assert any(told.values())


async def test_start(engine):
    await start_fails_at_each_call(engine, await engine.create("bird", config_for(engine)))


async def test_stop(engine):
    container = await engine.create("bird", config_for(engine))
    engine.ready_logs.drop(container.id)
    before = held_open()
    await engine.start(container)

    async def work():
        await engine.stop(container, 0)

    async def check(words):
        assert container.state in (*ALIVE, State.EXITED)
        await end(engine, container)
        await all_closed(before)
        await engine.start(container)

    await each_call_fails(work, check)
    await engine.kill(container)
    assert cgroups_of(engine) == []


async def test_remove(engine):
    container = None

    async def work():
        await engine.remove(container, force=True)

    async def check(words):
        nonlocal container
        if container.state is not State.GONE:
            assert words
            await engine.remove(container, force=True)
        assert container.state is State.GONE
        assert cgroups_of(engine) == []
        assert len(engine.containers) == 0
        assert list(engine.settings.containers.glob(container.id)) == []
        container = await engine.create("bird", config_for(engine))
        await engine.start(container)

    before = held_open()
    container = await engine.create("bird", config_for(engine))
    await engine.start(container)
    await each_call_fails(work, check)
    await engine.remove(container, force=True)
    await all_closed(before)


async def test_a_fault_is_told_with_what_failed(engine):
    fatal = 0
    calls = None
    while calls is None or "mkdir" not in calls.failed:
        fatal += 1
        with failing_call(fatal) as calls, pytest.raises(EngineFault) as told:
            await engine.create("bird", config_for(engine))
    assert "No space left on device" in str(told.value)
