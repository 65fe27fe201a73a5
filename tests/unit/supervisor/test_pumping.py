"""Output on its way to the log: by the thread of the log's file system."""

import os
import threading

import anyio
import anyio.to_thread
import pytest

from logs.drivers import Stream, open_log
from logs.follow import follow
from logs.marks import MarkFile
from logs.reader import read
from supervisor.attachments import Attachment
from supervisor.pumping import Stages

pytestmark = pytest.mark.anyio
ID = "ab" * 32
OTHER = "cd" * 32


async def held_by_nobody(name, descriptors):
    """There is no shim."""


@pytest.fixture
async def stages(tmp_path):
    marks = MarkFile(tmp_path / "marks")
    made = Stages(marks, held_by_nobody)
    yield made
    assert made.close()
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


def pump_threads():
    return [one for one in threading.enumerate() if one.name.startswith("pump-")]


class HangingDisk:
    """Holds up the writes of one log until it is let go, as a frozen file system does."""

    def __init__(self, log, monkeypatch):
        self.entered = threading.Event()
        self._thawed = threading.Event()
        write = type(log).write

        def hang(which, *given, **more):
            if which is log:
                self.entered.set()
                self._thawed.wait()
            return write(which, *given, **more)

        monkeypatch.setattr(type(log), "write", hang)

    def thaw(self):
        self._thawed.set()

    async def until_entered(self):
        await anyio.to_thread.run_sync(self.entered.wait)


async def test_both_streams_reach_log_followers_and_attachments_in_order(stages, log, tmp_path):
    attachment = Attachment(tmp_path, frozenset({1, 2}), stages.mailbox.post)
    lane = await stages.lane(log, [attachment.feed])
    texts = {
        Stream.STDOUT: b"".join(b"out %d\n" % n for n in range(30_000)),
        Stream.STDERR: b"".join(b"err %d\n" % n for n in range(30_000)),
    }
    seen, fed = [], []

    async def write(end, text):
        while text:
            text = text[await anyio.to_thread.run_sync(os.write, end, text[:50_000]) :]
        os.close(end)

    async def watch():
        seen.extend([piece async for piece in follow(log)])

    async def attached():
        fed.extend([piece async for piece in attachment])

    async with anyio.create_task_group() as watchers:
        watchers.start_soon(watch)
        watchers.start_soon(attached)
        ends = []
        async with anyio.create_task_group() as tasks:
            for stream, text in texts.items():
                reading, writing = pipe()
                ends.append(reading)
                tasks.start_soon(write, writing, text)
                tasks.start_soon(lane.pump, reading, log.stream(stream))
        assert await lane.close(5)
        attachment.end()
    for end in ends:
        os.close(end)
    attachment.close()
    assert log.closed
    for stream, text in texts.items():
        logged = b"".join(read(log.path, "json-file", streams={stream}))
        assert logged == text
        assert b"".join(data for number, data in fed if number == stream) == text
    assert len(b"".join(seen)) == sum(map(len, texts.values()))


async def test_a_close_takes_what_the_pipe_holds_though_it_is_open(stages, log):
    """A grandchild outside of the container may hold the pipe for ever."""
    lane = await stages.lane(log, [])
    reading, writing = pipe()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lane.pump, reading, log.stream(Stream.STDOUT))
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    os.write(writing, b"late")
    assert await lane.close(5)
    assert b"".join(read(log.path, "json-file")) == b"late"
    os.close(reading)
    os.close(writing)


async def test_a_log_that_hangs_holds_up_its_own_file_system_only(
    stages, log, tmp_path, monkeypatch
):
    with_none = open_log("none", tmp_path, OTHER)
    fed = []
    held = await stages.lane(log, [])
    free = await stages.lane(with_none, [lambda number, data: fed.append(data)])
    disk = HangingDisk(log, monkeypatch)
    ends = [pipe(), pipe()]
    os.write(ends[0][1], b"held\n")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(held.pump, ends[0][0], log.stream(Stream.STDOUT))
        await disk.until_entered()
        os.write(ends[1][1], b"free\n")
        os.close(ends[1][1])
        await free.pump(ends[1][0], with_none.stream(Stream.STDOUT))
        assert fed == [b"free\n"]
        assert await free.close(5)
        tasks.cancel_scope.cancel()
    # Its container ends; nobody waits for the disk, but a new run does.
    assert not await held.close(0.01)
    assert stages.is_unsettled(ID)
    assert not stages.close(0.01)
    closed = []
    held.leave(lambda: closed.append(True))
    disk.thaw()
    await stages.settled(ID)
    assert stages.close(5)
    assert closed == [True]
    assert b"".join(read(log.path, "json-file")) == b"held\n"
    for fd in (ends[0][0], ends[0][1], ends[1][0]):
        os.close(fd)


async def test_where_no_thread_can_be_made_the_first_serves_them_all(
    stages, log, tmp_path, monkeypatch
):
    await stages.lane(log, [])
    stages._free.clear()
    other = open_log("none", tmp_path, OTHER)
    lane, fed = await stages.lane(other, [lambda number, data: fed.append(data)]), []
    assert len(pump_threads()) == 1
    reading, writing = pipe()
    os.write(writing, b"one\n")
    os.close(writing)
    await lane.pump(reading, other.stream(Stream.STDOUT))
    assert fed == [b"one\n"]
    assert await lane.close(5)
    os.close(reading)


async def test_what_is_no_pipe_is_told(stages, log, tmp_path):
    lane = await stages.lane(log, [])
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    with pytest.raises(PermissionError):  # epoll takes no plain file
        await lane.pump(file, log.stream(Stream.STDOUT))
    os.close(file)
    assert await lane.close(5)


async def test_a_closed_set_of_stages_leaves_no_thread_and_no_descriptor(tmp_path, log):
    before = sorted(os.listdir("/proc/self/fd"))
    marks = MarkFile(tmp_path / "marks")
    made = Stages(marks, held_by_nobody)
    await made.lane(log, [])
    assert made.close()
    marks.close()
    assert pump_threads() == []
    assert sorted(os.listdir("/proc/self/fd")) == before


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
    no_log = open_log("none", tmp_path, OTHER)
    await dead.lane(no_log, [])
    await dead.lane(log, [])
    (stage,) = [thread.stage for thread in dead._threads.values() if thread.number]
    reading, writing = pipe()
    os.write(writing, b"marked\n")
    stage.pump(reading, log.stream(Stream.STDOUT))
    # Killed after step 1: the batch is noted and in staging, and in no log.
    os.write(writing, b"not yet\n")
    marks.begin(stage._number, log.slot, Stream.STDOUT)
    os.splice(reading, stage.fds[1], 100)
    log.detach()
    dead.close()
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
    living.close()
    marks.close()
    os.close(reading)
    os.close(writing)
