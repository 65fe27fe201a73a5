"""Each call of a phase of a container with mounts fails once, and each await is cancelled once."""

from __future__ import annotations

import os

import anyio
import msgspec
import pytest

from runtime import flags
from supervisor.mount_points import MountPoint, Mounts
from supervisor.states import State
from supervisor.volumes import ANONYMOUS
from tests.faults.test_failing_calls import each_call_fails, start_fails_at_each_call
from tests.real.test_cancellation import (
    all_closed,
    cancel_at_each_await,
    cgroups_of,
    config_for,
    held_open,
)

pytestmark = pytest.mark.anyio


def with_mounts(engine, tmp_path, number=0):
    """A container's configuration with a mount of each kind."""
    points = (
        MountPoint(kind="bind", target="/made", source=f"{tmp_path}/made{number}/deep",
                   propagation="rprivate", make_source=True),
        MountPoint(kind="volume", target="/named", volume="named", copy_up=True),
        MountPoint(kind="volume", target="/etc/ssl", volume=f"{number:x}".zfill(64), copy_up=True,
                   anonymous=True, volume_labels={ANONYMOUS: ""}),
        MountPoint(kind="tmpfs", target="/t", attributes=flags.MOUNT_ATTR_NOSUID),
    )  # fmt: skip
    return msgspec.structs.replace(
        config_for(engine), mounts=Mounts(points=points, readonly_root=True)
    )


def folder(engine):
    return engine.settings.volumes


async def test_create_fails_at_each_call(engine, tmp_path):
    async def work():
        await engine.create("bird", with_mounts(engine, tmp_path))

    async def check(words):
        found = [c for c in engine.containers if c.name == "bird"]
        assert len(found) == (0 if words else 1)
        assert len(list(engine.settings.containers.iterdir())) == len(found)
        assert len(engine.volumes.all()) == 2 * len(found)
        for container in found:
            await engine.remove(container, volumes=True)
            await engine.volumes.remove("named")
        await engine.volumes.sweep(engine.volumes.recover())
        assert os.listdir(folder(engine)) == []

    before = held_open()
    told = await each_call_fails(work, check)
    assert any(told.values())
    await all_closed(before)


async def test_start(engine, tmp_path):
    container = await engine.create("bird", with_mounts(engine, tmp_path))
    await start_fails_at_each_call(engine, container)


async def test_remove_with_volumes_fails_at_each_call(engine, tmp_path):
    container = await engine.create("bird", with_mounts(engine, tmp_path))

    async def work():
        await engine.remove(container, volumes=True)

    async def check(words):
        nonlocal container
        if container.state is not State.GONE:
            assert words
            await engine.remove(container)  # the wish is on record
        assert len(engine.containers) == 0
        # One that could not be deleted is there as before, for a prune.
        await engine.volumes.prune(lambda volume: True, engine.limits.readers)
        assert engine.volumes.all() == []
        await engine.volumes.sweep(engine.volumes.recover())
        assert os.listdir(folder(engine)) == []
        container = await engine.create("bird", with_mounts(engine, tmp_path))

    await each_call_fails(work, check)


async def test_cancelled_at_each_await(engine, tmp_path):
    before = held_open()
    number = 0

    async def work():
        nonlocal number
        number += 1
        container = await engine.create("bird", with_mounts(engine, tmp_path, number))
        await engine.start(container)
        await engine.kill(container)
        await engine.remove(container, volumes=True)

    async def check(cancelled):
        for container in engine.containers:
            run = container.run
            await engine.remove(container, force=True, volumes=True)
            if run is not None:
                with anyio.fail_after(20):
                    await run.ended.wait()
        assert {volume.name for volume in engine.volumes.all()} <= {"named"}
        with anyio.fail_after(20):
            # A disk that was slow sets right what was given up, in its own time.
            while not set(os.listdir(folder(engine))) <= {"named"}:
                await anyio.lowlevel.checkpoint()
        if (folder(engine) / "named").exists():
            assert sorted(os.listdir(folder(engine) / "named")) == ["_data", "volume.json"]
        assert cgroups_of(engine) == []
        await all_closed(before)

    await cancel_at_each_await(work, check)
