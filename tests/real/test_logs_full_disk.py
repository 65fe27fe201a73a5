"""A full disk under the log, made of a small tmpfs: output is drained, the loss is counted."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from logs import background
from logs.drivers import Stream, open_log
from logs.marks import MarkFile
from logs.pump import Stage
from logs.reader import read
from runtime import kernel

ID = "ab" * 32
LINE = b"x" * 99 + b"\n"


@pytest.fixture
def small_disk(tmp_path):
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "logs-test", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.fixture
def pipe():
    ends = os.pipe2(os.O_CLOEXEC)
    yield ends
    for end in ends:
        os.close(end)


def free(disk):
    (disk / "ballast").unlink()


@pytest.mark.parametrize("driver", ["json-file", "k8s-file"])
def test_full_and_free_again(small_disk, tmp_path, pipe, driver):
    marks = MarkFile(tmp_path / "marks")
    stage = Stage(marks, kernel.tee)
    log = open_log(driver, small_disk, ID)
    stream, told = log.stream(Stream.STDOUT), []
    log.on_trouble = lambda which: told.append(which.trouble and which.trouble.errno)
    (small_disk / "ballast").write_bytes(b"\0" * (900 << 10))
    written = 0
    for _ in range(40):
        written += os.write(pipe[1], LINE * 600)
        assert stage.pump(pipe[0], stream) == LINE * 600
        assert os.stat(log.path).st_size == log.size
    assert told == [errno.ENOSPC]
    lost = log.dropped_bytes
    assert 0 < lost < written
    whole = b"".join(read(log.path, driver))
    assert whole == LINE * ((written - lost) // len(LINE))

    free(small_disk)
    os.write(pipe[1], b"here again\n")
    stage.pump(pipe[0], stream)
    assert told == [errno.ENOSPC, None]
    log.close()
    notice = b"mdocker: %d bytes of stdout were lost here" % lost
    text = b"".join(read(log.path, driver))
    assert text.startswith(whole + notice)
    assert text.endswith(b"\nhere again\n")
    stage.close()
    marks.close()


@pytest.mark.parametrize("driver", ["json-file", "k8s-file"])
def test_full_while_it_is_rotated(small_disk, tmp_path, pipe, driver):
    """What is lost is counted and told where it was; all else is there once and in order."""
    marks = MarkFile(tmp_path / "marks")
    stage = Stage(marks, kernel.tee)
    log = open_log(driver, small_disk, ID, {"max-size": "40k", "max-file": "1000"})
    number, sent = 0, 0
    for turn in range(6):
        if turn % 2:
            free(small_disk)
        else:
            _fill(small_disk)
        for _ in range(4):
            batch = b"".join(b"%06d\n" % n for n in range(number, number + 900))
            number += 900
            sent += os.write(pipe[1], batch)
            stage.pump(pipe[0], log.stream(Stream.STDOUT))
            assert os.stat(log.path).st_size == log.size
    assert log.rotations > 3
    log.close()
    background.join()
    lines = b"".join(read(log.path, driver)).splitlines()
    told = [int(line.split()[1]) for line in lines if line.startswith(b"mdocker")]
    assert len(told) >= 2 and sum(told) == log.dropped_bytes > 0
    shown = [int(line) for line in lines if line.isdigit()]
    assert shown == sorted(set(shown))
    assert len(shown) * 7 + sum(told) >= sent - 7 * len(told)
    assert shown[-1] == number - 1
    stage.close()
    marks.close()


def test_no_inode_for_the_next_file(tmp_path, pipe):
    """A rotation that can't be done is none: the file grows on, and is rotated when it can be."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=4", "logs-test", disk], check=True)
    try:
        log = open_log("json-file", disk, ID, {"max-size": "10k", "max-file": "3"})
        for name in ("one", "two"):
            (disk / name).touch()
        for number in range(500):
            log.stream(Stream.STDOUT).append(b"%d\n" % number)
        assert (log.rotations, log.dropped_bytes, log.trouble) == (0, 0, None)
        (disk / "one").unlink()
        log.stream(Stream.STDOUT).append(b"500\n")
        assert log.rotations == 1
        log.close()
        text = b"".join(read(log.path, "json-file"))
        assert text == b"".join(b"%d\n" % number for number in range(501))
    finally:
        subprocess.run(["umount", disk], check=True)


def test_no_room_for_marks(small_disk, tmp_path, pipe):
    """The run directory is full: output still reaches the log."""
    marks = MarkFile(small_disk / "marks")
    stage = Stage(marks, kernel.tee)
    log = open_log("json-file", tmp_path, ID)
    _fill(small_disk)
    for _ in range(3):
        os.write(pipe[1], b"line\nunfinished ")
        stage.pump(pipe[0], log.stream(Stream.STDOUT))
    assert marks.full
    log.close()
    expected = b"line\n" + b"unfinished line\n" * 2 + b"unfinished "
    assert b"".join(read(log.path, "json-file")) == expected
    stage.close()
    marks.close()


def test_no_room_for_the_unfinished_line(small_disk, tmp_path, pipe):
    """The slot is there, its line's page can't be had: no SIGBUS, and nothing missing."""
    marks = MarkFile(small_disk / "marks")
    stage = Stage(marks, kernel.tee)
    log = open_log("json-file", tmp_path, ID)
    os.write(pipe[1], b"line\n")
    stage.pump(pipe[0], log.stream(Stream.STDOUT))
    assert not marks.full
    _fill(small_disk)
    os.write(pipe[1], b"unfinished")
    stage.pump(pipe[0], log.stream(Stream.STDOUT))
    assert marks.full
    log.close()
    assert b"".join(read(log.path, "json-file")) == b"line\nunfinished"
    stage.close()
    marks.close()


def _fill(disk: Path):
    with open(disk / "ballast", "wb", buffering=0) as file, pytest.raises(OSError, match="space"):
        while True:
            file.write(b"\0" * 4096)
