"""Waiting: registered at once, answered with the code of that very end."""

import anyio
import pytest

from supervisor.container import Container, ContainerConfig, Life
from supervisor.errors import BadParameter
from supervisor.states import State
from supervisor.waiting import ExitResult, tell_exit, tell_removal, waiter

pytestmark = pytest.mark.anyio


def container(state=State.RUNNING, code=0):
    config = ContainerConfig(image="host", image_id="sha256:00")
    return Container("ab" * 32, "finch", config, 1, Life(state=state, exit_code=code))


async def test_one_that_does_not_run_is_answered_at_once():
    assert await waiter(container(State.EXITED, 3), "not-running").result() == ExitResult(3)
    assert await waiter(container(State.CREATED), "").result() == ExitResult(0)


async def test_the_code_is_that_of_the_end_and_not_of_the_next_run():
    one = container()
    answers = []

    async def wait(notice):
        answers.append((await notice.result()).code)

    async with anyio.create_task_group() as tasks:
        for condition in ("not-running", "next-exit"):
            tasks.start_soon(wait, waiter(one, condition))
        tell_exit(one, ExitResult(4))
        one.life = Life(state=State.RUNNING, exit_code=0)  # restarted before anybody looked
    assert answers == [4, 4]


async def test_next_exit_of_one_that_has_ended_waits_for_its_next_run():
    one = container(State.EXITED, 3)
    notice = waiter(one, "next-exit")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await notice.result()
    assert scope.cancelled_caught
    tell_exit(one, ExitResult(5))
    assert (await notice.result()).code == 5


async def test_removal_answers_with_the_last_code_and_frees_who_waits_for_an_exit():
    one = container(State.EXITED, 6)
    removed, exit_ = waiter(one, "removed"), waiter(one, "next-exit")
    one.life = Life(state=State.GONE, exit_code=6)
    tell_removal(one)
    assert await removed.result() == ExitResult(6)
    assert (await exit_.result()).error == "the container was removed"
    assert await waiter(one, "removed").result() == ExitResult(6)


async def test_late_registration_for_a_removal_is_answered():
    assert await waiter(container(State.GONE, 6), "removed").result() == ExitResult(6)


async def test_an_unknown_condition_is_refused():
    with pytest.raises(BadParameter, match='invalid condition: "sometime"'):
        waiter(container(), "sometime")
