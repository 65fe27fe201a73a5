"""A loop that is held up is seen in the lag's histogram, without anything that polls."""

import time

import anyio
import pytest

from supervisor.counts import LAG
from supervisor.mailbox import Mailbox

pytestmark = pytest.mark.anyio


async def test_what_holds_the_loop_up_is_seen_by_who_rings(tmp_path):
    mailbox = Mailbox()
    before, total = LAG.cumulative[-1], LAG.total
    called = anyio.Event()
    mailbox.post(called.set)
    time.sleep(0.02)  # noqa: ASYNC251  (this is what shall be seen)
    await called.wait()
    mailbox.close()
    assert LAG.cumulative[-1] == before + 1
    assert LAG.total - total >= 0.02


async def test_an_idle_mailbox_measures_nothing():
    mailbox = Mailbox()
    before = LAG.cumulative[-1]
    await anyio.wait_all_tasks_blocked()
    mailbox.close()
    assert LAG.cumulative[-1] == before
