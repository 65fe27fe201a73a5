"""A start that finds its shim dead waits for the next one, however many die before."""

from __future__ import annotations

import os
import select
import signal

import anyio
import msgspec
import pytest

from runtime import shim_launch
from supervisor import start as start_phase
from supervisor.errors import StartFailed
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


@pytest.mark.parametrize("init", ["killed", "waiting"])
async def test_a_start_that_failed_when_its_shim_died_has_not_succeeded(
    engine, launched, monkeypatch, init
):
    """Found by the soak: the status pipe's end looked like that of a payload which was executed."""
    spawn, killed = start_phase.spawn, []

    async def spawn_and_die(*given):
        made = await spawn(*given)
        if not killed:
            os.kill(launched[-1], signal.SIGSTOP)  # it will never look at the failure
            killed.append(launched[-1])
            if init == "killed":
                signal.pidfd_send_signal(made.pidfd, signal.SIGKILL)
                assert select.select([made.pidfd], [], [], 20)[0]
            kill(launched[-1])
        return made

    monkeypatch.setattr(start_phase, "spawn", spawn_and_die)
    monkeypatch.setattr(start_phase, "REPORT_DUE_S", 0.2)
    config = msgspec.structs.replace(config_for(engine), cmd=("no-such-command",), entrypoint=())
    container = await engine.create("bird", config)
    with anyio.fail_after(20), pytest.raises(StartFailed) as failed:
        await engine.start(container)
    assert failed.value.exit_code == 127
    assert killed
