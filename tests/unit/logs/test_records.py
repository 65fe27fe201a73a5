"""The bytes in the log file, against a model that looks at every byte."""

import itertools
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logs import container_log, json_file, log_stream
from logs.drivers import (
    DRIVERS,
    LogOptionRefused,
    Stream,
    check_options,
    log_path,
    open_log,
)
from tests.unit.logs import model

ID = "ab" * 32
NAMES = {Stream.STDOUT: "stdout", Stream.STDERR: "stderr"}
FORMATS = ["json-file", "k8s-file"]

NASTY = [
    b"\n",
    b"\n\n",
    b"\r\n",
    b'"',
    b"\\",
    b"\\n",
    b"\t\x00\x1f\x7f\x1b[0m",
    b"<&>",
    "é€𝄞".encode(),
    "\u2028\u2029\ufffd".encode(),
    b"\xff",
    b"\xe2\x82",
    b"\xf0\x9d\x84",
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"\x80",
    b'{"log":"x\\n","stream":"stdout","time":"T"}\n{"log":"',
    b"2026-11-21T00:00:00.000000000Z stdout F ",
]
LONG = st.builds(
    lambda unit, size: unit * (size // len(unit)),
    st.sampled_from([b"a", b'"', "é".encode(), "€".encode(), "𝄞".encode(), b"\xff", b"\x80"]),
    st.sampled_from([16380, 16383, 16384, 16385, 32768, 32769, 50000]),
)
CHUNK = st.one_of(st.sampled_from(NASTY), st.binary(max_size=40), LONG)
DATA = st.lists(CHUNK, max_size=12).map(b"".join)
SLOW = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Clock:
    def __init__(self):
        self.now = model.MIDNIGHT

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(log_stream, "time_ns", made)
    return made


def fresh(driver, tmp_path):
    path = log_path(driver, tmp_path, ID)
    path.unlink(missing_ok=True)
    return open_log(driver, tmp_path, ID), path


@pytest.mark.parametrize("driver", FORMATS)
@SLOW
@given(DATA, st.lists(st.integers(0, 60000), max_size=6))
def test_any_bytes_in_any_batches(driver, tmp_path, clock, data, cuts):
    log, path = fresh(driver, tmp_path)
    borders = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    stream = log.stream(Stream.STDOUT)
    for start, end in itertools.pairwise(borders):
        stream.append(data[start:end])
        assert log.size == path.stat().st_size
        assert len(stream.held) < model.PIECE
    log.close()
    expected = [model.Record("stdout", text, clock.now) for text in model.pieces(data)]
    assert path.read_bytes() == b"".join(map(model.LINE[driver], expected))


@pytest.mark.parametrize("driver", FORMATS)
def test_split_at_every_place(driver, tmp_path, clock):
    data = b'one\n\ntw"o\xe2\x82\xac three\nfour'
    expected = [model.Record("stderr", text, clock.now) for text in model.pieces(data)]
    for cut in range(len(data) + 1):
        log, path = fresh(driver, tmp_path)
        log.stream(Stream.STDERR).append(data[:cut])
        log.stream(Stream.STDERR).append(data[cut:])
        log.close()
        assert path.read_bytes() == b"".join(map(model.LINE[driver], expected))


@settings(SLOW, max_examples=12)
@given(st.lists(st.tuples(st.sampled_from(list(NAMES)), DATA), max_size=6))
def test_streams_do_not_mix(tmp_path, clock, writes):
    log, path = fresh("json-file", tmp_path)
    for stream, data in writes:
        log.stream(stream).append(data)
    log.close()
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    for stream, name in NAMES.items():
        whole = b"".join(data for wrote, data in writes if wrote is stream)
        expected = [
            model.json_text(model.Record(name, text, clock.now)).decode()
            for text in model.pieces(whole)
        ]
        assert [record["log"] for record in records if record["stream"] == name] == expected


@pytest.mark.parametrize(
    ("rest", "text"),
    [
        (0, b"2026-11-21T00:00:05Z"),
        (123456789, b"2026-11-21T00:00:05.123456789Z"),
        (120000000, b"2026-11-21T00:00:05.12Z"),
        (1, b"2026-11-21T00:00:05.000000001Z"),
    ],
)
def test_time_is_trimmed_as_go_does(tmp_path, clock, rest, text):
    clock.now = model.MIDNIGHT + 5 * 10**9 + rest
    log, path = fresh("json-file", tmp_path)
    log.stream(Stream.STDOUT).append(b"x\n")
    log.close()
    assert path.read_bytes() == b'{"log":"x\\n","stream":"stdout","time":"%b"}\n' % text


def test_k8s_time_has_nine_digits(tmp_path, clock):
    log, path = fresh("k8s-file", tmp_path)
    log.stream(Stream.STDERR).append(b"x\n")
    log.close()
    assert path.read_bytes() == b"2026-11-21T00:00:00.000000000Z stderr F x\n"


def test_divided_line_keeps_the_time_of_its_first_piece(tmp_path, clock):
    log, path = fresh("json-file", tmp_path)
    stream = log.stream(Stream.STDOUT)
    stream.append(b"a" * 20000)
    clock.now += 10**9
    stream.append(b"b" * 20000)
    clock.now += 10**9
    stream.append(b"\nnext\n")
    log.close()
    times = [json.loads(line)["time"] for line in path.read_bytes().splitlines()]
    assert times == ["2026-11-21T00:00:00Z"] * 3 + ["2026-11-21T00:00:02Z"]


def test_line_of_a_piece_s_length_ends_in_a_record_of_its_newline(tmp_path, clock):
    """As Docker does: at 16 KiB it can't know that the newline is next."""
    log, path = fresh("k8s-file", tmp_path)
    log.stream(Stream.STDOUT).append(b"a" * 16384 + b"\n")
    log.close()
    lines = path.read_bytes().splitlines()
    assert [line.split(b" ")[2:] for line in lines] == [[b"P", b"a" * 16384], [b"F", b""]]


def test_one_write_for_a_batch(tmp_path, clock, monkeypatch):
    log, _ = fresh("json-file", tmp_path)
    writes = []
    real = container_log.os.writev
    monkeypatch.setattr(
        container_log.os, "writev", lambda fd, parts: writes.append(1) or real(fd, parts)
    )
    log.stream(Stream.STDOUT).append(b"x\n" * 50000 + b"y" * 40000 + b"\n")
    assert writes == [1]
    log.close()


@given(st.lists(st.one_of(st.sampled_from(NASTY), st.binary(max_size=300))).map(b"".join))
def test_escape(text):
    one_line = text.replace(b"\n", b"")
    assert json_file.escape(one_line) == model.json_string(one_line)
    big = one_line + b"x" * 5000  # another way is taken there
    assert json_file.escape(big) == model.json_string(big)


class TestFile:
    @pytest.mark.parametrize("driver", FORMATS)
    def test_next_run_appends(self, driver, tmp_path):
        for text in (b"first\n", b"second\n"):
            log = open_log(driver, tmp_path, ID)
            log.stream(Stream.STDOUT).append(text)
            log.close()
        assert log_path(driver, tmp_path, ID).read_bytes().count(b"\n") == 2

    @pytest.mark.parametrize("torn", [b"", b'{"log":"tor', b"x" * 200_000])
    def test_torn_last_line_is_cut_off(self, tmp_path, torn):
        path = log_path("json-file", tmp_path, ID)
        path.write_bytes(b"whole\n" + torn)
        log = open_log("json-file", tmp_path, ID)
        assert (log.size, path.read_bytes()) == (6, b"whole\n")
        log.close()

    def test_torn_only_line_is_cut_off(self, tmp_path):
        path = log_path("json-file", tmp_path, ID)
        path.write_bytes(b"torn")
        open_log("json-file", tmp_path, ID).close()
        assert path.read_bytes() == b""

    def test_somebody_else_s_endless_line_is_kept(self, tmp_path):
        path = log_path("json-file", tmp_path, ID)
        path.write_bytes(b"x" * (2 << 20))
        log = open_log("json-file", tmp_path, ID)
        assert path.read_bytes() == b"x" * (2 << 20) + b"\n"
        assert log.size == path.stat().st_size
        log.close()

    def test_link_is_not_followed(self, tmp_path):
        (tmp_path / "target").write_bytes(b"")
        log_path("json-file", tmp_path, ID).symlink_to(tmp_path / "target")
        with pytest.raises(OSError, match="Too many levels"):
            open_log("json-file", tmp_path, ID)

    def test_closed_log_refuses(self, tmp_path):
        log = open_log("json-file", tmp_path, ID)
        log.close()
        log.close()
        with pytest.raises(ValueError, match="is closed"):
            log.stream(Stream.STDOUT).append(b"x\n")

    def test_cut_by_somebody_else(self, tmp_path):
        """`truncate -s 0` on a log that is being written: the next record stands at its start."""
        log = open_log("json-file", tmp_path, ID)
        stream = log.stream(Stream.STDOUT)
        stream.append(b"old\n" * 100)
        path = log_path("json-file", tmp_path, ID)
        with path.open("r+b") as file:
            file.truncate(0)
        stream.append(b"new\n")
        assert path.read_bytes().startswith(b'{"log":"new')
        assert (log.size, log.truncations) == (path.stat().st_size, 1)
        log.close()


class TestDriverNone:
    def test_keeps_nothing(self, tmp_path):
        log = open_log("none", tmp_path, ID)
        log.stream(Stream.STDOUT).append(b"x\n")
        log.stream(Stream.STDOUT).finish()
        assert (log.readable, log.path, log.size) == (False, "", 0)
        log.close()
        assert list(tmp_path.iterdir()) == []


class TestOptions:
    def test_known_drivers(self):
        assert DRIVERS == ("json-file", "k8s-file", "none")
        for driver in DRIVERS:
            check_options(driver, {})

    def test_unknown_driver(self):
        with pytest.raises(LogOptionRefused, match='"syslog": use one of json-file, k8s-file'):
            check_options("syslog", {})

    def test_option_is_refused_by_name(self):
        with pytest.raises(LogOptionRefused, match="unknown log opt 'max-fils' for json-file"):
            check_options("json-file", {"max-fils": "1m"})
