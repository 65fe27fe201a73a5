"""Letters from threads reach the loop, in order, and a bad one spoils no other."""

import threading

import anyio
import anyio.to_thread
import pytest

from supervisor.mailbox import Mailbox

pytestmark = pytest.mark.anyio


@pytest.fixture
async def mailbox():
    made = Mailbox()
    yield made
    made.close()


async def test_in_the_loops_thread_and_in_order(mailbox):
    came, last = [], anyio.Event()

    def write():
        for number in range(1000):
            mailbox.post(lambda number=number: came.append((number, threading.get_ident())))
        mailbox.post(last.set)

    await anyio.to_thread.run_sync(write)
    await last.wait()
    assert came == [(number, threading.get_ident()) for number in range(1000)]


async def test_a_letter_that_fails_is_the_only_one(mailbox):
    last = anyio.Event()
    mailbox.post(lambda: 1 // 0)
    mailbox.post(last.set)
    await last.wait()


async def test_a_letter_may_post_another(mailbox):
    last = anyio.Event()
    mailbox.post(lambda: mailbox.post(last.set))
    await last.wait()


async def test_a_closed_one_takes_letters_and_forgets_them(mailbox):
    came = []
    mailbox.close()
    mailbox.post(lambda: came.append(True))
    await anyio.wait_all_tasks_blocked()
    assert came == []


def test_a_loop_that_has_ended_is_told_nothing(anyio_backend_name):
    async def make():
        return Mailbox()

    anyio.run(make, backend=anyio_backend_name).post(lambda: None)
