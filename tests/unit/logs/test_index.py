"""The sparse index: right whatever was written, cut, killed or begun anew; or not used at all."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logs import container_log, history, index
from logs.drivers import Stream, open_log
from logs.index import IndexWriter, entries, path_of
from logs.marks import MarkFile
from logs.options import LogOptions
from logs.reader import read
from logs.tailing import tail_place

ID = "ab" * 32
STEP = 1000


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(index, "STEP", STEP)
    monkeypatch.setattr(history, "FEW_RECORDS", 0)
    monkeypatch.setattr(history, "WORTH_SEARCHING", 0)


def index_of(log):
    return entries(os.path.dirname(log.path), log.file.inode, log.file.fd)


def lines(first, last):
    return b"".join(b"line %d\n" % number for number in range(first, last))


def check(log):
    """Each entry says the truth."""
    data = Path(log.path).read_bytes()
    found = index_of(log)
    for one in found:
        assert data[: one.offset].count(b"\n") == one.records
        assert data[one.offset - 1] == ord("\n")
    return found


@pytest.mark.parametrize("driver", ["json-file", "k8s-file"])
@given(
    batches=st.lists(
        st.one_of(
            st.binary(max_size=300),
            st.lists(st.sampled_from([b"a\n", b"\xff<\n", b"word", b"\n"]), max_size=60).map(
                b"".join
            ),
            st.just(b"x" * 40_000),
        ),
        max_size=12,
    )
)
@settings(deadline=None, max_examples=60)
def test_it_counts_every_kind_of_record(tmp_path_factory, driver, batches):
    log = open_log(driver, tmp_path_factory.mktemp("log"), ID)
    for batch in batches:
        log.stream(Stream.STDOUT).append(batch)
        check(log)
    log.close()


@given(sizes=st.lists(st.integers(1, 200), min_size=1, max_size=30), records=st.integers(1, 4000))
@settings(deadline=None, max_examples=60)
def test_a_tail_is_where_reading_backwards_finds_it(tmp_path_factory, sizes, records):
    log = open_log("json-file", tmp_path_factory.mktemp("log"), ID)
    for size in sizes:
        log.stream(Stream.STDOUT).append(lines(0, size))
    fd, end = log.file.fd, log.file.end
    offset = index.tail_offset(fd, end, records, index_of(log))
    assert offset is None or (offset, records) == tail_place(fd, end, records)
    if end > 2 * STEP and records < sum(sizes):
        assert offset is not None
    log.close()


def test_it_is_used_by_readers(tmp_path, monkeypatch):
    log = open_log("json-file", tmp_path, ID)
    for first in range(0, 5000, 50):
        log.stream(Stream.STDOUT).append(lines(first, first + 50))
    log.publish()
    monkeypatch.setattr(history, "tail_place", None)
    assert b"".join(read(log.path, "json-file", tail=3000, log=log)) == lines(2000, 5000)
    log.close()
    assert b"".join(read(log.path, "json-file", tail=3000)) == lines(2000, 5000)


def test_since_holds_though_the_clock_was_set_back(tmp_path, monkeypatch):
    """Halving would have been misled, and reading all of it takes long."""
    log = open_log("json-file", tmp_path, ID)
    hour, now = 3_600_000_000_000, time.time_ns()
    times = [now - 3 * hour, now - 1 * hour, now - 2 * hour, now]
    for number, moment in enumerate(times):
        monkeypatch.setattr(index, "time_ns", lambda moment=moment: moment)
        log.stream(Stream.STDOUT).append_now(lines(100 * number, 100 * number + 100), 0, moment)
    monkeypatch.setattr(history, "since_offset", None)
    wanted = lines(100, 200) + lines(300, 400)
    assert b"".join(read(log.path, "json-file", since_ns=now - hour)) == wanted
    found = index_of(log)
    start = index.since_offset(log.file.fd, log.file.end, now - hour, found)
    assert start == found[0].offset
    log.close()


def test_another_supervisor_goes_on_with_it(tmp_path):
    log = open_log("json-file", tmp_path, ID)
    log.stream(Stream.STDOUT).append(lines(0, 100))
    log.close()
    again = open_log("json-file", tmp_path, ID)
    for first in range(100, 200, 10):
        again.stream(Stream.STDOUT).append(lines(first, first + 10))
    assert len(check(again)) > 2
    again.close()


def test_what_a_kill_cut_off_is_forgotten(tmp_path):
    marks = MarkFile(tmp_path / "marks")
    log = open_log("json-file", tmp_path, ID)
    log.stream(Stream.STDOUT).append(lines(0, 50))
    log.slot = marks.claim(ID, log.file.end, log.file.inode)
    log.stream(Stream.STDOUT)._mark(7)
    marked = log.file.end
    slot, log.slot = log.slot, None
    for first in range(50, 250, 50):
        log.stream(Stream.STDOUT).append(lines(first, first + 50))
    assert len(index_of(log)) == 5
    log.detach()
    again = open_log("json-file", tmp_path, ID)
    again.adopt(slot)
    assert again.file.end == marked
    for first in range(300, 500, 10):
        again.stream(Stream.STDOUT).append(lines(first, first + 10))
    assert len(check(again)) > 2
    again.close()
    marks.close()


def test_a_log_that_somebody_has_cut_begins_anew(tmp_path):
    log = open_log("json-file", tmp_path, ID)
    for first in range(0, 200, 50):
        log.stream(Stream.STDOUT).append(lines(first, first + 50))
    os.truncate(log.path, 0)
    for first in range(0, 60, 20):
        log.stream(Stream.STDOUT).append(lines(first, first + 20))
        check(log)
    assert 0 < len(index_of(log)) < 4
    log.close()


def test_the_index_of_another_file_is_not_believed(tmp_path):
    """An inode's number is used again."""
    log = open_log("json-file", tmp_path, ID)
    log.stream(Stream.STDOUT).append(lines(0, 100))
    stale = path_of(str(tmp_path), log.file.inode)
    assert index_of(log)
    os.truncate(log.path, 0)
    with open(log.path, "wb") as file:
        file.write(b"another\n" * 4000)
    assert index_of(log) == []
    log.close()
    assert os.path.exists(stale)


