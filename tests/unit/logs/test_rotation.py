"""Rotation: which files there are, and a crash at each step of one."""

import errno
import gzip
import os

import pytest

from logs import background, rotation
from logs.drivers import Stream, open_log
from logs.log_file import LogFile
from logs.marks import MarkFile, Slot
from logs.pump import Stage
from logs.reader import read
from logs.rotation import Names
from runtime import kernel

ID = "ab" * 32
SMALL = {"max-size": "1k", "max-file": "3"}


@pytest.fixture(params=["json-file", "k8s-file"])
def driver(request):
    return request.param


@pytest.fixture
def pipe():
    ends = os.pipe2(os.O_CLOEXEC)
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture(autouse=True)
def nothing_in_the_background():
    yield
    background.join()


def lines(first, last):
    return b"".join(b"line %d\n" % number for number in range(first, last))


def text(which, **options):
    return b"".join(read(which.path, which.driver, **options))


def files(directory):
    """The log's files, oldest first."""
    names = [name for name in os.listdir(directory) if ".log" in name]

    def age(name):
        number = name.rpartition("log")[2].strip(".").removesuffix(".gz")
        return int(number) if number else 0

    return sorted(names, key=age, reverse=True)


def test_files_are_rotated_and_the_oldest_goes(driver, tmp_path):
    log = open_log(driver, tmp_path, ID, SMALL)
    out = log.stream(Stream.STDOUT)
    for number in range(100):
        out.append(b"line %d\n" % number)
    log.close()
    background.join()
    name = os.path.basename(log.path)
    assert files(tmp_path) == [f"{name}.2", f"{name}.1", name]
    shown = text(log).splitlines(keepends=True)
    assert shown == lines(100 - len(shown), 100).splitlines(keepends=True)
    longest = 120
    for file in files(tmp_path)[:-1]:
        # Full, and no more than one record over it.
        assert 1000 <= os.stat(tmp_path / file).st_size < 1000 + longest


def test_one_batch_fills_many_files(driver, tmp_path):
    log = open_log(driver, tmp_path, ID, {"max-size": "1k", "max-file": "500"})
    log.stream(Stream.STDOUT).append(lines(0, 1000))
    log.close()
    assert text(log) == lines(0, 1000)
    sizes = [os.stat(tmp_path / file).st_size for file in files(tmp_path)]
    assert len(sizes) > 40
    assert all(1000 <= size < 1120 for size in sizes[:-1])


def test_max_file_1_keeps_one(driver, tmp_path):
    log = open_log(driver, tmp_path, ID, {"max-size": "1k"})
    log.stream(Stream.STDOUT).append(lines(0, 100))
    log.close()
    background.join()
    assert files(tmp_path) == [os.path.basename(log.path)]
    shown = text(log)
    assert shown and lines(0, 100).endswith(shown)


def test_the_next_run_goes_on_where_the_last_one_left_it(driver, tmp_path):
    for run in range(6):
        log = open_log(driver, tmp_path, ID, SMALL)
        log.stream(Stream.STDOUT).append(lines(run * 10, run * 10 + 10))
        log.close()
    background.join()
    shown = text(log)
    assert lines(0, 60).endswith(shown) and shown.count(b"\n") > 20


@pytest.mark.parametrize("more", [{"max-file": "1"}, {"max-file": "3"}, {"compress": "true"}])
def test_indexes_go_with_their_files(tmp_path, more):
    options = {"max-size": "1500k", "max-file": "3", **more}
    (tmp_path / "log-index.1").write_bytes(b"of a file that a kill has left without its index")
    log = open_log("json-file", tmp_path, ID, options)
    for _ in range(8):
        log.stream(Stream.STDOUT).append((b"x" * 999 + b"\n") * 1000)
        background.join()
    log.close()
    background.join()
    plain = {os.stat(tmp_path / name).st_ino for name in files(tmp_path) if name[-2:] != "gz"}
    indexes = {int(name[10:]) for name in os.listdir(tmp_path) if name.startswith("log-index.")}
    assert indexes
    assert indexes <= plain


def test_without_a_limit_there_is_one_file(driver, tmp_path, monkeypatch):
    log = open_log(driver, tmp_path, ID, {"max-size": "-1"})
    monkeypatch.setattr(Names, "rotate", None)
    log.stream(Stream.STDOUT).append(b"x" * 99 + b"\n")
    log.file.size = 1 << 50
    log.stream(Stream.STDOUT).append(b"x" * 99 + b"\n")
    log.close()


