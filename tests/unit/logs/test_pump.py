"""The staged pump: real pipes, real files, and a crash after every step."""

import errno
import fcntl
import gc
import os
import resource
import subprocess
import sys

import pytest

from logs import container_log, log_stream, pump
from logs.drivers import Stream, open_log
from logs.lines import PIECE
from logs.marks import NO_LOSS, Slot
from logs.pump import MarkFile, Stage
from logs.reader import read
from runtime import kernel

ID, OTHER = "ab" * 32, "cd" * 32


@pytest.fixture
def marks(tmp_path):
    made = MarkFile(tmp_path / "marks")
    yield made
    made.close()


@pytest.fixture
def stage(marks):
    made = Stage(marks, kernel.tee)
    yield made
    made.close()


@pytest.fixture(params=["json-file", "k8s-file"])
def driver(request):
    return request.param


@pytest.fixture
def pipe():
    ends = os.pipe2(os.O_CLOEXEC)
    yield ends
    for end in ends:
        os.close(end)


def text(which, **options):
    return b"".join(read(which.path, which.driver, **options))


def staged(stage):
    """How many bytes are in staging."""
    return stage._waiting()


def test_moves_a_batch(stage, driver, pipe, tmp_path):
    log = open_log(driver, tmp_path, ID)
    os.write(pipe[1], b"one\ntwo\nthr")
    assert stage.pump(pipe[0], log.stream(Stream.STDOUT)) == b"one\ntwo\nthr"
    assert text(log) == b"one\ntwo\n"
    assert staged(stage) == 0
    with pytest.raises(BlockingIOError):
        stage.pump(pipe[0], log.stream(Stream.STDOUT))
    log.close()
    assert text(log) == b"one\ntwo\nthr"


def test_end_of_input(stage, tmp_path):
    reading, writing = os.pipe()
    os.close(writing)
    log = open_log("json-file", tmp_path, ID)
    assert stage.pump(reading, log.stream(Stream.STDOUT)) == b""
    os.close(reading)
    log.close()


def test_driver_none_drains_and_tells(stage, pipe, tmp_path):
    log = open_log("none", tmp_path, ID)
    os.write(pipe[1], b"one\ntwo")
    assert stage.pump(pipe[0], log.stream(Stream.STDOUT)) == b"one\ntwo"
    with pytest.raises(BlockingIOError):
        stage.pump(pipe[0], log.stream(Stream.STDOUT))
    log.close()


