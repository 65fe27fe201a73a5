"""Output on its way to the log: the loop's stage, and a thread of its own once the log is slow."""

import os

import anyio
import pytest

from logs.drivers import Stream, open_log
from logs.follow import follow
from logs.marks import MarkFile
from logs.reader import read
from supervisor import pumping
from supervisor.pumping import Lane, Stages, pump

pytestmark = pytest.mark.anyio
ID = "ab" * 32


async def held_by_nobody(name, descriptors):
    """There is no shim."""


@pytest.fixture
def stages(tmp_path):
    marks = MarkFile(tmp_path / "marks")
    made = Stages(marks, held_by_nobody)
    yield made
    made.main.close()
    marks.close()


@pytest.fixture
def log(tmp_path):
    made = open_log("json-file", tmp_path, ID)
    yield made
    made.close()


def pipe():
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reading, False)
    return reading, writing


@pytest.fixture(params=[False, True], ids=["loop", "thread"])
def slow(request, monkeypatch):
    if request.param:
        monkeypatch.setattr(pumping, "SLOW_WRITE_S", -1.0)
    return request.param


async def test_both_streams_reach_log_and_attachments_in_order(stages, log, slow):
    lane, fed = Lane(stages, anyio.CapacityLimiter(2)), []
    spare = len(stages._free)
    feeds = [lambda number, data: fed.append((number, data))]
    texts = {
        Stream.STDOUT: b"".join(b"out %d\n" % n for n in range(30_000)),
        Stream.STDERR: b"".join(b"err %d\n" % n for n in range(30_000)),
    }
    seen = []

    async def write(end, text):
        while text:
            text = text[await anyio.to_thread.run_sync(os.write, end, text[:50_000]) :]
        os.close(end)

    async def watch():
        seen.extend([piece async for piece in follow(log)])

    async def move(source, stream):
        await pump(lane, source, log.stream(stream), feeds)
        os.close(source)

    async with anyio.create_task_group() as watchers:
        watchers.start_soon(watch)
        async with anyio.create_task_group() as tasks:
            for stream, text in texts.items():
                reading, writing = pipe()
                tasks.start_soon(write, writing, text)
                tasks.start_soon(move, reading, stream)
        assert (lane._own is not None) == slow
        await lane.close()
        log.close()
    assert len(stages._free) == spare
    for stream, text in texts.items():
        logged = b"".join(read(log.path, "json-file", streams={stream}))
        assert logged == text
        assert b"".join(data for number, data in fed if number == stream) == text
    assert len(b"".join(seen)) == sum(map(len, texts.values()))


async def test_when_all_spare_stages_are_taken_a_slow_log_stays_in_the_loop(
    stages, log, monkeypatch
):
    monkeypatch.setattr(pumping, "SLOW_WRITE_S", -1.0)
    stages._free.clear()
    lane = Lane(stages, anyio.CapacityLimiter(1))
    reading, writing = pipe()
    os.write(writing, b"one\n")
    assert await lane.move(reading, log.stream(Stream.STDOUT)) == b"one\n"
    os.write(writing, b"two\n")
    assert await lane.move(reading, log.stream(Stream.STDOUT)) == b"two\n"
    with pytest.raises(BlockingIOError):
        await lane.move(reading, log.stream(Stream.STDOUT))
    os.close(writing)
    assert await lane.move(reading, log.stream(Stream.STDOUT)) == b""
    os.close(reading)
    await lane.close()


async def test_batches_of_a_killed_supervisors_threads_are_finished(tmp_path, log):
    """A thread's staging pipe is held by the shim like the main one, and recovered like it."""
    shim = {}

    async def hold(name, descriptors):
        for descriptor in shim.pop(name, ()):
            os.close(descriptor)
        if descriptors:
            shim[name] = tuple(os.dup(descriptor) for descriptor in descriptors)

    marks = MarkFile(tmp_path / "marks")
    dead = Stages(marks, hold)
    number, stage = await dead.take()
    reading, writing = pipe()
    os.write(writing, b"marked\n")
    stage.pump(reading, log.stream(Stream.STDOUT))
    # Killed after step 1: the batch is noted and in staging, and in no log.
    os.write(writing, b"not yet\n")
    marks.begin(number, log.slot, Stream.STDOUT)
    os.splice(reading, stage.fds[1], 100)
    log.detach()
    stage.close()
    dead.main.close()
    marks.close()

    found, marks = dict(shim), MarkFile(tmp_path / "marks")
    again = open_log("json-file", tmp_path, ID)
    shim.clear()
    living = Stages(marks, hold, found)
    told = await living.recover({ID: again}.get)
    assert sum(one.written_bytes for one in told) == len(b"not yet\n")
    again.close()
    assert b"".join(read(again.path, "json-file")) == b"marked\nnot yet\n"
    assert list(shim) == ["stage-0"]
    await hold("stage-0", ())
    living.main.close()
    marks.close()
    os.close(reading)
    os.close(writing)