def test_a_line_of_many_pieces_is_divided_between_files(driver, tmp_path):
    log = open_log(driver, tmp_path, ID, {"max-size": "20k", "max-file": "50"})
    line = bytes(range(97, 123)) * 10_000 + b"\n"
    log.stream(Stream.STDOUT).append(line + b"next\n")
    log.close()
    assert len(files(tmp_path)) > 5
    assert text(log) == line + b"next\n"


class Crash(BaseException):
    """The process dies here."""


STEPS = ["mark", "begin", "open", "move", "first", "second", "rename", "turn", "write", "batch"]


def crash_at(monkeypatch, step):
    """Let the process die just before a step of the rotation, or behind it."""
    real_rename, renamed = Names._rename, []

    def die(*_arguments, **_keywords):
        raise Crash

    def rename(self, old, new):
        renamed.append(new)
        moves = [name for name in renamed if name[-1].isdigit()]
        at = {"move": bool(moves), "first": new.endswith(".1"), "second": len(moves) == 2}
        if at.get(step) or (step == "rename" and not new[-1].isdigit()):
            raise Crash
        real_rename(self, old, new)

    if step == "mark":
        monkeypatch.setattr(Slot, "turn", die)
    elif step == "begin":
        monkeypatch.setattr(Names, "rotate", die)
    elif step == "open":
        monkeypatch.setattr(rotation, "LogFile", die)
    elif step == "turn":
        real, calls = Slot.turn, []

        def turn(self, *where):
            calls.append(where)
            if len(calls) == 2:
                raise Crash
            real(self, *where)

        monkeypatch.setattr(Slot, "turn", turn)
    elif step == "write":
        real_write, sizes = os.writev, []

        def writev(fd, parts):
            if sizes and os.fstat(fd).st_size == 0:
                raise Crash
            sizes.append(real_write(fd, parts))
            return sizes[-1]

        monkeypatch.setattr(os, "writev", writev)
    elif step == "batch":
        monkeypatch.setattr(Slot, "write", die)
    else:
        monkeypatch.setattr(Names, "_rename", rename)


def as_after_a_kill(log):
    """What a dead process leaves: nothing is tidied up behind the crash."""
    log.detach()


@pytest.mark.parametrize(
    ("keep", "step"),
    [
        (keep, step)
        for keep in ("1", "2", "3", "50")
        for step in STEPS
        if keep != "1" or step not in ("move", "first", "second")  # nothing gets a number
    ],
)
@pytest.mark.parametrize("before", [0, 1, 40, 120])
def test_a_crash_at_each_step_loses_and_repeats_nothing(
    tmp_path, pipe, monkeypatch, keep, step, before
):
    """One batch that goes over the edge of one file or of several."""
    options = {"max-size": "4k", "max-file": keep}
    marks = MarkFile(tmp_path / "marks")
    stage = Stage(marks, kernel.tee)
    log = open_log("json-file", tmp_path, ID, options)
    for number in range(before):
        os.write(pipe[1], b"line %d\n" % number)
        stage.pump(pipe[0], log.stream(Stream.STDOUT))
    log.stream(Stream.STDERR)
    os.write(pipe[1], lines(before, before + 150) + b"unfin")
    # Deleting what a failed rotation made is tidying up: a killed process does not do it.
    with monkeypatch.context() as patch:
        real_unlink = os.unlink
        patch.setattr(
            os, "unlink", lambda path: None if str(path).endswith(".new") else real_unlink(path)
        )
        crash_at(patch, step)
        with pytest.raises(Crash):
            stage.pump(pipe[0], log.stream(Stream.STDOUT))
    held = tuple(map(os.dup, stage.fds))
    stage.close()
    marks.close()
    as_after_a_kill(log)
    background.join()

    marks = MarkFile(tmp_path / "marks")
    stage = Stage(marks, kernel.tee, fds=held)
    again = open_log("json-file", tmp_path, ID, options)
    stage.recover({ID: again}.get)
    os.write(pipe[1], b"ished\nlast\n")
    stage.pump(pipe[0], again.stream(Stream.STDOUT))
    again.close()
    stage.close()
    marks.close()
    whole = lines(0, before + 150) + b"unfinished\nlast\n"
    shown = text(again)
    if keep == "50":
        assert shown == whole
    else:
        assert whole.endswith(shown) and len(shown) > 100
    background.join()
    for file in files(tmp_path):
        assert os.stat(tmp_path / file).st_size < 4300


