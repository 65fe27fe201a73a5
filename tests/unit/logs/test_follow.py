"""Followers on both backends: history, then what is written, each byte once, until the end."""

import os
import time

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from logs import follow as follow_module
from logs import log_stream
from logs.container_log import ContainerLog
from logs.drivers import Stream, open_log
from logs.follow import follow
from logs.framing import Demultiplexer
from logs.reader import LogNotReadable

pytestmark = pytest.mark.anyio
ID = "ab" * 32


@pytest.fixture(params=["json-file", "k8s-file"])
def log(request, tmp_path):
    made = open_log(request.param, tmp_path, ID)
    yield made
    made.close()


@pytest.fixture
def out(log):
    return log.stream(Stream.STDOUT)


async def rest(follower):
    return b"".join([chunk async for chunk in follower])


async def test_history_then_live_then_end(log, out):
    out.append(b"one\ntwo\n")
    follower = follow(log)
    assert await anext(follower) == b"one\ntwo\n"
    async with anyio.create_task_group() as group:

        async def write():
            for text in (b"three\n", b"fo", b"ur\n", b"five"):
                await anyio.wait_all_tasks_blocked()
                out.append(text)
            await anyio.wait_all_tasks_blocked()
            log.close()

        group.start_soon(write)
        assert await anext(follower) == b"three\n"
        assert await anext(follower) == b"four\n"
        assert await anext(follower) == b"five"
        with pytest.raises(StopAsyncIteration):
            await anext(follower)


async def test_nothing_after_the_call_is_missed(log, out):
    out.append(b"old\n")
    follower = follow(log, tail=0)
    out.append(b"new\n")
    log.close()
    assert await rest(follower) == b"new\n"


@pytest.mark.parametrize(
    ("tail", "text"), [(None, b"1\n2\n3\n4\n"), (0, b"4\n"), (2, b"2\n3\n4\n")]
)
async def test_tail(log, out, tail, text):
    out.append(b"1\n2\n3\n")
    follower = follow(log, tail=tail)
    out.append(b"4\n")
    log.close()
    assert await rest(follower) == text


async def test_closed_log_is_history_only(log, out):
    out.append(b"one\n")
    log.close()
    assert await rest(follow(log)) == b"one\n"


async def test_file_is_held_open(log, out):
    out.append(b"one\n")
    follower = follow(log)
    out.append(b"two\n")
    log.close()
    os.unlink(log.path)
    assert await rest(follower) == b"one\ntwo\n"


async def test_many_followers_and_a_slow_one(log, out):
    """The slow one takes its chunks when all is over; it held nobody up and has missed nothing."""
    texts = [b"%d " % number * 3000 + b"\n" for number in range(200)]
    slow, fast, got = follow(log), [follow(log) for _ in range(5)], []
    async with anyio.create_task_group() as group:

        async def collect(follower):
            got.append(await rest(follower))

        for follower in fast:
            group.start_soon(collect, follower)
        for text in texts:
            out.append(text)
            await anyio.lowlevel.checkpoint()
        log.close()
    assert got == [b"".join(texts)] * 5
    assert await rest(slow) == b"".join(texts)


async def test_framed_streams(log, out):
    follower = follow(log, framed=True)
    out.append(b"out\n")
    log.stream(Stream.STDERR).append(b"err\n")
    log.close()
    parts = list(Demultiplexer().feed(await rest(follower)))
    assert parts == [(Stream.STDOUT, b"out\n"), (Stream.STDERR, b"err\n")]


async def test_one_stream_of_two(log, out):
    follower = follow(log, streams=[Stream.STDERR])
    async with anyio.create_task_group() as group:

        async def write():
            await anyio.wait_all_tasks_blocked()
            out.append(b"out\n")
            await anyio.wait_all_tasks_blocked()
            log.stream(Stream.STDERR).append(b"err\n")

        group.start_soon(write)
        assert await anext(follower) == b"err\n"


