"""`python -m tests.faults.killed_engine BASE PHASE K`: an engine that kills itself at a call.

It brings a container to where the phase begins, and begins it. Right before the phase's K-th call
it sends itself SIGKILL; it prints `through` first if the phase makes fewer calls.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import anyio
import msgspec
import structlog

from supervisor.commit import Asked
from supervisor.container import ContainerConfig
from tests.faults.failing_calls import failing_call
from tests.real.test_cancellation import engine_in

SCRIPT = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 1000 & wait; done"
CONFIG = ContainerConfig(image="host", image_id="", cmd=("sh", "-c", SCRIPT))


async def create(engine):
    await engine.create("bird", config_for(engine))


async def start(engine):
    await engine.start(engine.containers.find("bird"))


async def stop(engine):
    await engine.stop(engine.containers.find("bird"), 25)


async def restart(engine):
    await engine.restart(engine.containers.find("bird"), 25)


async def remove(engine):
    await engine.remove(engine.containers.find("bird"))


async def commit(engine):
    await engine.commit(engine.containers.find("bird"), Asked("nest:1", {"Cmd": ["true"]}))


PHASES = {phase.__name__: phase for phase in (create, start, stop, restart, remove, commit)}
RUNS_BEFORE = {"stop", "restart", "commit"}


def config_for(engine):
    return msgspec.structs.replace(CONFIG, image_id=engine.images.host().id)


async def up(engine, container):
    """Start it and wait until its trap is set, which its first line tells."""
    attachment, _ = engine.attach(container, True, True)
    await engine.start(container)
    async with contextlib.aclosing(aiter(attachment)) as pieces:
        await anext(pieces)
    engine.detach(container, attachment)


async def run(base, phase, k):
    async with engine_in(base, "asyncio") as engine:
        if phase != "create":
            container = await engine.create("bird", config_for(engine))
            if phase in RUNS_BEFORE:
                await up(engine, container)
        with failing_call(k, lambda: os.kill(os.getpid(), signal.SIGKILL)):
            await PHASES[phase](engine)
            print("through", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


def drop(*_):
    raise structlog.DropEvent


if __name__ == "__main__":
    structlog.configure(processors=[drop])
    anyio.run(run, Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