def test_pipe_grows_only_when_it_was_full(stage, pipe, tmp_path):
    log = open_log("json-file", tmp_path, ID)
    default = fcntl.fcntl(pipe[0], fcntl.F_GETPIPE_SZ)
    os.write(pipe[1], b"x\n" * 100)
    stage.pump(pipe[0], log.stream(Stream.STDOUT))
    assert fcntl.fcntl(pipe[0], fcntl.F_GETPIPE_SZ) == default
    os.write(pipe[1], b"x\n" * (default // 2))
    stage.pump(pipe[0], log.stream(Stream.STDOUT))
    assert fcntl.fcntl(pipe[0], fcntl.F_GETPIPE_SZ) == pump.PIPE_SIZE
    log.close()


def test_pipe_that_must_not_grow_stays(stage, pipe, tmp_path, monkeypatch):
    log = open_log("json-file", tmp_path, ID)
    real = fcntl.fcntl

    def refuse(fd, command, argument=0):
        if command == fcntl.F_SETPIPE_SZ:
            raise PermissionError(errno.EPERM, "no")
        return real(fd, command, argument)

    monkeypatch.setattr(pump.fcntl, "fcntl", refuse)
    data = b"x\n" * (real(pipe[0], fcntl.F_GETPIPE_SZ) // 2)
    for _ in range(2):
        os.write(pipe[1], data)
        assert stage.pump(pipe[0], log.stream(Stream.STDOUT)) == data
    log.close()


def test_idle_log_takes_no_slot(stage, marks, pipe, tmp_path):
    log = open_log("json-file", tmp_path, ID)
    log.stream(Stream.STDOUT)
    assert marks.slots() == []
    os.write(pipe[1], b"x")
    stage.pump(pipe[0], log.stream(Stream.STDOUT))
    assert [slot.container_id for slot in marks.slots()] == [ID]
    log.close()
    assert marks.slots() == []


class Crash(BaseException):
    """The process dies here."""


def crash(*_arguments, **_keywords):
    raise Crash


def refuse(*_arguments):
    raise OSError(errno.ENOSPC, "no space left on device")


def crashing(monkeypatch, step):
    """Let the pump die just before (or in the middle of) a step."""

    real_write, real_splice = os.writev, os.splice
    if step == "copy":
        monkeypatch.setattr(Stage, "_copy", crash)
    elif step == "copied":
        monkeypatch.setattr(pump, "_read", crash)
    elif step == "write":
        monkeypatch.setattr(container_log.os, "writev", crash)
    elif step == "write torn":

        def torn(fd, parts):
            real_write(fd, [b"".join(parts)[:25]])
            raise Crash

        monkeypatch.setattr(container_log.os, "writev", torn)
    elif step == "mark":
        monkeypatch.setattr(log_stream.LogStream, "_mark", crash)
    elif step == "drain":
        monkeypatch.setattr(Stage, "_drain", crash)
    elif step == "drain half":

        def half(self, size):
            real_splice(self._in, self._null, size // 2)
            raise Crash

        monkeypatch.setattr(Stage, "_drain", half)


STEPS = ["copy", "copied", "write", "write torn", "mark", "drain", "drain half"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("first", [b"", b"one\ntwo\nthr", b"y" * 20_000])
def test_crash_at_every_step(marks, driver, pipe, tmp_path, monkeypatch, step, first):
    stage = Stage(marks, kernel.tee)
    log = open_log(driver, tmp_path, ID)
    if first:
        os.write(pipe[1], first)
        stage.pump(pipe[0], log.stream(Stream.STDERR))
    second = b"ee\nfour\nfi"
    os.write(pipe[1], second)
    with monkeypatch.context() as patch:
        crashing(patch, step)
        with pytest.raises(Crash):
            stage.pump(pipe[0], log.stream(Stream.STDERR))
    held = tuple(map(os.dup, stage.fds))  # the shim's duplicates
    stage.close()
    log.detach()

    marks_again = MarkFile(tmp_path / "marks")
    stage_again = Stage(marks_again, kernel.tee, fds=held)
    logs = {ID: open_log(driver, tmp_path, ID)}
    found = stage_again.recover(logs.get)
    assert found.logs == 1
    already = step.startswith("drain")
    assert (found.drained_bytes > 0, found.written_bytes > 0) == (already, not already)
    assert staged(stage_again) == 0
    os.write(pipe[1], b"ve\nsix")
    assert stage_again.pump(pipe[0], logs[ID].stream(Stream.STDERR)) == b"ve\nsix"
    logs[ID].close()
    assert text(logs[ID], streams=[Stream.STDERR]) == first + second + b"ve\nsix"
    stage_again.close()
    marks_again.close()


@pytest.mark.parametrize("step", STEPS)
def test_exception_at_every_step_is_made_good_by_the_next_batch(
    stage, driver, pipe, tmp_path, monkeypatch, step
):
    """An interrupt or a lack of memory, in a process that lives on."""
    (tmp_path / "other").mkdir()
    log, other = open_log(driver, tmp_path, ID), open_log(driver, tmp_path / "other", OTHER)
    os.write(pipe[1], b"one\ntw")
    stage.pump(pipe[0], log.stream(Stream.STDOUT))
    os.write(pipe[1], b"o\nthree")
    with monkeypatch.context() as patch:
        crashing(patch, step)
        with pytest.raises(Crash):
            stage.pump(pipe[0], log.stream(Stream.STDOUT))
    for line in (b"other\n", b"and another\n"):
        os.write(pipe[1], line)
        stage.pump(pipe[0], other.stream(Stream.STDOUT))
    log.close()
    other.close()
    assert text(log) == b"one\ntwo\nthree"
    assert text(other) == b"other\nand another\n"


@pytest.mark.parametrize("name", ["json-file", "none"])
def test_a_payload_that_makes_packets_of_its_output(stage, pipe, tmp_path, name):
    """O_DIRECT of pipe(2), by fcntl(2): a read gives one packet, however much waits."""
    (tmp_path / "other").mkdir()
    log, other = open_log(name, tmp_path, ID), open_log("json-file", tmp_path / "other", OTHER)
    fcntl.fcntl(pipe[1], fcntl.F_SETFL, os.O_WRONLY | os.O_DIRECT)
    packets = [b"packet %d\n" % number for number in range(10)]
    for packet in packets:
        os.write(pipe[1], packet)
    assert stage.pump(pipe[0], log.stream(Stream.STDOUT)) == b"".join(packets)
    assert staged(stage) == 0
    fcntl.fcntl(pipe[1], fcntl.F_SETFL, os.O_WRONLY)
    os.write(pipe[1], b"other\n")
    assert stage.pump(pipe[0], other.stream(Stream.STDOUT)) == b"other\n"
    log.close()
    other.close()
    assert text(other) == b"other\n"
    if name != "none":
        assert text(log) == b"".join(packets)


def test_recover_without_the_container(marks, pipe, tmp_path, monkeypatch):
    stage = Stage(marks, kernel.tee)
    log = open_log("json-file", tmp_path, ID)
    os.write(pipe[1], b"one\n")
    with monkeypatch.context() as patch:
        crashing(patch, "write")
        with pytest.raises(Crash):
            stage.pump(pipe[0], log.stream(Stream.STDOUT))
    again = Stage(marks, kernel.tee, fds=tuple(map(os.dup, stage.fds)))
    stage.close()
    assert again.recover(lambda _: None).drained_bytes == 4
    assert marks.slots() == []
    again.close()


@pytest.mark.parametrize("case", ["driver none", "no room for a slot"])
def test_batch_without_a_mark_goes_into_nobody_else_s_log(marks, pipe, tmp_path, monkeypatch, case):
    """The note in the mark file is then an older one, of another container."""
    stage = Stage(marks, kernel.tee)
    log = open_log("json-file", tmp_path, ID)
    os.write(pipe[1], b"one\n")
    stage.pump(pipe[0], log.stream(Stream.STDOUT))
    log.stream(Stream.STDOUT).append(b"two\n", batch=99)  # so that its last batch isn't the note's
    (tmp_path / "other").mkdir()
    driver = "none" if case == "driver none" else "json-file"
    other = open_log(driver, tmp_path / "other", OTHER)
    os.write(pipe[1], b"other\n")
    with monkeypatch.context() as patch:
        if case == "driver none":
            patch.setattr(pump.os, "read", crash)
        else:
            patch.setattr(marks, "claim", refuse)
            patch.setattr(Stage, "_copy", crash)
        with pytest.raises(Crash):
            stage.pump(pipe[0], other.stream(Stream.STDOUT))
    again = Stage(marks, kernel.tee, fds=tuple(map(os.dup, stage.fds)))
    assert again.recover({ID: log, OTHER: other}.get).drained_bytes == 6
    assert text(log) == b"one\ntwo\n"
    for one in (log, other, stage, again):
        one.close()


def test_recover_of_nothing(stage):
    assert stage.recover(lambda _: None) == pump.Recovered()


def test_readers_see_nothing_that_is_not_marked(marks, pipe, driver, tmp_path, monkeypatch):
    """After a kill it would be written anew: with another time, so perhaps another length."""
    stage = Stage(marks, kernel.tee)
    log = open_log(driver, tmp_path, ID)
    os.write(pipe[1], b"one\n")
    stage.pump(pipe[0], log.stream(Stream.STDOUT))
    seen, size = [], log.size
    real = Slot.write

    def write(self, *mark):
        seen.append((log.size, text(log, log=log)))
        real(self, *mark)

    monkeypatch.setattr(Slot, "write", write)
    os.write(pipe[1], b"two\n")
    stage.pump(pipe[0], log.stream(Stream.STDOUT))
    assert seen == [(size, b"one\n")]
    assert text(log, log=log) == b"one\ntwo\n"
    log.close()
    stage.close()


def test_log_cut_by_somebody_after_its_mark(marks, pipe, tmp_path):
    stage = Stage(marks, kernel.tee)
    log = open_log("json-file", tmp_path, ID)
    os.write(pipe[1], b"one\n" * 50)
    stage.pump(pipe[0], log.stream(Stream.STDOUT))
    log.detach()
    os.truncate(log.path, 0)
    again = open_log("json-file", tmp_path, ID)
    assert stage.recover({ID: again}.get).cut_bytes == 0
    again.stream(Stream.STDOUT).append(b"two\n")
    again.close()
    assert text(again) == b"two\n"
    stage.close()


@pytest.mark.parametrize(
    ("driver", "mode"),
    [
        ("json-file", "whole"),
        ("k8s-file", "whole"),
        ("json-file", "rotated"),
        ("k8s-file", "rotated"),
        ("json-file", "compressed"),
    ],
)
def test_killed_at_random_moments_under_full_load(tmp_path, driver, mode):
    """Some dozens of kill -9; each numbered line is there once and in order, in both streams."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.unit.logs.kill_pump", str(tmp_path), driver, mode],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


class TestWriteFails:
    @pytest.fixture
    def broken(self, monkeypatch):
        """Writes to logs fail after some bytes, for as long as the list has an error in it."""
        errors = []
        real_writev, real_write = os.writev, os.write

        def writev(fd, parts):
            return real_write(fd, b"".join(parts)[:30]) if errors else real_writev(fd, parts)

        def write(fd, data):
            if errors and isinstance(data, memoryview):
                raise OSError(errors[0], os.strerror(errors[0]))
            return real_write(fd, data)

        monkeypatch.setattr(container_log.os, "writev", writev)
        monkeypatch.setattr(container_log.os, "write", write)
        return errors

    def test_of_a_real_file_that_must_not_grow(self, stage, driver, pipe, tmp_path):
        log = open_log(driver, tmp_path, ID)
        stream = log.stream(Stream.STDOUT)
        os.write(pipe[1], b"kept\n")
        stage.pump(pipe[0], stream)
        size = log.size
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limits[1]))
        try:
            os.write(pipe[1], b"lost\n" * 10)
            stage.pump(pipe[0], stream)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert (log.size, os.stat(log.path).st_size, log.dropped_bytes) == (size, size, 50)
        assert log.trouble.errno == errno.EFBIG
        log.close()

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG])
    def test_drains_counts_and_tells(self, stage, driver, pipe, tmp_path, broken, number):
        log = open_log(driver, tmp_path, ID)
        told = []
        log.on_trouble = lambda which: told.append(which.trouble)
        stream = log.stream(Stream.STDOUT)
        os.write(pipe[1], b"kept\nheld ")
        stage.pump(pipe[0], stream)
        size = log.size
        broken.append(number)
        for _ in range(3):
            os.write(pipe[1], b"lost\nheld ")
            assert stage.pump(pipe[0], stream) == b"lost\nheld "
            assert (log.size, os.stat(log.path).st_size) == (size, size)
        assert [error.errno for error in told] == [number]
        assert log.dropped_bytes == 3 * len(b"held lost\n")
        broken.clear()
        os.write(pipe[1], b"kept\n")
        stage.pump(pipe[0], stream)
        assert told[1:] == [None]
        log.close()
        notice = (
            b"mdocker: 30 bytes of stdout were lost here, because the log could not be written\n"
        )
        assert text(log) == b"kept\n" + notice + b"held kept\n"

    def test_a_notice_ends_the_line_whose_rest_is_lost(self, stage, driver, pipe, tmp_path, broken):
        log = open_log(driver, tmp_path, ID)
        stream = log.stream(Stream.STDOUT)
        os.write(pipe[1], b"x" * PIECE)
        stage.pump(pipe[0], stream)
        broken.append(errno.ENOSPC)
        os.write(pipe[1], b"rest\n")
        stage.pump(pipe[0], stream)
        broken.clear()
        os.write(pipe[1], b"next\n")
        stage.pump(pipe[0], stream)
        log.close()
        shown = text(log)
        assert shown.startswith(b"x" * PIECE + b"\nmdocker: 5 bytes of stdout were lost here")
        assert shown.endswith(b"\nnext\n")

    def test_a_full_disk_keeps_no_file_open(self, stage, driver, pipe, tmp_path, broken):
        """Found by hand: rm gave the space of a log that had filled its disk not back."""
        log = open_log(driver, tmp_path, ID)
        stream = log.stream(Stream.STDOUT)
        broken.append(errno.ENOSPC)
        os.write(pipe[1], b"lost\n")
        stage.pump(pipe[0], stream)
        fd = log.file.fd
        gc.disable()  # the collector would come some day
        try:
            log.close()
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)
        finally:
            gc.enable()

    def test_crash_while_the_disk_is_full(self, marks, pipe, tmp_path, broken):
        stage = Stage(marks, kernel.tee)
        log = open_log("json-file", tmp_path, ID)
        os.write(pipe[1], b"kept\n")
        stage.pump(pipe[0], log.stream(Stream.STDOUT))
        broken.append(errno.ENOSPC)
        os.write(pipe[1], b"lost\nheld")
        stage.pump(pipe[0], log.stream(Stream.STDOUT))
        log.detach()
        broken.clear()
        again = open_log("json-file", tmp_path, ID)
        stage.recover({ID: again}.get)
        assert again.dropped_bytes == 5
        again.close()
        notice = (
            b"mdocker: 5 bytes of stdout were lost here, because the log could not be written\n"
        )
        assert text(again) == b"kept\n" + notice + b"held"
        stage.close()

    def test_what_was_lost_outlives_a_rotation_and_several_crashes(
        self, marks, pipe, tmp_path, broken
    ):
        stage = Stage(marks, kernel.tee)
        options = {"max-size": "300", "max-file": "2"}
        log = open_log("json-file", tmp_path, ID, options)
        os.write(pipe[1], b"kept\n")
        stage.pump(pipe[0], log.stream(Stream.STDERR))
        broken.append(errno.ENOSPC)
        for _ in range(3):
            os.write(pipe[1], b"lost\n")
            stage.pump(pipe[0], log.stream(Stream.STDERR))
            log.detach()
            log = open_log("json-file", tmp_path, ID, options)
            stage.recover({ID: log}.get)
        assert log.dropped_bytes == 15
        broken.clear()
        for _ in range(10):
            os.write(pipe[1], b"more\n")
            stage.pump(pipe[0], log.stream(Stream.STDERR))
        assert log.rotations
        log.detach()
        log = open_log("json-file", tmp_path, ID, options)
        stage.recover({ID: log}.get)
        os.write(pipe[1], b"more\n")
        stage.pump(pipe[0], log.stream(Stream.STDERR))
        assert log.dropped_bytes == 15  # told once, counted for good
        assert b"lost here" not in text(log)
        log.close()
        fresh = open_log("json-file", tmp_path, ID, options)
        os.write(pipe[1], b"next run\n")
        stage.pump(pipe[0], fresh.stream(Stream.STDOUT))
        assert fresh.slot.read().loss == NO_LOSS
        fresh.close()
        stage.close()
