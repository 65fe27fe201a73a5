"""mode=non-blocking: who gives output never waits; the oldest is dropped, counted and told."""

import os
import re
import threading

import pytest

from logs import container_log, ring
from logs.drivers import Stream, open_log
from logs.marks import MarkFile
from logs.pump import Stage
from logs.reader import read
from runtime import kernel

ID = "ab" * 32
OPTIONS = {"mode": "non-blocking", "max-buffer-size": "64k", "max-size": "-1"}


@pytest.fixture(params=["json-file", "k8s-file"])
def log(request, tmp_path):
    made = open_log(request.param, tmp_path, ID, OPTIONS)
    yield made
    close(made)


def close(log):
    closed = threading.Event()
    log.close(closed.set)
    assert closed.wait(10)


def text(which, **options):
    return b"".join(read(which.path, which.driver, **options))


class Disk:
    """A disk that does not answer until it is told to."""

    def __init__(self, monkeypatch):
        self.answers = threading.Event()
        self.asked = threading.Event()
        real = os.writev

        def writev(fd, buffers):
            self.asked.set()
            assert self.answers.wait(10)
            return real(fd, buffers)

        monkeypatch.setattr(container_log.os, "writev", writev)


def test_all_is_there_at_the_close(log):
    out, err = log.stream(Stream.STDOUT), log.stream(Stream.STDERR)
    for number in range(1000):
        out.append(b"out %d\n" % number)
        err.append(b"err %d\n" % number)
    out.append(b"unfin")
    out.append(b"ished")
    close(log)
    assert log.closed
    assert log.dropped_bytes == 0
    expected = b"".join(b"out %d\n" % number for number in range(1000)) + b"unfinished"
    assert text(log, streams=[Stream.STDOUT]) == expected
    assert text(log, streams=[Stream.STDERR]).count(b"\n") == 1000
    with pytest.raises(ValueError, match="is closed"):
        out.append(b"more\n")


def test_a_disk_that_hangs_drops_the_oldest_and_tells(log, monkeypatch):
    disk = Disk(monkeypatch)
    out = log.stream(Stream.STDOUT)
    out.append(b"first\n")
    assert disk.asked.wait(10)
    for number in range(3000):
        out.append(b"line %04d %s\n" % (number, b"x" * 90))  # returns: nobody waits
    dropped = log.dropped_bytes
    assert 3000 * 100 - (64 << 10) - 200 < dropped < 3000 * 101
    disk.answers.set()
    close(log)
    shown = text(log)
    first, notice, rest = re.split(rb"\n(mdocker: .*)\n", shown)
    assert first == b"first"
    assert notice == (
        b"mdocker: %d bytes of stdout were lost here, because the log could only be written "
        b"too slowly" % dropped
    )
    numbers = [int(line.split()[1]) for line in rest.splitlines()]
    assert numbers == list(range(numbers[0], 3000))
    assert 500 < len(numbers) < 700
    assert log.dropped_bytes == dropped


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_is_shown_whole_or_not_at_all(log, monkeypatch, end):
    """Found by hand: the half line before a gap and the one behind it were joined to one."""
    disk = Disk(monkeypatch)
    out = log.stream(Stream.STDOUT)
    out.append(b"first\nfour hundred and ")
    assert disk.asked.wait(10)
    out.append(b"fifty\n" + b"x" * 65_000 + b"\ndropped" + end)  # its end, and half of a line
    out.append(b"half\n" + b"y" * 5_000 + b"\nlast\n")
    disk.answers.set()
    close(log)
    first, notice, rest = re.split(rb"\n(mdocker: .*)\n", text(log))
    assert first == b"first"
    shown = rest if end else b"half\n" + rest
    assert shown == b"half\n" + b"y" * 5_000 + b"\nlast\n"
    total = sum(map(len, (b"four hundred and fifty\n", b"x" * 65_000, b"\ndropped", end)))
    assert log.dropped_bytes == total + (0 if end else len(b"half\n"))
    assert notice.startswith(b"mdocker: %d bytes of stdout were lost here" % log.dropped_bytes)


def test_one_batch_larger_than_the_ring_is_kept(log, monkeypatch):
    disk = Disk(monkeypatch)
    out = log.stream(Stream.STDOUT)
    out.append(b"first\n")
    assert disk.asked.wait(10)
    out.append(b"y" * 99_999 + b"\n")
    disk.answers.set()
    close(log)
    assert text(log) == b"first\n" + b"y" * 99_999 + b"\n"


def test_leaving_waits_for_the_disk_but_not_for_ever(log, tmp_path, monkeypatch):
    monkeypatch.setattr(ring, "LEAVE_S", 0.01)
    marks = MarkFile(tmp_path / "marks")
    log.slot = marks.claim(ID, 0, log.file.inode)
    out = log.stream(Stream.STDOUT)
    out.append(b"zero\n")
    while log.size == 0:
        threading.Event().wait(0.001)
    marked = log.slot.read()
    disk = Disk(monkeypatch)
    out.append(b"first\n")
    assert disk.asked.wait(10)
    out.append(b"second\n")
    log.detach()
    assert log.closed
    assert log.dropped_bytes == len(b"second\n")
    disk.answers.set()
    for thread in threading.enumerate():
        if thread.name == "log-ring":
            thread.join(10)
    assert text(log) == b"zero\nfirst\n"
    assert marks.find(ID).read() == marked
    marks.close()


def test_leaving_what_is_being_closed_changes_nothing(log, monkeypatch):
    disk = Disk(monkeypatch)
    out = log.stream(Stream.STDOUT)
    out.append(b"first\n")
    assert disk.asked.wait(10)
    out.append(b"second\n")
    closed = threading.Event()
    log.close(closed.set)
    log.detach()
    assert not log.closed
    disk.answers.set()
    assert closed.wait(10)
    assert log.closed
    assert text(log) == b"first\nsecond\n"


def test_leaving_a_disk_that_answers_loses_nothing(log):
    out = log.stream(Stream.STDOUT)
    for number in range(1000):
        out.append(b"line %d\n" % number)
    log.detach()
    assert text(log) == b"".join(b"line %d\n" % number for number in range(1000))


def test_without_a_thread_it_waits_for_the_disk(log, monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    log.stream(Stream.STDOUT).append(b"one\n")
    log.stream(Stream.STDOUT).append(b"two\n")
    monkeypatch.undo()
    assert text(log) == b"one\ntwo\n"


def test_its_marks_are_those_of_what_is_written(log, tmp_path):
    """Killed when all is written: the next process goes on behind it, half a line included."""
    marks = MarkFile(tmp_path / "marks")
    stage = Stage(marks, kernel.tee)
    source, end = os.pipe2(os.O_CLOEXEC)
    os.write(end, b"one\ntw")
    stage.pump(source, log.stream(Stream.STDOUT))
    log.detach()
    held = tuple(map(os.dup, stage.fds))
    stage.close()
    marks.close()

    marks = MarkFile(tmp_path / "marks")
    stage = Stage(marks, kernel.tee, fds=held)
    again = open_log(log.driver, tmp_path, ID, OPTIONS)
    stage.recover({ID: again}.get)
    os.write(end, b"o\nthree\n")
    stage.pump(source, again.stream(Stream.STDOUT))
    close(again)
    assert text(again) == b"one\ntwo\nthree\n"
    stage.close()
    marks.close()
    os.close(source)
    os.close(end)
