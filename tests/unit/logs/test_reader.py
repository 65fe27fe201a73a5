"""Reading logs back: by every option, at every block size, and through garbage."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logs import json_text, k8s_text, tailing
from logs.drivers import open_log
from logs.framing import Demultiplexer, Stream
from logs.json_text import unescape
from logs.reader import LogNotReadable, read
from tests.unit.logs import model

FORMATS = ["json-file", "k8s-file"]
NUMBERS = {"stdout": Stream.STDOUT, "stderr": Stream.STDERR}
SECOND = 10**9

TEXTS = st.one_of(
    st.sampled_from(
        [
            b"",
            b"plain words",
            b"C:\\n",
            b"\\",
            b'"',
            b'a","stream":"stderr","time":"x"}',
            b'{"log":"',
            b"tab\there <b>&amp;</b>",
            "é€𝄞\u2028".encode(),
            b"2026-11-21T00:00:00.000000000Z stdout F x",
            b"x" * 700,
        ]
    ),
    st.binary(max_size=30).map(lambda text: text.replace(b"\n", b"")),
)
TIMES = st.one_of(
    st.sampled_from([0, 1, 5 * SECOND, 5 * SECOND + 120_000_000]), st.integers(0, 20 * SECOND)
)


@st.composite
def runs(draw):
    """Records as a pump writes them: some in a row share stream and time."""
    stream, time_ns = draw(st.sampled_from(sorted(NUMBERS))), draw(TIMES)
    ends = st.sampled_from([b"\n", b"\n", b"\n", b""])
    made = draw(st.lists(st.tuples(TEXTS, ends), min_size=1, max_size=4))
    repeat = draw(st.sampled_from([1, 1, 2, 40]))
    return [
        model.Record(stream, text + end, model.MIDNIGHT + time_ns) for text, end in made * repeat
    ]


RECORDS = st.lists(runs(), max_size=6).map(lambda lists: [one for some in lists for one in some])


@st.composite
def wishes(draw):
    moments = st.none() | TIMES.map(lambda time_ns: model.MIDNIGHT + time_ns)
    return {
        "streams": draw(st.sampled_from([["stdout"], ["stderr"], ["stdout", "stderr"]])),
        "tail": draw(st.none() | st.integers(0, 30)),
        "since_ns": draw(moments),
        "until_ns": draw(moments),
        "timestamps": draw(st.booleans()),
    }


def chosen(records, driver, wish):
    """What a reader must show, as (stream, text), record by record."""
    tail = wish["tail"]
    if tail is not None:
        records = records[len(records) - tail :] if tail < len(records) else records
    shown = []
    for record in records:
        if wish["since_ns"] and record.time_ns < wish["since_ns"]:
            continue
        if wish["until_ns"] and record.time_ns > wish["until_ns"]:
            break
        if record.stream in wish["streams"]:
            prefix = model.long_time(record.time_ns).encode() + b" " if wish["timestamps"] else b""
            shown.append((record.stream, prefix + model.TEXT[driver](record)))
    return shown


def options(wish):
    return {**wish, "streams": [NUMBERS[name] for name in wish["streams"]]}


def demultiplexed(wire):
    demultiplexer = Demultiplexer()
    parts = list(demultiplexer.feed(wire))
    assert not demultiplexer.midway
    return parts


def same(parts, shown):
    """Equal, however the texts of one stream are cut."""
    for name, number in NUMBERS.items():
        got = b"".join(text for stream, text in parts if stream == number)
        assert got == b"".join(text for stream, text in shown if stream == name)
    got_order = b"".join(text for _, text in parts)
    assert got_order == b"".join(text for _, text in shown)


PROPERTY = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(params=[True, False], ids=["small", "real"])
def spans(request, monkeypatch):
    """With small spans a few records are enough to go every way through the code."""
    if request.param:
        for module in (json_text, k8s_text):
            monkeypatch.setattr(module, "_SHORT_RUN", 200)
            monkeypatch.setattr(module, "_FIRST_SPAN", 150)
            monkeypatch.setattr(module, "_LONG_RUN", 900)
            monkeypatch.setattr(module, "_SINGLES", 400)
        monkeypatch.setattr(tailing, "_BLOCK", 64)


@pytest.mark.parametrize("driver", FORMATS)
@PROPERTY
@given(records=RECORDS, wish=wishes(), block_size=st.sampled_from([1, 100, 1000, 1 << 20]))
def test_every_wish(driver, tmp_path, spans, records, wish, block_size):
    path = tmp_path / "log"
    path.write_bytes(b"".join(map(model.LINE[driver], records)))
    shown = chosen(records, driver, wish)
    bare = list(read(path, driver, **options(wish), block_size=block_size))
    assert b"".join(bare) == b"".join(text for _, text in shown)
    assert all(bare)
    framed = b"".join(read(path, driver, **options(wish), framed=True, block_size=block_size))
    same(demultiplexed(framed), shown)
    asked = {**options(wish), "framed": True, "lined": True}
    frames = list(
        Demultiplexer().feed(b"".join(read(path, driver, **asked, block_size=block_size)))
    )
    same(frames, shown)
    assert all(b"\n" not in text[:-1] for _, text in frames)


GARBAGE = [
    b"",
    b"garbage",
    b"{",
    b'{"log":"no end',
    b'{"log":1,"stream":"stdout","time":"2026-11-21T00:00:00Z"}',
    b'{"log":"x","stream":"stdin","time":"2026-11-21T00:00:00Z"}',
    b'{"log":"x","stream":["stdout"],"time":"2026-11-21T00:00:00Z"}',
    b'{"log":"bad \\escape","stream":"stdout","time":"2026-11-21T00:00:00Z"}',
    b"[" * 20000,
    b"null",
    b"\x00" * 100,
    b"\xff\xfe",
    b"2026-11-21T00:00:00.000000000Z stdout",
    b"2026-11-21T00:00:00.000000000Z stdout X nothing",
    b"yesterday",
    b" 2026-11-21T00:00:00.000000000Z stdout F indented",
]


@pytest.mark.parametrize("driver", FORMATS)
@PROPERTY
@given(
    records=RECORDS,
    wish=wishes(),
    garbage=st.lists(st.tuples(st.integers(0, 60), st.sampled_from(GARBAGE)), max_size=4),
)
def test_garbage_between_records_is_skipped(driver, tmp_path, spans, records, wish, garbage):
    wish["tail"] = None  # which counts garbage as it counts records
    lines = list(map(model.LINE[driver], records))
    for at, line in garbage:
        lines.insert(at, line + b"\n")
    path = tmp_path / "log"
    path.write_bytes(b"".join(lines))
    framed = b"".join(read(path, driver, **options(wish), framed=True, block_size=1000))
    same(demultiplexed(framed), chosen(records, driver, wish))


@pytest.mark.parametrize("driver", FORMATS)
@pytest.mark.parametrize("size", [10, 5000, 3 << 20])
def test_torn_end_and_endless_line(driver, tmp_path, size):
    record = model.Record("stdout", b"text\n", model.MIDNIGHT)
    line, path = model.LINE[driver](record), tmp_path / "log"
    path.write_bytes(line + b"x" * size + b"\n" + line + b"x" * size)
    assert b"".join(read(path, driver)) == b"text\n" * 2
    assert b"".join(read(path, driver, tail=1)) == b""  # the torn one
    assert b"".join(read(path, driver, tail=2)) == b"text\n"


@pytest.mark.parametrize("driver", FORMATS)
def test_empty_log(driver, tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"")
    assert list(read(path, driver, tail=5, since_ns=1, framed=True)) == []


@pytest.mark.parametrize("driver", FORMATS)
def test_reads_no_further_than_the_log_was(driver, tmp_path):
    log = open_log(driver, tmp_path, "ab" * 32)
    log.stream(Stream.STDOUT).append(b"one\ntwo\n")
    chunks = read(log.path, driver, log=log)
    tail = read(log.path, driver, log=log, tail=1)
    log.stream(Stream.STDOUT).append(b"three\n")
    assert b"".join(chunks) == b"one\ntwo\n"
    assert b"".join(tail) == b"two\n"
    log.close()


def test_a_log_cut_while_it_is_read_ends(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(model.json_line(model.Record("stdout", b"text\n", model.MIDNIGHT)) * 1000)
    chunks = read(path, "json-file", block_size=1000)
    assert next(chunks).startswith(b"text\n")
    with path.open("r+b") as file:
        file.truncate(0)
    assert list(chunks) == []


def test_lines_of_other_writers(tmp_path):
    """Docker with attributes, another order, spaces, offsets, and pieces of UTF-16."""
    stamp = "2026-11-21T01:00:00.5+01:00"
    lines = [
        {"log": "a\n", "stream": "stdout", "attrs": {"env": "x"}, "time": "2026-11-21T00:00:00Z"},
        {"time": stamp, "stream": "stderr", "log": "b\n"},
        {"log": "\ud83d\n", "stream": "stdout", "time": stamp},
    ]
    path = tmp_path / "log"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert list(read(path, "json-file", timestamps=True)) == [
        b"2026-11-21T00:00:00.000000000Z a\n"
        b"2026-11-21T00:00:00.500000000Z b\n"
        b"2026-11-21T00:00:00.500000000Z \xef\xbf\xbd\n"
    ]


def test_conmon_s_k8s_lines(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(
        b"2026-11-21T01:00:00.500000000+01:00 stdout P one \n"
        b"2026-11-21T01:00:00.500000001+01:00 stdout F two\n"
        b"2026-11-21T01:00:00.600000000+01:00 stderr F\n"
        b"2026-11-21T01:00:00.700000000+01:00 stderr F:tag three\n"
    )
    assert b"".join(read(path, "k8s-file")) == b"one two\n\nthree\n"
    since = model.MIDNIGHT + 600_000_000
    assert b"".join(read(path, "k8s-file", since_ns=since)) == b"\nthree\n"


@given(st.text().map(lambda text: text.encode("utf-8", "replace")))
def test_unescape_undoes_every_json_writer(text):
    for ascii_only in (True, False):
        quoted = json.dumps(text.decode(), ensure_ascii=ascii_only).encode()
        assert unescape(quoted[1:-1]) == text


def test_driver_none_is_refused(tmp_path):
    with pytest.raises(LogNotReadable, match="does not support reading"):
        read(tmp_path / "log", "none")
