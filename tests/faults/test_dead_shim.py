"""A start that finds its shim dead waits for the next one, however many die before."""

from __future__ import annotations

import os
import select
import signal

import anyio
import pytest

from runtime import shim_launch
from supervisor.states import State
from tests.real.test_cancellation import config_for, engine_in

pytestmark = pytest.mark.anyio


@pytest.fixture
def launched(monkeypatch):
    """The pids of the shims, the newest last."""
    pids = []

    def launch(*given, **named):
        pids.append(real(*given, **named))
        return pids[-1]

    real = shim_launch.launch
    monkeypatch.setattr(shim_launch, "launch", launch)
    return pids


@pytest.fixture
async def engine(tmp_path, anyio_backend, launched):
    async with engine_in(tmp_path, anyio_backend) as made:
        yield made


def kill(pid):
    """It is gone when this returns, and no task of ours has had a turn to see it."""
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert select.select([pidfd], [], [], 20)[0]
    finally:
        os.close(pidfd)


async def test_a_start_at_the_very_moment(engine, launched):
    """Found by the soak: it asked the dead one four times within a millisecond, and gave up."""
    container = await engine.create("bird", config_for(engine))
    for _ in range(3):
        kill(launched[-1])
        with anyio.fail_after(20):
            await engine.start(container)
        assert container.state is State.RUNNING
        await engine.kill(container)


async def test_a_start_while_one_shim_after_the_other_dies(engine, launched, monkeypatch):
    """The second dies before it has been handed anything."""
    container = await engine.create("bird", config_for(engine))
    furnish = engine.shim._furnish
    seen = []

    async def dies_at_once():
        seen.append(1)
        if len(seen) == 1:
            kill(launched[-1])
        await furnish()

    monkeypatch.setattr(engine.shim, "_furnish", dies_at_once)
    kill(launched[-1])
    with anyio.fail_after(20):
        await engine.start(container)
    assert len(seen) == 2
    assert engine.shim.deaths == 2
    await engine.kill(container)
