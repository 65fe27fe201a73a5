"""Taking back what a half-done phase did."""

import anyio
import pytest
import trio.testing

from supervisor.undo import UNDO_LIMIT_S, Undo

pytestmark = pytest.mark.anyio


async def test_success_takes_nothing_back():
    done = []
    async with Undo() as undo:
        undo.push("a", lambda: done.append("a"))
        undo.keep()
    assert done == []


async def test_failure_takes_back_in_reverse_order():
    done = []
    with pytest.raises(ValueError, match="boom"):
        async with Undo() as undo:
            for name in "abc":
                undo.push(name, lambda name=name: done.append(name))
            raise ValueError("boom")
    assert done == ["c", "b", "a"]


async def test_cancellation_takes_back_too_and_can_wait():
    done = []

    async def slow():
        await anyio.lowlevel.checkpoint()
        done.append("slow")

    with anyio.CancelScope() as scope:
        async with Undo() as undo:
            undo.push("slow", slow)
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert done == ["slow"]


async def test_one_step_that_fails_does_not_keep_the_others_from_running():
    done = []

    def broken():
        raise OSError(5, "Input/output error")

    with pytest.raises(ValueError, match="boom"):
        async with Undo() as undo:
            undo.push("last", lambda: done.append("last"))
            undo.push("broken", broken)
            raise ValueError("boom")
    assert done == ["last"]


@pytest.mark.parametrize(
    "anyio_backend", [("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})]
)
async def test_a_step_that_hangs_is_given_up(anyio_backend):
    done = []
    began = anyio.current_time()
    with pytest.raises(ValueError, match="boom"):
        async with Undo() as undo:
            undo.push("last", lambda: done.append("last"))
            undo.push("hangs", anyio.sleep_forever)
            raise ValueError("boom")
    assert done == ["last"]
    assert anyio.current_time() - began == UNDO_LIMIT_S
