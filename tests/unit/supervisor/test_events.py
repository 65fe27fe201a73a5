"""The event stream: order, a past that outlives the process, listeners that can't slow anybody."""

import time

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import events
from supervisor.events import EngineEvent, EventBus, FellBehind
from supervisor.journal import Journal

pytestmark = pytest.mark.anyio


async def collect(subscription, into, count):
    async for event in subscription:
        into.append(event.action)
        if len(into) == count:
            break
    await subscription.aclose()


async def listening(bus, listeners=1):
    while bus._news.statistics().tasks_waiting < listeners:
        await anyio.lowlevel.checkpoint()


async def remembered(bus, **limits):
    return [event async for event in bus.subscribe(since_ns=0, until_ns=time.time_ns(), **limits)]


async def test_live_events_reach_every_listener_in_order():
    bus, first, second = EventBus(), [], []
    bus.publish("container", "create", "before", {})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect, bus.subscribe(), first, 2)
        tasks.start_soon(collect, bus.subscribe(), second, 2)
        await listening(bus, 2)
        bus.publish("container", "start", "x", {})
        bus.publish("container", "die", "x", {})
    assert first == second == ["start", "die"]


async def test_a_subscription_begins_at_the_call_and_not_at_the_first_look():
    bus, seen = EventBus(), []
    subscription = bus.subscribe()
    bus.publish("container", "start", "x", {})
    await collect(subscription, seen, 1)
    assert seen == ["start"]


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
    assert [e.action for e in await remembered(bus)] == ["create"]


async def test_a_listener_that_falls_behind_the_memory_is_told_so_and_nobody_waits(monkeypatch):
    monkeypatch.setattr(events, "REMEMBERED", 3)
    bus = EventBus()
    subscription = bus.subscribe()
    bus.publish("container", "0", "x", {})
    assert (await anext(subscription)).action == "0"
    for number in range(1, 10):
        bus.publish("container", str(number), "x", {})
    with pytest.raises(FellBehind, match="forgotten"):
        await anext(subscription)
    assert bus.begins_ns == bus.past()[0].time_ns


async def test_a_slow_listener_within_the_memory_loses_nothing(monkeypatch):
    monkeypatch.setattr(events, "REMEMBERED", 10)
    bus, seen = EventBus(), []
    subscription = bus.subscribe()
    for number in range(10):
        bus.publish("container", str(number), "x", {})
    await collect(subscription, seen, 10)
    assert seen == [str(number) for number in range(10)]
    assert bus.begins_ns == 0


async def test_commands_in_containers_crowd_out_no_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "COMMANDS_REMEMBERED", 3)
    place = tmp_path / "events"
    bus = EventBus(Journal(place, EngineEvent))
    bus.publish("container", "start", "x", {})
    for number in range(10):
        bus.publish("container", f"exec_die {number}", "x", {})
    bus.publish("container", "die", "x", {})
    told = ["start", "exec_die 7", "exec_die 8", "exec_die 9", "die"]
    assert [e.action for e in await remembered(bus)] == told
    assert bus.begins_ns == 0
    assert [e.action for e in EventBus(Journal(place, EngineEvent)).past()] == ["start", "die"]


@given(
    st.lists(st.sampled_from(["publish", "command", "take"]), max_size=40),
    st.integers(1, 6),
    st.integers(1, 4),
)
def test_a_listener_gets_all_in_order_or_is_told(steps, most, most_commands):
    """Any mixture of publishing and taking: no event is skipped in silence, none comes twice."""

    async def run():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(events, "REMEMBERED", most)
            patch.setattr(events, "COMMANDS_REMEMBERED", most_commands)
            bus = EventBus()
        subscription = bus.subscribe()
        published, taken = [], []
        for step in [*steps, *["take"] * len(steps)]:
            if step == "take":
                if len(taken) == len(published):
                    continue
                try:
                    taken.append((await anext(subscription)).action)
                except FellBehind:
                    break
            else:
                name = f"{'exec_' if step == 'command' else ''}{len(published)}"
                bus.publish("container", name, "x", {})
                published.append(name)
        else:
            assert taken == published
        assert taken == published[: len(taken)]
        await subscription.aclose()
        assert bus.listeners == 0

    anyio.run(run)


async def test_the_past_outlives_the_process_and_time_goes_on_behind_it(tmp_path, monkeypatch):
    place = tmp_path / "events"
    first = EventBus(Journal(place, EngineEvent))
    first.publish("container", "create", "x", {"name": "bird"})
    first.publish("container", "start", "x", {"name": "bird"})
    latest = first.past()[-1].time_ns
    monkeypatch.setattr(time, "time_ns", lambda: 5)  # the clock was set back meanwhile
    second = EventBus(Journal(place, EngineEvent))
    second.publish("container", "die", "x", {"exitCode": "3"})
    assert [e.action for e in second.past()] == ["create", "start", "die"]
    assert second.past()[:2] == first.past()
    assert second.past()[-1].time_ns == latest + 1
    assert second.begins_ns == 0
