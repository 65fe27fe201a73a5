"""Chunks that a waiting follower has sent on in the writer's thread: each byte once, in order."""

import random
import threading

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from logs import follow as follow_module
from logs.drivers import Stream, open_log
from logs.follow import follow
from logs.log_file import LogFile

pytestmark = pytest.mark.anyio
ID = "ab" * 32


@pytest.fixture(params=["json-file", "k8s-file"])
def log(request, tmp_path):
    made = open_log(request.param, tmp_path, ID, {"max-size": "20k", "max-file": "3"})
    made.deliver = anyio.from_thread.run_sync
    yield made
    made.close()


class Reader:
    """Takes the chunks of a follower, from both sides."""

    def __init__(self, log, takes=lambda chunk: True):
        self.follower = follow(log)
        self.follower.push_to(self._push)
        self.takes = takes
        self.text = b""
        self.pushed = []
        self.empty = 0
        self._owed = b""

    def _push(self, chunk):
        assert not self._owed
        self.pushed.append(threading.current_thread())
        if self.takes(chunk):
            self.text += chunk
            return True
        half = len(chunk) // 2
        self.text, self._owed = self.text + chunk[:half], chunk[half:]
        return False

    async def run(self):
        async for chunk in self.follower:
            self.empty += not chunk
            self.text += self._owed + chunk
            self._owed = b""
        assert not self._owed


async def test_pushed_by_the_writer_without_waking_anybody(log):
    log.deliver = None  # would be called to wake it
    out, reader = log.stream(Stream.STDOUT), Reader(log)
    async with anyio.create_task_group() as group:
        group.start_soon(reader.run)
        await anyio.wait_all_tasks_blocked()
        for text in (b"one\n", b"tw", b"o\n"):
            await anyio.to_thread.run_sync(out.append, text)
        assert reader.text == b"one\ntwo\n"
        assert threading.current_thread() not in reader.pushed
        log.deliver = anyio.from_thread.run_sync
        await anyio.to_thread.run_sync(log.close)
    assert (len(reader.pushed), reader.empty) == (2, 0)


async def test_what_it_has_kept_is_asked_for(log):
    out, reader = log.stream(Stream.STDOUT), Reader(log, takes=lambda chunk: False)
    async with anyio.create_task_group() as group:
        group.start_soon(reader.run)
        for text in (b"one\n", b"two\n"):
            await anyio.wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(out.append, text)
        await anyio.wait_all_tasks_blocked()
        assert reader.text == b"one\ntwo\n"
        await anyio.to_thread.run_sync(log.close)
    assert (len(reader.pushed), reader.empty) == (2, 2)


@pytest.mark.parametrize("why", ["is much", "is not in memory"])
async def test_what_the_writer_should_not_read_is_read_by_the_follower(log, monkeypatch, why):
    if why == "is much":
        monkeypatch.setattr(follow_module, "PUSHED_BYTES", 10)
    else:
        monkeypatch.setattr(LogFile, "read_cached", no_memory)
    out, reader = log.stream(Stream.STDOUT), Reader(log)
    async with anyio.create_task_group() as group:
        group.start_soon(reader.run)
        await anyio.wait_all_tasks_blocked()
        await anyio.to_thread.run_sync(out.append, b"one\n")
        await anyio.to_thread.run_sync(log.close)
    assert (reader.text, reader.pushed) == (b"one\n", [])


def no_memory(file, size, offset):
    raise BlockingIOError


async def test_all_of_it_over_rotations_whoever_takes_it(log):
    """At full speed, with a reader that takes half of a chunk now and then."""
    choose = random.Random(3)
    reader = Reader(log, takes=lambda chunk: choose.random() < 0.7)
    out = log.stream(Stream.STDOUT)

    def write():
        for number in range(1500):
            out.append(b"line %d\n" % number)
            if number % 7 == 0:
                at_rest.wait(0.0005)
        log.close()

    at_rest = threading.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(reader.run)
        await anyio.to_thread.run_sync(write)
    assert reader.text == b"".join(b"line %d\n" % number for number in range(1500))
    assert log.rotations
    assert reader.pushed
    assert reader.empty


class Announced:
    """A lock that tells before it is waited for."""

    def __init__(self, lock, wanted):
        self._lock, self._wanted = lock, wanted

    def __enter__(self):
        self._wanted.set()
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()


async def test_cancelled_while_it_is_pushed_to(log):
    """Whoever cancels it waits for the push under way: nothing is sent after that."""
    out = log.stream(Stream.STDOUT)
    sending, go_on, cancelled = threading.Event(), threading.Event(), threading.Event()

    def slow(chunk):
        sending.set()
        go_on.wait(20)
        assert not cancelled.is_set()
        return True

    reader = Reader(log, takes=slow)
    async with anyio.create_task_group() as group:
        group.start_soon(reader.run)
        await anyio.wait_all_tasks_blocked()
        writer = threading.Thread(target=out.append, args=(b"one\n",))
        writer.start()
        await anyio.to_thread.run_sync(sending.wait)
        reader.follower._lock = Announced(reader.follower._lock, go_on)
        group.cancel_scope.cancel()
    cancelled.set()
    writer.join()
    out.append(b"two\n")
    assert reader.text == b"one\n"