def test_two_crashes_in_one_batch(tmp_path, pipe, monkeypatch):
    """The second one while the batch of the first is made up for."""
    options = {"max-size": "2k", "max-file": "100"}
    marks = MarkFile(tmp_path / "marks")
    stage = Stage(marks, kernel.tee)
    held = tuple(map(os.dup, stage.fds))
    os.write(pipe[1], lines(0, 400))
    real, left = Names.rotate, [3]

    def rotate(self, keep):
        left[0] -= 1
        if not left[0]:
            left[0] = 3
            raise Crash
        return real(self, keep)

    log = open_log("json-file", tmp_path, ID, options)
    monkeypatch.setattr(Names, "rotate", rotate)
    with pytest.raises(Crash):
        stage.pump(pipe[0], log.stream(Stream.STDOUT))
    for _ in range(3):
        log.detach()
        stage.close()
        marks.close()
        marks = MarkFile(tmp_path / "marks")
        stage = Stage(marks, kernel.tee, fds=tuple(map(os.dup, held)))
        log = open_log("json-file", tmp_path, ID, options)
        with pytest.raises(Crash):
            stage.recover({ID: log}.get)
    monkeypatch.setattr(Names, "rotate", real)
    log.detach()
    marks.close()
    stage.close()
    marks = MarkFile(tmp_path / "marks")
    stage = Stage(marks, kernel.tee, fds=held)
    log = open_log("json-file", tmp_path, ID, options)
    stage.recover({ID: log}.get)
    log.close()
    assert text(log) == lines(0, 400)
    stage.close()
    marks.close()


@pytest.mark.parametrize("call", ["open", "rename"])
@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_rotation_that_fails_leaves_the_old_file_growing(tmp_path, monkeypatch, call, failures):
    """No space, no descriptor: nothing is lost, and it is tried again with the next batch."""
    log = open_log("json-file", tmp_path, ID, {"max-size": "1k", "max-file": "4"})
    out = log.stream(Stream.STDOUT)
    out.append(lines(0, 30))
    left, real = [failures], getattr(os, call)

    def refuse(path, *rest, **names):
        if left[0] and "log" in str(path):
            left[0] -= 1
            raise OSError(errno.ENOSPC, "no space left on device")
        return real(path, *rest, **names)

    monkeypatch.setattr(os, call, refuse)
    for number in range(30, 60):
        out.append(b"line %d\n" % number)
    assert not left[0]
    assert log.dropped_bytes == 0
    monkeypatch.undo()
    log.close()
    background.join()
    assert [name for name in os.listdir(tmp_path) if name.endswith(".new")] == []
    shown = text(log)
    assert lines(0, 60).endswith(shown) and shown.count(b"\n") > 25
    assert len(files(tmp_path)) == 4