async def test_cancelled_while_it_waits_leaves_nothing_and_loses_nothing(log, out):
    follower = follow(log)
    for number in range(3):
        async with anyio.create_task_group() as group:
            group.start_soon(anext, follower)
            await anyio.wait_all_tasks_blocked()
            assert len(log._watchers) == 1
            group.cancel_scope.cancel()
        assert log._watchers == ()
        out.append(b"%d\n" % number)
        assert await anext(follower) == b"%d\n" % number


async def test_cancelled_before_it_reads_loses_nothing(log, out):
    out.append(b"one\n")
    follower = follow(log)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anext(follower)
    log.close()
    assert await rest(follower) == b"one\n"


async def test_long_history_in_blocks(log, out, monkeypatch):
    """More than a block behind, the disk is waited for in a thread."""
    monkeypatch.setattr(follow_module, "_BLOCK", 1000)
    calls = []
    real = anyio.to_thread.run_sync
    monkeypatch.setattr(
        follow_module.anyio.to_thread,
        "run_sync",
        lambda *arguments, **keywords: calls.append(1) or real(*arguments, **keywords),
    )
    for number in range(100):
        out.append(b"%d %b\n" % (number, b"x" * number * 30))
    follower = follow(log)
    log.close()
    text = await rest(follower)
    assert [int(line.split()[0]) for line in text.splitlines()] == list(range(100))
    assert calls


async def test_file_cut_by_somebody_else(log, out):
    """`truncate -s 0`: what is written afterwards is shown, once."""
    out.append(b"old\n" * 100)
    follower = follow(log)
    assert await anext(follower) == b"old\n" * 100
    os.truncate(log.path, 0)
    out.append(b"new\n")
    log.close()
    assert await rest(follower) == b"new\n"


class TestUntil:
    async def test_ends_at_a_later_record(self, log, out, monkeypatch):
        now = time.time_ns()
        follower = follow(log, until_ns=now + 3600 * 10**9)
        out.append(b"in time\n")
        monkeypatch.setattr(log_stream, "time_ns", lambda: now + 7200 * 10**9)
        out.append(b"late\n")
        assert await rest(follower) == b"in time\n"

    async def test_ends_when_the_time_has_come(self, log, out):
        out.append(b"in time\n")
        follower = follow(log, until_ns=time.time_ns() + 50_000_000)
        assert await rest(follower) == b"in time\n"
        assert log._watchers == ()

    async def test_of_the_past_shows_history_only(self, log, out):
        out.append(b"in time\n")
        follower = follow(log, until_ns=time.time_ns())
        out.append(b"late\n")
        assert await rest(follower) == b"in time\n"


async def test_since(log, out, monkeypatch):
    out.append(b"old\n")
    follower = follow(log, since_ns=time.time_ns() + 10**9)
    later = time.time_ns() + 2 * 10**9
    monkeypatch.setattr(log_stream, "time_ns", lambda: later)
    out.append(b"new\n")
    log.close()
    assert await rest(follower) == b"new\n"


async def test_written_in_another_thread(log, out):
    log.deliver = anyio.from_thread.run_sync
    follower = follow(log)
    async with anyio.create_task_group() as group:

        async def write():
            await anyio.wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(out.append, b"one\n")

        group.start_soon(write)
        assert await anext(follower) == b"one\n"


async def test_written_while_it_begins_to_wait(log, out, monkeypatch):
    """Another thread writes between the last look at the size and the subscription."""
    subscribe = ContainerLog.subscribe

    def late(which, callback, *more):
        if not log.size:
            out.append(b"one\n")
        return subscribe(which, callback, *more)

    monkeypatch.setattr(ContainerLog, "subscribe", late)
    assert await anext(follow(log)) == b"one\n"


async def test_driver_none_is_refused(tmp_path):
    log = open_log("none", tmp_path, ID)
    with pytest.raises(LogNotReadable, match="does not support reading"):
        follow(log)
    log.close()
