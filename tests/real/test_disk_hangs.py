"""A disk that hangs (fsfreeze) holds up only who logs there, and loses and repeats nothing."""

import signal
import threading

import pytest

from tests.real.engine_process import EngineProcess
from tests.real.loop_disk import wait_until_stuck
from tests.real.test_broken_disk import follow_own_log

COUNT = ("seq", "1", "1000000000")
UNTIL_TOLD = "i=1; until [ -e /dev/shm/go ]; do echo $i; i=$((i+1)); done; echo $i; exit 7"


@pytest.fixture
def engine(disk, fresh_engine):
    """A supervisor whose end comes before the disk's."""
    return fresh_engine


@pytest.fixture
def engine_on_it(tmp_path, disk):
    """An engine whose whole root is on the disk."""
    made = EngineProcess(tmp_path / "engine", root=disk.path / "root").start()
    yield made
    made.close()


def begin(engine, container, lines=1000):
    """Start it, and wait for its first lines in the log."""
    assert engine.post(f"/containers/{container}/start").status == 204
    # All of them: it may have printed its first ones before anybody followed.
    follow(engine, container, lines, tail="all")


def follow(engine, container, lines, tail="0"):
    """Wait for so many more lines, or for so many lines by `tail="all"`."""
    path = f"/containers/{container}/logs?follow=1&stdout=1&tail={tail}"
    with engine.stream("GET", path) as answer:
        seen = 0
        while seen < lines:
            seen += answer.read1().count(b"\n")


def on(disk, engine, *command, **options):
    """A container whose directory, with its log and record, is on the disk."""
    container = engine.create(*command, **options)
    disk.hold(engine.root / "containers" / container)
    return container


def check_count(text):
    """Each number once and in order; the first may be rotated away, the last line may be cut."""
    numbers = text.split(b"\n")[:-1]
    first = int(numbers[0])
    assert numbers == [b"%d" % n for n in range(first, first + len(numbers))]
    return len(numbers)


def remove(disk, engine, container):
    disk.release(engine.root / "containers" / container)
    assert engine.delete(f"/containers/{container}?force=1").status == 204


def test_others_go_on(engine, disk):
    held = on(disk, engine, *COUNT)
    begin(engine, held)
    free = engine.run(*COUNT)
    with disk.frozen():
        wait_until_stuck(engine.process.pid)
        follow(engine, free, 1000)
        assert engine.result("sh", "-c", "echo hello; exit 3") == (3, "hello\n", "")
        assert len(engine.get("/containers/json").json) == 2
        assert engine.inspect(held)["State"]["Running"]
        assert engine.post(f"/containers/{free}/kill").status == 204
        check_count(engine.output(free)[0])
        # What is in its log already can be read.
        assert engine.output(held, "stdout=1&tail=2")[0].count(b"\n") == 2
    follow(engine, held, 1000)
    assert engine.post(f"/containers/{held}/kill").status == 204
    assert check_count(engine.output(held)[0]) > 1000
    remove(disk, engine, held)


def test_an_end_meanwhile_is_known_at_once_and_written_later(engine, disk):
    held = on(disk, engine, "sh", "-c", UNTIL_TOLD)
    begin(engine, held)
    pid = engine.inspect(held)["State"]["Pid"]
    with disk.frozen():
        wait_until_stuck(engine.process.pid)
        with open(f"/proc/{pid}/root/dev/shm/go", "w"):
            pass
        assert engine.wait(held) == 7
        told = engine.inspect(held)
        assert (told["State"]["Status"], told["State"]["ExitCode"]) == ("exited", 7)
        assert "disk has not" in told["LogState"]["Trouble"]
        # A new run waits for the end of the old one's log.
        answers = []
        starting = threading.Thread(
            target=lambda: answers.append(engine.post(f"/containers/{held}/start"))
        )
        starting.start()
        assert engine.get("/_ping").status == 200
    starting.join()
    assert answers[0].status == 204
    follow(engine, held, 10)
    engine.post(f"/containers/{held}/kill")
    first, again, second = engine.output(held)[0].partition(b"\n1\n")
    assert again
    check_count(first + b"\n")
    check_count(b"1\n" + second)
    assert engine.inspect(held)["LogState"] == {"DroppedBytes": 0, "Trouble": ""}
    remove(disk, engine, held)


def test_killed_while_a_write_hangs(engine, disk):
    held = on(disk, engine, *COUNT)
    begin(engine, held)
    with disk.frozen():
        wait_until_stuck(engine.process.pid)
        engine.process.kill()
    engine.process.wait()
    engine.start()
    follow(engine, held, 1000)
    engine.post(f"/containers/{held}/kill")
    assert check_count(engine.output(held)[0]) > 1000
    remove(disk, engine, held)


def test_ended_while_a_write_hangs(engine, disk):
    """It keeps its locks until the write is through: another supervisor would repeat it."""
    held = on(disk, engine, *COUNT)
    begin(engine, held)
    with disk.frozen():
        wait_until_stuck(engine.process.pid)
        engine.process.send_signal(signal.SIGTERM)
        follow_own_log(engine, "supervisor.waits_for_disk")
        with pytest.raises(RuntimeError, match="another supervisor"):
            EngineProcess(engine.base).start()
    assert engine.process.wait() == 0
    engine.start()
    engine.post(f"/containers/{held}/kill")
    check_count(engine.output(held)[0])
    remove(disk, engine, held)


def test_the_whole_root_hangs(engine_on_it, disk):
    engine = engine_on_it
    counting = engine.create(*COUNT)
    begin(engine, counting)
    idle = engine.run("sleep", "1000")
    made = engine.create("true")
    answers = {}

    def ask(name, request, *words):
        answers[name] = request(*words)

    with disk.frozen():
        wait_until_stuck(engine.process.pid)
        body = {"Image": "host", "Cmd": ["true"]}
        threads = [
            threading.Thread(target=ask, args=("create", engine.post, "/containers/create", body)),
            threading.Thread(target=ask, args=("kill", engine.post, f"/containers/{idle}/kill")),
        ]
        for thread in threads:
            thread.start()
        threads[1].join()
        assert answers["kill"].status == 204
        assert engine.inspect(idle)["State"]["ExitCode"] == 137
        assert {one["Id"] for one in engine.get("/containers/json").json} == {counting}
        threads.append(
            threading.Thread(target=ask, args=("remove", engine.delete, f"/containers/{made}"))
        )
        threads[-1].start()
        assert engine.inspect(made)["State"]["Status"] == "created"
    threads[0].join()
    threads[-1].join()
    assert answers["remove"].status == 204
    assert answers["create"].status == 201
    follow(engine, counting, 1000)
    engine.kill()
    engine.start()
    # What was not written then was written when the disk went on.
    assert engine.inspect(idle)["State"]["ExitCode"] == 137
    engine.post(f"/containers/{counting}/kill")
    check_count(engine.output(counting)[0])
