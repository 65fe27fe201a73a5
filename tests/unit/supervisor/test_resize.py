"""A terminal's new size: told, or refused as Docker does it, whenever it is asked for."""

import os
import pty
from types import SimpleNamespace

import anyio
import pytest

from supervisor import engine
from supervisor.errors import Conflict
from supervisor.events import EventBus

pytestmark = pytest.mark.anyio


@pytest.fixture
def resized(monkeypatch):
    """Resize what has this run; returns the actions that were told."""
    monkeypatch.setattr(engine.lifecycle, "attributes", lambda container, **more: more)

    async def resize(run, *, tty=True):
        container = SimpleNamespace(
            id="ab" * 32, name="c1", run=run, config=SimpleNamespace(tty=tty)
        )
        events = EventBus()
        await engine.Engine.resize(SimpleNamespace(events=events), container, 30, 100)
        return [event.action for event in events.past()]

    return resize


def running(terminal=-1, *, opened=False):
    run = SimpleNamespace(opened=anyio.Event(), terminal=terminal)
    if opened:
        run.opened.set()
    return run


async def test_it_is_set_and_told(resized):
    master, slave = pty.openpty()
    assert await resized(running(master, opened=True)) == ["resize"]
    assert os.get_terminal_size(slave) == (100, 30)
    os.close(master)
    os.close(slave)


async def test_what_has_no_terminal_is_told_nothing(resized):
    """As in Docker: a client that always asks must not be refused for it."""
    assert await resized(running(), tty=False) == ["resize"]


async def test_one_that_does_not_run(resized):
    for tty in (True, False):
        with pytest.raises(Conflict, match="is not running"):
            await resized(None, tty=tty)


async def test_one_that_ends_before_it_has_a_terminal(resized):
    run = running()
    async with anyio.create_task_group() as tasks:

        async def ask():
            with pytest.raises(Conflict, match="is not running"):
                await resized(run)

        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        run.opened.set()


async def test_one_that_is_slow_is_refused_as_if_it_did_not_run(resized, monkeypatch):
    """Docker's clients ask again; an internal error would end them."""
    monkeypatch.setattr(engine, "TERMINAL_DUE_S", 0.01)
    with pytest.raises(Conflict, match="is not running"):
        await resized(running())
