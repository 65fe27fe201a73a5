"""Where to begin: found near the end of a big log without reading the rest."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logs import json_text, k8s_text, reader, tailing
from logs.reader import read
from logs.tailing import since_offset, tail_place
from tests.unit.logs import model

TIME_OF = {"json-file": json_text.time_of, "k8s-file": k8s_text.time_of}
PROPERTY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(tailing, "_MARGIN", 200)
    monkeypatch.setattr(tailing, "_BLOCK", 100)
    monkeypatch.setattr(tailing, "_SAMPLES", 5)


@pytest.fixture
def opened(tmp_path):
    path = tmp_path / "log"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    yield path, fd
    os.close(fd)


def record(time_ns, text=b"text\n"):
    return model.Record("stdout", text, model.MIDNIGHT + time_ns)


def starts(lines):
    at, made = 0, []
    for line in lines:
        made.append(at)
        at += len(line)
    return made


@pytest.mark.parametrize("driver", TIME_OF)
@PROPERTY
@given(
    times=st.lists(st.integers(0, 50), min_size=1, max_size=80).map(sorted),
    since=st.integers(0, 60),
    garbage=st.lists(st.integers(0, 80), max_size=3),
)
def test_since_begins_at_a_record_and_not_too_late(small, opened, driver, times, since, garbage):
    path, fd = opened
    lines = [model.LINE[driver](record(time_ns)) for time_ns in times]
    for at in garbage:
        lines.insert(at, b"garbage\n")
        times = [*times[:at], -1, *times[at:]]
    path.write_bytes(b"".join(lines))
    begin = since_offset(fd, path.stat().st_size, model.MIDNIGHT + since, TIME_OF[driver])
    borders = starts(lines)
    assert begin in borders
    wanted = [at for at, time_ns in zip(borders, times, strict=True) if time_ns >= since]
    assert begin <= min(wanted, default=begin)


@pytest.mark.parametrize("driver", TIME_OF)
def test_since_of_a_big_log_reads_little(opened, monkeypatch, driver):
    path, fd = opened
    lines = [model.LINE[driver](record(number * 1000)) for number in range(100_000)]
    path.write_bytes(b"".join(lines))
    asked = []
    real = os.pread
    monkeypatch.setattr(tailing.os, "pread", lambda *at: asked.append(at[1]) or real(*at))
    begin = since_offset(fd, path.stat().st_size, model.MIDNIGHT + 77_777_000, TIME_OF[driver])
    first = starts(lines)[77_777]
    assert first - 3 * tailing._MARGIN <= begin <= first
    assert sum(asked) < 500_000


def test_since_where_the_clock_was_set_back_reads_all(opened):
    """11:00 comes twice; what is wanted stands before the second time."""
    path, fd = opened
    times = [*range(1000), *range(500, 900)]
    lines = [model.json_line(record(time_ns, b"x" * 900 + b"\n")) for time_ns in times]
    path.write_bytes(b"".join(lines))
    since = model.MIDNIGHT + 950
    assert since_offset(fd, path.stat().st_size, since, json_text.time_of) == 0
    text = b"".join(read(path, "json-file", since_ns=since))
    assert text.count(b"\n") == 50


def test_since_through_the_reader(opened, monkeypatch):
    monkeypatch.setattr(reader, "BLOCK_SIZE", 1000)
    path, _ = opened
    lines = [model.json_line(record(number, b"%d\n" % number)) for number in range(30_000)]
    path.write_bytes(b"".join(lines))
    text = b"".join(read(path, "json-file", since_ns=model.MIDNIGHT + 20_000))
    assert text == b"".join(b"%d\n" % number for number in range(20_000, 30_000))
    text = b"".join(read(path, "json-file", since_ns=model.MIDNIGHT + 20_000, tail=5))
    assert text == b"".join(b"%d\n" % number for number in range(29_995, 30_000))


@PROPERTY
@given(
    st.lists(st.integers(0, 300), max_size=40),
    st.integers(0, 45),
    st.sampled_from([b"", b"torn", b"t" * 250]),
)
def test_tail_at_every_length(small, opened, lengths, records, torn):
    path, fd = opened
    lines = [b"x" * length + b"\n" for length in lengths]
    if torn:
        lines.append(torn)
    path.write_bytes(b"".join(lines))
    kept = b"".join(lines[max(0, len(lines) - records) :]) if records else b""
    size = path.stat().st_size
    assert tail_place(fd, size, records) == (size - len(kept), min(records, len(lines)))


def test_tail_of_a_big_log_reads_little(opened, monkeypatch):
    path, fd = opened
    path.write_bytes(b"x" * 99 + b"\n")
    os.truncate(path, 1 << 30)
    os.pwrite(fd, (b"y" * 99 + b"\n") * 50, (1 << 30) - 5000)
    asked = []
    real = os.pread
    monkeypatch.setattr(tailing.os, "pread", lambda *at: asked.append(at[1]) or real(*at))
    assert tail_place(fd, 1 << 30, 10) == ((1 << 30) - 1000, 10)
    assert sum(asked) <= 1 << 16
