"""The check of the store, step by step: what is told in which order, and what a cancel ends."""

from __future__ import annotations

import contextlib
import os
import types

import anyio
import pytest

from runtime.images.checking import Finding, LayerToCheck
from supervisor.limits import Limits
from supervisor.store_check import Progress, Summary, check

pytestmark = pytest.mark.anyio

FIRST, SECOND, LAST = (Finding("layer", "sha256:0", words, "do this") for words in "abc")


class Job:
    """A child that says something when it is told to."""

    def __init__(self, found=()):
        self.result_fd, self._said = os.pipe2(os.O_NONBLOCK)
        self.done = 0
        self.ended = ""
        self._found = list(found)

    def say(self, done):
        os.write(self._said, bytes([done]))

    def end(self):
        os.close(self._said)

    def read(self):
        try:
            data = os.read(self.result_fd, 10)
        except BlockingIOError:
            return True
        self.done = data[-1] if data else self.done
        return bool(data)

    def finish(self):
        self._close("finished")
        return self._found

    def abort(self):
        if not self.ended:
            self._close("aborted")
            self.end()

    def _close(self, how):
        self.ended = how
        os.close(self.result_fd)


class Check:
    def __init__(self, *jobs, begins=(), ends=()):
        self.layers = []
        self.counts = {"images": 1, "layers": 2, "blobs": 3, "without_archive": 0}
        self.jobs = list(jobs)
        self.begins, self.ends = begins, ends

    def begin(self):
        self.layers = [LayerToCheck(f"sha256:{n}", 10, True, ()) for n in range(len(self.jobs))]
        return list(self.begins)

    def begin_layer(self, layer):
        return self.jobs[int(layer.diff_id[7:])]

    def end(self):
        return list(self.ends)


def engine_with(made):
    return types.SimpleNamespace(images=types.SimpleNamespace(check=lambda: made), limits=Limits())


async def test_all_is_told_in_order():
    job = Job([SECOND])
    made = Check(job, None, begins=[FIRST], ends=[LAST])
    told = []
    async with contextlib.aclosing(check(engine_with(made))) as news:
        async for one in news:
            told.append(one)
            if one == Progress(0, 20) and told.count(one) == 2:
                job.say(4)
            if one == Progress(4, 20):
                job.end()
    # A layer that has gone meanwhile counts as read.
    assert told == [
        FIRST,
        *(Progress(0, 20), Progress(0, 20), Progress(4, 20)),
        SECOND,
        *(Progress(10, 20), Progress(20, 20)),
        LAST,
        Summary(1, 2, 3, 0, 20, 3),
    ]
    assert job.ended == "finished"


async def test_a_cancel_ends_the_child():
    job = Job()
    waits = anyio.Event()

    async def watch():
        async with contextlib.aclosing(check(engine_with(Check(job)))) as news:
            await anext(news)
            await anext(news)  # the first of the child's
            waits.set()
            await anext(news)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await waits.wait()
        tasks.cancel_scope.cancel()
    assert job.ended == "aborted"


async def test_who_stops_to_listen_ends_the_child():
    job = Job()
    async with contextlib.aclosing(check(engine_with(Check(job)))) as news:
        assert await anext(news) == Progress(0, 10)
        assert await anext(news) == Progress(0, 10)
    assert job.ended == "aborted"
