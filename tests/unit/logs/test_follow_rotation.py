"""Followers over rotations: each byte once, however far they lag; and what that may cost."""

import contextlib
import os
import threading

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from logs import background, waiting_files
from logs.drivers import Stream, open_log
from logs.follow import follow
from logs.framing import Demultiplexer

pytestmark = pytest.mark.anyio
ID = "ab" * 32


@pytest.fixture(autouse=True)
def nothing_in_the_background():
    yield
    background.join()


@pytest.fixture(params=["json-file", "k8s-file"])
def driver(request):
    return request.param


OPTIONS = [
    {"max-size": "2k"},
    {"max-size": "2k", "max-file": "2"},
    {"max-size": "2k", "max-file": "4", "compress": "true"},
]


@pytest.fixture(params=OPTIONS, ids=["one", "two", "compressed"])
def log(request, driver, tmp_path):
    made = open_log(driver, tmp_path, ID, request.param)
    yield made
    made.close()


def lines(first, last):
    return b"".join(b"line %d\n" % number for number in range(first, last))


async def rest(follower):
    return b"".join([chunk async for chunk in follower])


def held_below(directory):
    """Bytes of files that this process has open, deleted ones above all."""
    total = 0
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{fd}").startswith(str(directory)):
                total += os.fstat(fd).st_size
    return total


def descriptors():
    return len(os.listdir("/proc/self/fd"))


async def test_one_that_lags_many_rotations_behind(log):
    out = log.stream(Stream.STDOUT)
    follower = follow(log)
    for number in range(500):
        out.append(b"line %d\n" % number)
    assert log.rotations > 10
    log.close()
    assert await rest(follower) == lines(0, 500)


async def test_one_that_keeps_pace(log):
    out = log.stream(Stream.STDOUT)
    follower = follow(log)
    got = b""
    for number in range(0, 300, 3):
        out.append(lines(number, number + 3))
        while len(got) < len(lines(0, number + 3)):
            got += await anext(follower)
    log.close()
    assert got + await rest(follower) == lines(0, 300)


async def test_one_that_waits_while_the_file_is_rotated_away(log):
    """The rotation itself wakes it, and so does what is written to the next file."""
    out = log.stream(Stream.STDOUT)
    follower = follow(log, tail=0)
    got = []
    async with anyio.create_task_group() as group:

        async def take():
            async for chunk in follower:
                got.append(chunk)

        group.start_soon(take)
        for number in range(100):
            await anyio.wait_all_tasks_blocked()
            out.append(b"line %d\n" % number)
        await anyio.wait_all_tasks_blocked()
        log.close()
    assert b"".join(got) == lines(0, 100)


async def test_history_of_rotated_files_comes_first(tmp_path, driver):
    options = {"max-size": "2k", "max-file": "30", "compress": "true"}
    log = open_log(driver, tmp_path, ID, options)
    log.stream(Stream.STDOUT).append(lines(0, 200))
    background.join()
    assert any(name.endswith(".gz") for name in os.listdir(tmp_path))
    whole, last = follow(log), follow(log, tail=70)
    log.stream(Stream.STDOUT).append(lines(200, 400))
    log.close()
    assert await rest(whole) == lines(0, 400)
    assert await rest(last) == lines(130, 400)


async def test_writer_in_another_thread(log):
    """At full speed, both of them: the follower sees each file change at any moment."""
    log.deliver = anyio.from_thread.run_sync
    follower = follow(log)
    out = log.stream(Stream.STDOUT)
    got = []

    def write():
        for number in range(0, 6000, 5):
            out.append(lines(number, number + 5))
        log.close()

    async with anyio.create_task_group() as group:

        async def take():
            async for chunk in follower:
                got.append(chunk)

        group.start_soon(take)
        await anyio.to_thread.run_sync(write)
    assert b"".join(got) == lines(0, 6000)


