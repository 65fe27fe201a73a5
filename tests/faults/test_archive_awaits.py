"""Cancelled at each await: archives out of containers and into them, and what has changed."""

from __future__ import annotations

import contextlib

import msgspec
import pytest

from supervisor import changes
from supervisor.archive import helper
from tests.real.archives import helpers_of, packed
from tests.real.test_cancellation import all_closed, cancel_at_each_await, config_for, held_open

pytestmark = pytest.mark.anyio

WRITE = {"kind": "write", "path": "/root", "no_overwrite": False, "owner": None}


@pytest.fixture
async def container(engine, request):
    """Runs where the test's parameter says so."""
    config = msgspec.structs.replace(config_for(engine), cmd=("sleep", "1000"))
    made = await engine.create("bird", config)
    if request.param == "running":
        await engine.start(made)
    yield made
    if request.param == "running":
        await engine.kill(made)


async def nothing_left(engine, before):
    assert helpers_of("self") == []
    assert len(engine.limits.uploads) == 0
    await all_closed(before)


@pytest.mark.parametrize("container", ["running", "created"], indirect=True)
async def test_an_archive_of_a_container(engine, container):
    before, sizes = held_open(), set()

    async def work():
        asked = {"kind": "read", "path": "/root", "sparse": False}
        size = 0
        async with helper(engine, container, asked) as (one, first):
            assert first["stat"]["name"] == "root"
            async with contextlib.aclosing(one.pieces()) as pieces:
                async for piece in pieces:
                    size += len(piece)
        sizes.add(size)

    async def check(cancelled):
        await nothing_left(engine, before)

    await cancel_at_each_await(work, check)
    assert len(sizes) == 1


@pytest.mark.parametrize("container", ["running", "created"], indirect=True)
async def test_an_upload(engine, container):
    before, done = held_open(), []

    async def work():
        async with (
            engine.limits.uploads.turn(container.id),
            helper(engine, container, WRITE, writable=True) as (one, _),
        ):
            await one.feed(packed({"file": b"x" * 1_200_000}))
            one.job.close_input()
            await one.answer()
        done.append(True)

    async def check(cancelled):
        await nothing_left(engine, before)

    await cancel_at_each_await(work, check)
    assert done


@pytest.mark.parametrize("container", ["created"], indirect=True)
async def test_what_has_changed(engine, container):
    before, found = held_open(), []

    async def work():
        found.append(await changes.changes(engine, container))

    async def check(cancelled):
        await nothing_left(engine, before)

    await cancel_at_each_await(work, check)
    assert found
    assert not any(found)