@pytest.mark.parametrize("damage", [b"", b"short", b"\0" * 64, b"\xff" * 96])
def test_a_damaged_index_is_not_believed(tmp_path, damage):
    log = open_log("json-file", tmp_path, ID)
    for first in range(0, 200, 50):
        log.stream(Stream.STDOUT).append(lines(first, first + 50))
    with open(path_of(str(tmp_path), log.file.inode), "wb") as file:
        file.write(damage)
    log.publish()
    assert b"".join(read(log.path, "json-file", tail=60)) == lines(140, 200)
    log.close()


def test_no_room_for_it_harms_no_log(tmp_path, monkeypatch):
    log = open_log("json-file", tmp_path, ID)
    monkeypatch.setattr(index, "path_of", lambda *_: str(tmp_path / "missing" / "index"))
    for first in range(0, 200, 50):
        log.stream(Stream.STDOUT).append(lines(first, first + 50))
    assert log.trouble is None
    monkeypatch.undo()
    assert log.file.end == os.stat(log.path).st_size
    log.close()


def test_it_goes_with_its_file(tmp_path):
    options = LogOptions(max_size=5 * STEP, max_file=2)
    log = container_log.ContainerLog(
        "json-file", tmp_path / "x.log", ID, open_log("json-file", tmp_path, ID).writer, options
    )
    for first in range(0, 2000, 50):
        log.stream(Stream.STDOUT).append(lines(first, first + 50))
    log.close()
    inodes = {str(path.stat().st_ino) for path in tmp_path.glob("x.log*")}
    assert {path.name.split(".")[1] for path in tmp_path.glob("log-index.*")} <= inodes


def test_a_writer_that_begins_far_behind_the_index_leaves_it(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "_LONGEST_COUNT", 10)
    path = tmp_path / "log"
    path.write_bytes(b"line\n" * 1000)
    with path.open("ab") as file:
        writer = IndexWriter(str(tmp_path), 1, file.fileno())
        writer.note(5000 + 2 * STEP, 2 * STEP, 400, [b"line\n" * 400])
    assert list(tmp_path.iterdir()) == [path]