async def test_nobody_left_behind_holds_anything(log):
    before = descriptors()
    follower = follow(log)
    log.stream(Stream.STDOUT).append(lines(0, 500))
    assert descriptors() > before
    del follower
    background.join()
    # The newest file is the log's own.
    assert descriptors() <= before


async def test_many_small_files_are_kept_in_memory(tmp_path, driver, monkeypatch):
    monkeypatch.setattr(waiting_files, "MOST_FILES", 3)
    log = open_log(driver, tmp_path, ID, {"max-size": "2k"})
    before = descriptors()
    slow, slower = follow(log), follow(log)
    log.stream(Stream.STDOUT).append(lines(0, 100))
    part = await anext(slow)
    log.stream(Stream.STDOUT).append(lines(100, 2000))
    background.join()
    assert log.rotations > 40
    assert descriptors() < before + 3 + 5
    log.close()
    assert part + await rest(slow) == lines(0, 2000)
    assert await rest(slower) == lines(0, 2000)


@pytest.mark.parametrize("framed", [False, True])
async def test_what_is_too_much_is_let_go_of_and_told(tmp_path, driver, monkeypatch, framed):
    monkeypatch.setattr(waiting_files, "MOST_FILES", 3)
    monkeypatch.setattr(waiting_files, "MOST_REMEMBERED", 10_000)
    log = open_log(driver, tmp_path, ID, {"max-size": "2k"})
    before = descriptors()
    stuck = follow(log, framed=framed)
    last = follow(log, framed=framed, streams=[Stream.STDOUT])
    for number in range(2000):
        log.stream(Stream.STDOUT).append(b"line %d\n" % number)
    background.join()
    assert descriptors() < before + 3 + 5
    log.close()
    for follower, notice_in in ((stuck, Stream.STDERR), (last, Stream.STDOUT)):
        text = await rest(follower)
        if framed:
            frames = list(Demultiplexer().feed(text))
            (told,) = [part for stream, part in frames if b"were missed here" in part]
            assert notice_in in [stream for stream, part in frames if part == told]
            text = b"".join(part for _, part in frames)
        first, _, behind = text.partition(b"mdocker: ")
        missed, _, behind = behind.partition(b" bytes of the log were missed here")
        behind = behind.partition(b"\n")[2]
        assert first and lines(0, 2000).startswith(first)
        assert behind and lines(0, 2000).endswith(behind)
        assert len(first) + len(behind) < len(lines(0, 2000)) - 5000
        assert int(missed) > 5000
        assert b"mdocker" not in behind


async def test_bytes_on_disk_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting_files, "MOST_BYTES", 20_000)
    monkeypatch.setattr(waiting_files, "SMALL", 0)
    log = open_log("json-file", tmp_path, ID, {"max-size": "2k"})
    stuck = follow(log)
    for number in range(2000):
        log.stream(Stream.STDOUT).append(b"line %d\n" % number)
    background.join()
    held = held_below(tmp_path)
    assert 10_000 < held < 20_000 + 3 * 2200
    log.close()
    text = await rest(stuck)
    assert text.count(b"were missed here") == 1
    assert text.endswith(b"line 1999\n")


async def test_a_file_that_was_rotated_and_then_cut(tmp_path):
    """Somebody truncates NAME.1 while a follower reads it: it goes on in the next."""
    log = open_log("json-file", tmp_path, ID, {"max-size": "2k", "max-file": "3"})
    out = log.stream(Stream.STDOUT)
    follower = follow(log)
    out.append(lines(0, 30))
    os.truncate(f"{log.path}.1", 0)
    out.append(lines(30, 40))
    log.close()
    assert lines(0, 40).endswith(await rest(follower))


async def test_threads_are_none_while_nothing_is_rotated(tmp_path):
    log = open_log("json-file", tmp_path, ID)
    log.stream(Stream.STDOUT).append(lines(0, 100))
    assert not [one for one in threading.enumerate() if one.name == "log-files"]
    log.close()
