"""A container that removes itself waits for the client that a death cut off: not for ever."""

import time
from types import SimpleNamespace

import anyio
import pytest

from supervisor import comebacks
from supervisor.container import Container, ContainerConfig, Life
from supervisor.states import State
from supervisor.waiting import waiter

pytestmark = pytest.mark.anyio

NOW = 1_000 * 10**9
ENGINE = SimpleNamespace(started_ns=NOW)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: NOW + 10**9)


def container(*, started_ns=NOW - 5, attached=True):
    config = ContainerConfig(image="host", image_id="sha256:00", attach_stdout=attached)
    life = Life(state=State.EXITED, started_ns=started_ns, finished_ns=NOW + 1)
    return Container("ab" * 32, "finch", config, 1, life)


async def test_it_waits_for_who_comes_back():
    one = container()
    removed = []

    async def remove():
        await comebacks.before_removal(ENGINE, one)
        removed.append(True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(remove)
        while one.claimed is None:
            await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        assert not removed
        waiter(one, "removed")
    assert removed


async def test_it_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(comebacks, "COMEBACK_S", 1.01)
    await comebacks.before_removal(ENGINE, container())


@pytest.mark.parametrize(
    "one",
    [
        container(attached=False),
        container(started_ns=NOW + 5),
        container(started_ns=0),
    ],
    ids=["nobody was attached", "it is ours", "it never ran"],
)
async def test_nobody_is_waited_for_who_was_not_cut_off(one):
    with anyio.CancelScope() as scope:
        scope.cancel()
        await comebacks.before_removal(ENGINE, one)
    assert not scope.cancelled_caught


async def test_who_is_back_already_is_not_waited_for():
    one = container()
    waiter(one, "removed")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await comebacks.before_removal(ENGINE, one)
    assert not scope.cancelled_caught
