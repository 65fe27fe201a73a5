"""`timeline`: the picture, its forms, and the bars on their axis."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdocker.bars import BLOCKS, PLAIN, Span, bars
from mdocker.units import human_span

MS = 10**6
NEVER = "0001-01-01T00:00:00Z"


def at(seconds):
    return f"2026-01-02T15:{int(seconds // 60):02d}:{seconds % 60:012.9f}Z"


def phase(name, began, ended, note="", count=1):
    took = ((100 if ended is None else ended) - began) * 1e9
    return {
        "Name": name,
        "Began": at(began),
        "Ended": NEVER if ended is None else at(ended),
        "DurationNs": round(took),
        "Note": note,
        "Count": count,
    }


LIFE = {
    "Id": "0123456789ab" + "c" * 52,
    "Name": "/bird",
    "State": "running",
    "Now": at(100),
    "Forgotten": 0,
    "Phases": [
        phase("create", 0, 0.0005),
        phase("start", 1, 1.004),
        phase("start.spawn", 1, 1.003),
        phase("start.init", 1.003, 1.004),
        phase("run", 1.004, 40, "SIGKILL"),
        phase("signal", 5, 30, "SIGUSR1", count=3),
        phase("run", 41, None),
    ],
    "Supervisors": [
        {"Pid": 77, "Began": at(20), "Ready": at(20.25), "DurationNs": 250 * MS, "Adopted": 3}
    ],
}


@pytest.fixture
def life(engine, monkeypatch):
    engine.json("GET", "/containers/bird/timeline", LIFE)
    monkeypatch.setenv("COLUMNS", "90")
    return engine


def test_the_picture(life, mdocker):
    code, out, err = mdocker("timeline", "bird")
    assert (code, err) == (0, "")
    headline, heading, *rows = out.splitlines()
    assert headline == "bird (0123456789ab): running, created 1m 40s ago"
    assert heading.split() == ["PHASE", "AFTER", "TOOK"]
    assert [row.split()[0] for row in rows] == [
        *("create", "start", "spawn", "init", "run", "signal", "supervisor", "run"),
    ]
    assert rows[0].split()[1:3] == ["0", "0.50"]
    assert rows[2].startswith("  spawn ")
    assert rows[4].endswith("  SIGKILL")
    assert rows[5].endswith("  SIGUSR1 (3 times)")
    assert "◆" in rows[5]
    assert rows[6].endswith("  a new supervisor, pid 77")
    assert rows[7].endswith("▶")
    assert all(len(row) <= 90 for row in rows)


def test_no_picture_without_the_letters_for_it(life, spawn):
    process = spawn("timeline", "bird", env={"PYTHONIOENCODING": "ascii", "COLUMNS": "90"})
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, b"")
    assert b"#" in out and b">" in out


def test_many_supervisors_are_told_in_one_line_more(life, mdocker):
    coming = [
        {"Pid": pid, "Began": at(20), "Ready": at(20.25), "DurationNs": 250 * MS, "Adopted": 3}
        for pid in range(100, 130)
    ]
    life.json("GET", "/containers/bird/timeline", {**LIFE, "Supervisors": coming})
    rows = [row for row in mdocker("timeline", "bird").out.splitlines() if "supervisor" in row]
    assert len(rows) == 8
    assert rows[0].endswith("a new supervisor, pid 122, and 22 before it")
    assert rows[-1].endswith("pid 129")


def test_what_is_forgotten_is_said(life, mdocker):
    life.json("GET", "/containers/bird/timeline", {**LIFE, "Forgotten": 12})
    assert (
        mdocker("timeline", "bird").out.splitlines()[0].endswith("; 12 older phases are forgotten")
    )


def test_a_life_without_phases(life, mdocker):
    """Of a container that an earlier mdocker made."""
    life.json("GET", "/containers/bird/timeline", {**LIFE, "Phases": [], "Supervisors": []})
    assert mdocker("timeline", "bird").out == "bird (0123456789ab): running\n"


def test_forms(life, mdocker):
    assert json.loads(mdocker("timeline", "bird", "--format", "json").out) == LIFE
    template = "{{range .Phases}}{{.Name}} {{end}}"
    assert mdocker("timeline", "-f", template, "bird").out.split()[0] == "create"


def test_several_and_one_that_is_not_there(life, mdocker):
    code, out, err = mdocker("timeline", "bird", "nosuch", "bird")
    assert code == 1
    assert out.count("created 1m 40s ago") == 2
    assert "page not found" in err


SPANS = st.lists(
    st.tuples(st.integers(0, 10**12), st.one_of(st.none(), st.integers(0, 10**12)), st.booleans()),
    min_size=1,
    max_size=12,
)


@given(SPANS, st.integers(1, 120), st.booleans())
def test_bars_are_in_order_and_none_is_invisible(drawn, width, linear):
    now = 2 * 10**12
    spans = [
        Span(begin, None if length is None else begin + length, part)
        for begin, length, part in drawn
    ]
    shown = bars(spans, now, width, PLAIN, linear=linear)
    for span, bar in zip(spans, shown, strict=True):
        assert 1 <= len(bar.strip()) <= len(bar) <= width
        assert bar.endswith(PLAIN.going_on) == (span.end is None)
    lefts = [len(bar) - len(bar.lstrip()) for bar in shown]
    by_begin = sorted(zip((span.begin for span in spans), lefts, strict=True))
    assert [left for _, left in by_begin] == sorted(lefts)


def test_linear_is_true_and_the_other_shows_what_is_short():
    spans = [Span(0, 3 * MS), Span(3 * MS, 3_000 * MS)]
    assert bars(spans, 0, 40, BLOCKS, linear=True) == ["█", "█" * 40]
    short, long = bars(spans, 0, 40, BLOCKS)
    assert 5 < len(short) < 12
    assert abs(len(long.lstrip()) - (40 - len(short))) <= 1
    assert len(long) == 40


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00 ms"),
        (0.00045, "0.45 ms"),
        (0.0129, "12.9 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (59.94, "59.9 s"),
        (59.96, "1m 0s"),
        (3599, "59m 59s"),
        (3600, "1h 0m"),
        (86399, "23h 59m"),
        (86400 * 30 + 7200, "30d 2h"),
    ],
)
def test_spans_of_time_in_words(seconds, text):
    assert human_span(seconds) == text
