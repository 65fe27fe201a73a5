"""How long an ended container's pipes are waited for, under a virtual clock."""

from types import SimpleNamespace

import anyio
import pytest
import trio.testing

from supervisor.run import DRAIN_LIMIT_S, STALLED_LIMIT_S, _drained

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


async def waited(lane, ends_after=None):
    """How long `_drained` takes where the second pipe ends then, or never."""
    events = [anyio.Event(), anyio.Event()]
    events[0].set()
    begun = anyio.current_time()
    async with anyio.create_task_group() as group:

        async def end():
            await anyio.sleep(ends_after)
            events[1].set()

        if ends_after is not None:
            group.start_soon(end)
        await _drained(lane, events)
        group.cancel_scope.cancel()
    return anyio.current_time() - begun


@pytest.mark.parametrize("stalled", [False, True])
async def test_no_longer_than_they_last(stalled):
    assert await waited(SimpleNamespace(stalled=stalled), 0.3) == pytest.approx(0.3)


async def test_those_of_a_slow_machine_and_those_kept_open_outside():
    assert await waited(SimpleNamespace(stalled=False), 3.0) == pytest.approx(3.0)
    assert await waited(SimpleNamespace(stalled=False)) == pytest.approx(DRAIN_LIMIT_S)


async def test_a_hang_that_begins_just_before_the_end_holds_it_up_no_longer_than_any():
    class Lane:
        """Its thread has been in its batch for too short a time to tell, at first."""

        begun = anyio.current_time()

        @property
        def stalled(self):
            return anyio.current_time() - self.begun > 0.1

    assert await waited(Lane()) == pytest.approx(STALLED_LIMIT_S)