class TestCompress:
    OPTIONS = {"max-size": "2k", "max-file": "4", "compress": "true"}  # noqa: RUF012

    def written(self, tmp_path, count=200):
        log = open_log("json-file", tmp_path, ID, self.OPTIONS)
        for number in range(count):
            log.stream(Stream.STDOUT).append(b"line %d\n" % number)
            if number % 10 == 0:
                background.join()
        background.join()
        return log

    def test_rotated_files_are_gzip(self, tmp_path):
        log = self.written(tmp_path)
        log.close()
        name = os.path.basename(log.path)
        assert files(tmp_path) == [f"{name}.3.gz", f"{name}.2.gz", f"{name}.1.gz", name]
        shown = text(log)
        assert lines(0, 200).endswith(shown) and shown.count(b"\n") > 60
        with gzip.open(tmp_path / f"{name}.3.gz") as oldest:
            assert oldest.read().startswith(b'{"log":"line ')

    def test_what_a_kill_left_plain_is_compressed_by_the_next_process(self, tmp_path):
        log = self.written(tmp_path)
        log.close()
        whole = text(log)
        with gzip.open(f"{log.path}.2.gz") as packed, open(f"{log.path}.2", "wb") as copy:
            copy.write(packed.read())
        os.unlink(f"{log.path}.2.gz")
        again = open_log("json-file", tmp_path, ID, self.OPTIONS)
        background.join()
        assert [name[-3:] for name in files(tmp_path)] == [".gz", ".gz", ".gz", "log"]
        assert text(log) == whole
        again.close()

    def test_tail_and_since_reach_into_gzip(self, tmp_path):
        log = self.written(tmp_path)
        whole = text(log).splitlines(keepends=True)
        for count in range(len(whole) + 3):
            assert text(log, tail=count) == b"".join(whole[-count:] if count else [])
            assert text(log, tail=count, log=log) == b"".join(whole[-count:] if count else [])
        stamped = text(log, timestamps=True).splitlines()
        for at in (0, 1, len(stamped) // 2, len(stamped) - 1):
            stamp = stamped[at].split(b" ")[0]
            since = rotation_time(stamp)
            assert text(log, since_ns=since) == b"".join(whole[at:])
        log.close()

    def test_a_kill_between_the_two_names(self, tmp_path, monkeypatch):
        """NAME.k.gz is there and NAME.k is not gone yet: they are shown once."""
        log = self.written(tmp_path)
        log.close()
        plain = f"{log.path}.1"
        with gzip.open(plain + ".gz") as packed, open(plain, "wb") as copy:
            copy.write(packed.read())
        whole = text(log)
        assert whole.count(b"line 199\n") == 1
        assert len(whole.splitlines()) == len(set(whole.splitlines()))
        again = open_log("json-file", tmp_path, ID, self.OPTIONS)
        again.stream(Stream.STDOUT).append(lines(200, 230))
        again.close()
        background.join()
        shown = text(again)
        assert lines(0, 230).endswith(shown) and shown.count(b"\n") > 60

    def test_a_damaged_file_ends_where_the_damage_begins(self, tmp_path):
        log = self.written(tmp_path)
        log.close()
        whole = text(log).splitlines(keepends=True)
        oldest = f"{log.path}.3.gz"
        size = os.stat(oldest).st_size
        os.truncate(oldest, size - 40)
        shown = text(log).splitlines(keepends=True)
        assert shown[-60:] == whole[-60:] and len(shown) < len(whole)
        with open(oldest, "r+b") as file:
            file.write(b"no gzip at all")
        assert whole[-len(text(log).splitlines()) :] == text(log).splitlines(keepends=True)

    def test_no_room_to_compress_leaves_the_plain_file(self, tmp_path, monkeypatch):
        def full(*_arguments):
            raise OSError(errno.ENOSPC, "no space left on device")

        monkeypatch.setattr(rotation, "_pack", full)
        log = self.written(tmp_path, 60)
        monkeypatch.undo()
        assert not any(name.endswith(".gz") for name in files(tmp_path))
        log.stream(Stream.STDOUT).append(lines(60, 100))
        log.close()
        background.join()
        assert sum(name.endswith(".gz") for name in files(tmp_path)) == 3
        shown = text(log)
        assert lines(0, 100).endswith(shown) and shown.count(b"\n") > 60

    def test_rotated_further_while_it_is_compressed(self, tmp_path, monkeypatch):
        real = rotation._pack
        log = open_log("json-file", tmp_path, ID, self.OPTIONS)
        out, times = log.stream(Stream.STDOUT), []

        def pack(source, path):
            real(source, path)
            if len(times) < 3:
                times.append(log.rotations)
                while log.rotations == times[-1]:
                    out.append(b"line\n")

        monkeypatch.setattr(rotation, "_pack", pack)
        out.append(b"line\n" * 40)
        background.join()
        log.close()
        assert len(times) == 3
        name = os.path.basename(log.path)
        assert files(tmp_path)[-1] == name and len(files(tmp_path)) <= 4
        assert set(text(log).splitlines()) == {b"line"}

    def test_a_container_that_is_removed_meanwhile(self, tmp_path, monkeypatch):
        real = rotation._pack

        def pack(source, path):
            real(source, path)
            for file in os.listdir(tmp_path):
                os.unlink(tmp_path / file)

        monkeypatch.setattr(rotation, "_pack", pack)
        log = open_log("json-file", tmp_path, ID, self.OPTIONS)
        log.stream(Stream.STDOUT).append(lines(0, 40))
        log.close()
        background.join()
        assert os.listdir(tmp_path) == []


def rotation_time(stamp):
    from logs import stamps

    return stamps.parse(stamp)


def test_last_close_of_a_deleted_file_is_done_elsewhere(tmp_path):
    path = tmp_path / "file"
    file = LogFile.for_writing(str(path))
    fd = file.fd
    file.doomed = True
    file.close()
    background.join()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
