"""The event stream: order, memory, and listeners that can't slow anybody."""

import time

import anyio
import pytest

from supervisor import events
from supervisor.events import EventBus

pytestmark = pytest.mark.anyio


async def collect(subscription, into, count):
    async for event in subscription:
        into.append(event.action)
        if len(into) == count:
            break
    await subscription.aclose()


async def listening(bus):
    while not bus._listeners:
        await anyio.lowlevel.checkpoint()


async def test_live_events_reach_every_listener_in_order():
    bus, first, second = EventBus(), [], []
    bus.publish("container", "create", "before", {})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect, bus.subscribe(), first, 2)
        tasks.start_soon(collect, bus.subscribe(), second, 2)
        while len(bus._listeners) < 2:
            await anyio.lowlevel.checkpoint()
        bus.publish("container", "start", "x", {})
        bus.publish("container", "die", "x", {})
    assert first == second == ["start", "die"]
    assert not bus._listeners


async def test_times_never_run_backwards_nor_stand_still(monkeypatch):
    bus = EventBus()
    monkeypatch.setattr(time, "time_ns", lambda: 5)
    for _ in range(3):
        bus.publish("container", "start", "x", {})
    assert [event.time_ns async for event in bus.subscribe(since_ns=0, until_ns=7)] == [5, 6, 7]


async def test_since_gives_the_past_and_then_the_present():
    bus, seen = EventBus(), []
    bus.publish("container", "create", "x", {})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect, bus.subscribe(since_ns=0), seen, 2)
        await listening(bus)
        bus.publish("container", "start", "x", {})
    assert seen == ["create", "start"]


async def test_until_in_the_past_ends_by_itself():
    bus = EventBus()
    bus.publish("container", "create", "x", {})
    now = time.time_ns() + 10**6
    assert [e.action async for e in bus.subscribe(since_ns=0, until_ns=now)] == ["create"]


async def test_a_listener_that_falls_behind_is_cut_off_and_nobody_waits(monkeypatch):
    monkeypatch.setattr(events, "LISTENER_BACKLOG", 3)
    bus, seen = EventBus(), []
    subscription = bus.subscribe()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect, subscription, seen, 100)
        await listening(bus)
        for number in range(10):
            bus.publish("container", str(number), "x", {})
    # A listener that is waiting takes one more on some backends: straight from hand to hand.
    assert seen == ["0", "1", "2", "3"][: len(seen)]
    assert len(seen) >= 3
    assert not bus._listeners


async def test_a_cancelled_listener_leaves_nothing():
    bus = EventBus()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect, bus.subscribe(), [], 1)
        await listening(bus)
        tasks.cancel_scope.cancel()
    assert not bus._listeners
