"""The stop escalation under a virtual clock: ten seconds take milliseconds, to the tick."""

import math

import anyio
import pytest
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.stop import KILL_LIMIT_S, Escalation


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class ScriptedTarget:
    """A process that ends `dies_after` seconds after a signal it listens to."""

    def __init__(self, tasks, dies_after=None, survives_kill=False):
        self.exited = anyio.Event()
        self.signals = []
        self._tasks = tasks
        self._dies_after = dies_after or {}
        self._survives_kill = survives_kill
        self._born = anyio.current_time()

    def _now(self):
        return anyio.current_time() - self._born

    def send_signal(self, number):
        self.signals.append((self._now(), number))
        if number in self._dies_after:
            self._tasks.start_soon(self._die, self._dies_after[number])

    async def _die(self, seconds):
        await anyio.sleep(seconds)
        self.exited.set()

    def kill_all(self):
        self.signals.append((self._now(), 9))
        if not self._survives_kill:
            self.exited.set()

    def stuck_words(self):
        return "process 42 does not end after SIGKILL: it is in uninterruptible sleep"


@pytest.mark.anyio
async def test_one_that_listens_is_not_killed():
    async with anyio.create_task_group() as tasks:
        target = ScriptedTarget(tasks, {15: 3})
        escalation = Escalation(target, 15, 10)
        began = anyio.current_time()
        await escalation.run()
        assert anyio.current_time() - began == 3
        assert target.signals == [(0, 15)]
        assert escalation.done.is_set()
        assert not escalation.killed


@pytest.mark.anyio
async def test_a_deaf_one_is_killed_at_the_deadline_and_not_before():
    async with anyio.create_task_group() as tasks:
        target = ScriptedTarget(tasks)
        sent = []
        escalation = Escalation(target, 15, 10)
        await escalation.run(on_signal=sent.append)
        assert target.signals == [(0, 15), (10, 9)]
        assert sent == [15, 9]
        assert escalation.killed


@pytest.mark.anyio
async def test_a_timeout_of_zero_kills_at_once():
    async with anyio.create_task_group() as tasks:
        target = ScriptedTarget(tasks)
        await Escalation(target, 2, 0).run()
        assert target.signals == [(0, 2), (0, 9)]


@pytest.mark.anyio
async def test_without_a_timeout_it_waits_for_ever():
    async with anyio.create_task_group() as tasks:
        target = ScriptedTarget(tasks, {15: 10**6})
        escalation = Escalation(target, 15, -1)
        assert escalation.deadline == math.inf
        await escalation.run()
        assert target.signals == [(0, 15)]


@pytest.mark.anyio
async def test_a_second_stop_brings_the_deadline_nearer():
    async with anyio.create_task_group() as tasks:
        target = ScriptedTarget(tasks)
        escalation = Escalation(target, 15, 60)
        tasks.start_soon(escalation.run)
        await anyio.sleep(5)
        escalation.hasten(2)
        await escalation.done.wait()
        assert target.signals == [(0, 15), (7, 9)]


@pytest.mark.anyio
async def test_a_second_stop_never_pushes_the_deadline_back():
    async with anyio.create_task_group() as tasks:
        target = ScriptedTarget(tasks)
        escalation = Escalation(target, 15, 10)
        tasks.start_soon(escalation.run)
        await anyio.sleep(1)
        escalation.hasten(-1)
        escalation.hasten(60)
        await escalation.done.wait()
        assert target.signals == [(0, 15), (10, 9)]


@pytest.mark.anyio
async def test_a_second_stop_that_comes_before_the_first_has_run_counts():
    async with anyio.create_task_group() as tasks:
        target = ScriptedTarget(tasks)
        escalation = Escalation(target, 15, 60)
        escalation.hasten(1)
        await escalation.run()
        assert target.signals == [(0, 15), (1, 9)]


@pytest.mark.anyio
async def test_one_that_outlives_sigkill_is_reported_and_not_awaited():
    async with anyio.create_task_group() as tasks:
        target = ScriptedTarget(tasks, survives_kill=True)
        escalation = Escalation(target, 15, 2)
        began = anyio.current_time()
        await escalation.run()
        assert anyio.current_time() - began == 2 + KILL_LIMIT_S
        assert "uninterruptible sleep" in escalation.stuck
        assert escalation.done.is_set()


@pytest.mark.anyio
async def test_a_waiter_is_let_go_when_the_escalation_is_cancelled():
    async with anyio.create_task_group() as tasks:
        target = ScriptedTarget(tasks)
        escalation = Escalation(target, 15, 60)
        tasks.start_soon(escalation.run)
        await anyio.sleep(1)
        tasks.cancel_scope.cancel()
    assert escalation.done.is_set()
    assert target.signals == [(0, 15)]


@given(
    first=st.integers(0, 100),
    joins=st.lists(st.tuples(st.integers(0, 50), st.integers(-1, 100)), max_size=5),
    dies_after=st.none() | st.integers(0, 120),
)
@settings(max_examples=60, deadline=None)
def test_sigkill_comes_at_the_nearest_deadline_anybody_asked_for(first, joins, dies_after):
    async def main():
        async with anyio.create_task_group() as tasks:
            target = ScriptedTarget(tasks, {} if dies_after is None else {15: dies_after})
            escalation = Escalation(target, 15, first)
            began = anyio.current_time()

            async def join(delay, timeout):
                await anyio.sleep(delay)
                if not escalation.done.is_set():
                    escalation.hasten(timeout)

            for delay, timeout in joins:
                tasks.start_soon(join, delay + 0.25, timeout)
            await escalation.run()
            took = anyio.current_time() - began
            tasks.cancel_scope.cancel()
        expected, now_at = first, sorted(joins)
        for delay, timeout in now_at:
            at = delay + 0.25
            if timeout >= 0 and at < expected and (dies_after is None or at < dies_after):
                expected = min(expected, at + timeout)
        if dies_after is not None and dies_after < expected:
            assert not escalation.killed
            assert took == dies_after
        elif dies_after != expected:
            assert escalation.killed
            assert took == pytest.approx(expected)

    anyio.run(
        main,
        backend="trio",
        backend_options={"clock": trio.testing.MockClock(autojump_threshold=0)},
    )
