"""`logs`: one container byte for byte, several merged by time; `events`."""

from __future__ import annotations

import contextlib
import json
import os
import threading

import pytest

from tests.unit.cli.fake_engine import frame

RAW = "application/vnd.docker.raw-stream"


def stamp(second, text):
    return f"2026-01-02T15:04:{second:02d}.000000000Z {text}\n".encode()


def with_logs(engine, name, *parts, hold=None, content_type=None):
    """Give the engine a container with a log that comes in these parts."""

    def logs(call):
        call.begin(content_type or "application/vnd.docker.multiplexed-stream")
        for part in parts:
            if isinstance(part, threading.Event):
                part.wait(5)
            else:
                call.chunk(part)
        if hold is not None:
            hold.wait(5)
        call.finish_chunks()

    engine.json("GET", f"/containers/{name}/json", {"Id": name * 8, "Name": f"/{name}"})
    engine.on("GET", f"/containers/{name}/logs", logs)
    engine.on("GET", f"/containers/{name * 8}/logs", logs)


def test_one_container(engine, mdocker):
    with_logs(engine, "a", frame(1, b"out\n")[:5], frame(1, b"out\n")[5:] + frame(2, b"err\n"))
    assert mdocker("logs", "a") == (0, "out\n", "err\n")
    assert engine.requests == [
        (
            "GET",
            "/containers/a/logs",
            {"stdout": "1", "stderr": "1", "tail": "all", "places": "1"},
            b"",
        )
    ]


def test_options(engine, mdocker):
    with_logs(engine, "a")
    mdocker("logs", "-ft", "-n", "5", "--since", "1767366245", "--until=2026-01-02T15:04:05Z", "a")
    assert engine.requests[0][2] == {
        "stdout": "1",
        "stderr": "1",
        "follow": "1",
        "timestamps": "1",
        "tail": "5",
        "places": "1",
        "since": "1767366245.000000000",
        "until": "1767366245.000000000",
    }


def test_raw_streams_have_no_frames(engine, mdocker):
    with_logs(engine, "a", b"\1\2\3 raw\n", content_type=RAW)
    assert mdocker("logs", "a") == (0, "\1\2\3 raw\n", "")


def test_negative_tail_is_all(engine, mdocker):
    with_logs(engine, "a")
    mdocker("logs", "--tail=-1", "a")
    assert engine.requests[0][2]["tail"] == "all"


@pytest.mark.parametrize(
    ("words", "code"), [(("-n", "few"), 125), (("--since", "never"), 1), (("--until", "1 s"), 1)]
)
def test_bad_options(engine, mdocker, words, code):
    """Docker's client finds out too that a time is none, but after it has bound the options."""
    result = mdocker("logs", *words, "a")
    assert result.code == code
    assert result.err.startswith("mdocker: ")
    assert not engine.requests


def test_refused(engine, mdocker):
    text = "configured logging driver does not support reading"
    engine.refuse("GET", "/containers/a/logs", 501, text)
    assert mdocker("logs", "a") == (1, "", f"mdocker: {text}\n")


def test_a_great_log_arrives_whole(engine, spawn):
    """Frames and chunks of awkward sizes; 32 MiB of them."""
    payload = os.urandom(1 << 20)
    stream = b"".join(frame(1, payload[at : at + 77_777]) for at in range(0, len(payload), 77_777))

    def logs(call):
        call.begin()
        for _ in range(32):
            call.chunk(stream[:100_003])
            call.chunk(stream[100_003:])
        call.finish_chunks()

    engine.on("GET", "/containers/a/logs", logs)
    process = spawn("logs", "a")
    assert process.stdout.read() == payload * 32
    assert process.wait(10) == 0


def test_follow_shows_at_once(engine, spawn):
    more = threading.Event()
    with_logs(
        engine, "a", frame(1, b"one\n"), more, frame(1, b"two\n"), hold=(end := threading.Event())
    )
    process = spawn("logs", "-f", "a")
    assert process.stdout.readline() == b"one\n"
    more.set()
    assert process.stdout.readline() == b"two\n"
    end.set()
    assert process.wait(10) == 0


def test_follow_ends_when_nobody_reads(engine, spawn):
    """`logs -f | head -1` ends at once, not at the next line."""
    end = threading.Event()
    with_logs(engine, "a", frame(1, b"one\n"), hold=end)
    process = spawn("logs", "-f", "a")
    assert process.stdout.readline() == b"one\n"
    process.stdout.close()
    assert process.wait(10) == 141
    assert process.stderr.read() == b""
    end.set()


def test_follow_of_several_ends_when_nobody_reads(engine, spawn):
    end = threading.Event()
    with_logs(engine, "a", frame(1, stamp(1, "one")), hold=end)
    with_logs(engine, "b", hold=end)
    process = spawn("logs", "-f", "a", "b")
    assert process.stdout.readline() == b"a | one\n"
    process.stdout.close()
    assert process.wait(10) == 141
    assert process.stderr.read() == b""
    end.set()


def test_ctrl_c(engine, spawn):
    end = threading.Event()
    with_logs(engine, "a", frame(1, b"one\n"), hold=end)
    process = spawn("logs", "-f", "a")
    assert process.stdout.readline() == b"one\n"
    process.send_signal(2)
    assert process.wait(10) == 130
    assert process.stderr.read() == b""
    end.set()


def test_the_engine_dies_in_the_middle(engine, mdocker):
    def logs(call):
        call.begin()
        call.chunk(frame(1, b"one\n"))
        call.close_connection = True

    engine.on("GET", "/containers/a/logs", logs)
    result = mdocker("logs", "a")
    assert result.code == 1
    assert result.out == "one\n"
    assert "the engine closed the connection" in result.err


class TestSeveral:
    def test_merged_by_time(self, engine, mdocker):
        with_logs(engine, "a", frame(1, stamp(1, "a1") + stamp(4, "a4")), frame(1, stamp(5, "a5")))
        with_logs(engine, "bb", frame(1, stamp(2, "b2")), frame(2, stamp(3, "b3")))
        result = mdocker("logs", "a", "bb")
        assert result.code == 0
        assert result.out == "a  | a1\nbb | b2\na  | a4\na  | a5\n"
        assert result.err == "bb | b3\n"
        assert all(request[2]["timestamps"] == "1" for request in engine.seen("GET", ".*/logs"))

    def test_with_timestamps(self, engine, mdocker):
        with_logs(engine, "a", frame(1, stamp(1, "x y")))
        with_logs(engine, "b")
        assert mdocker("logs", "-t", "a", "b").out == "a | 2026-01-02T15:04:01.000000000Z x y\n"

    def test_a_slow_source_is_waited_for(self, engine, mdocker):
        """Without --follow the order is exact, however late the earliest line comes."""
        late = threading.Event()
        with_logs(engine, "a", late, frame(1, stamp(1, "first")))

        def logs(call):
            call.begin()
            call.chunk(frame(1, stamp(2, "second")))
            call.finish_chunks()
            late.set()

        with_logs(engine, "b")
        engine.on("GET", "/containers/b{8}/logs", logs)
        assert mdocker("logs", "a", "b").out == "a | first\nb | second\n"

    def test_a_line_cut_in_two(self, engine, mdocker):
        line = frame(1, stamp(1, "whole"))
        with_logs(engine, "a", line[:20], line[20:50], line[50:])
        with_logs(engine, "b", frame(1, stamp(2, "no end")[:-1]))
        assert mdocker("logs", "a", "b").out == "a | whole\nb | no end\n"

    def test_one_that_is_not_there(self, engine, mdocker):
        with_logs(engine, "a", frame(1, stamp(1, "x")))
        engine.refuse("GET", "/containers/nope/json", 404, "No such container: nope")
        result = mdocker("logs", "nope", "a")
        assert result == (1, "a | x\n", "mdocker: No such container: nope\n")

    def test_follow_does_not_wait_for_the_silent(self, engine, spawn):
        end = threading.Event()
        more = threading.Event()
        with_logs(
            engine, "a", frame(1, stamp(2, "two")), more, frame(1, stamp(1, "late")), hold=end
        )
        with_logs(engine, "b", hold=end)
        process = spawn("logs", "-f", "a", "b")
        assert process.stdout.readline() == b"a | two\n"
        more.set()
        assert process.stdout.readline() == b"a | late\n"
        end.set()
        assert process.wait(10) == 0

    def test_the_silent_do_not_hold_up_the_talkative(self, engine, spawn):
        """One that never stops talking is shown although another says nothing at all."""
        end = threading.Event()
        with_logs(engine, "b", hold=end)

        def chatter(call):
            call.begin()
            number = 0
            while not end.wait(0.005):
                number += 1
                call.chunk(frame(1, stamp(1, f"chirp {number}")))
            call.finish_chunks()

        with_logs(engine, "a")
        engine.on("GET", "/containers/a{8}/logs", chatter)
        process = spawn("logs", "-f", "a", "b")
        assert process.stdout.readline() == b"a | chirp 1\n"
        end.set()
        assert process.wait(10) == 0

    def test_history_is_merged_before_it_goes_live(self, engine, spawn):
        end = threading.Event()
        with_logs(engine, "a", frame(1, stamp(2, "two")), hold=end)
        with_logs(engine, "b", frame(1, stamp(1, "one") + stamp(3, "three")), hold=end)
        process = spawn("logs", "-f", "a", "b")
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines == [b"b | one\n", b"a | two\n", b"b | three\n"]
        end.set()
        assert process.wait(10) == 0

    def test_far_ahead(self, engine, mdocker):
        """A source that is far ahead waits in its socket, and nothing is lost."""
        many = b"".join(stamp(1, f"line {number}") for number in range(50_000))
        with_logs(
            engine, "a", *(frame(1, many[at : at + 60_000]) for at in range(0, len(many), 60_000))
        )
        with_logs(engine, "b", frame(1, stamp(0, "early")))
        lines = mdocker("logs", "a", "b").out.splitlines()
        assert lines[0] == "b | early"
        assert lines[1:] == [f"a | line {number}" for number in range(50_000)]

    def test_colours_on_a_terminal_only(self, engine, spawn):
        with_logs(engine, "a", frame(1, stamp(1, "x")))
        with_logs(engine, "b", frame(1, stamp(2, "y")))

        def shown(**env):
            ours, theirs = os.openpty()
            process = spawn("logs", "a", "b", stdout=theirs, env=env)
            os.close(theirs)
            out = b""
            try:
                while part := os.read(ours, 1000):
                    out += part
            except OSError:
                pass
            os.close(ours)
            assert process.wait(10) == 0
            return out

        assert shown(TERM="xterm") == b"\x1b[36ma | \x1b[0mx\r\n\x1b[33mb | \x1b[0my\r\n"
        assert shown(TERM="xterm", NO_COLOR="1") == b"a | x\r\nb | y\r\n"


class TestGrep:
    def test_of_one(self, engine, mdocker):
        lines = stamp(1, "one error") + stamp(2, "fine") + stamp(3, "two Errors")
        with_logs(engine, "a", frame(1, lines), frame(2, stamp(4, "error on stderr")))
        assert mdocker("logs", "--grep", "error", "a") == (0, "one error\n", "error on stderr\n")
        assert mdocker("logs", "--grep", "(?i)error$|^f", "a").out == "one error\nfine\n"
        assert mdocker("logs", "-t", "--grep", "^two", "a").out == (
            "2026-01-02T15:04:03.000000000Z two Errors\n"
        )
        assert mdocker("logs", "--grep", "2026", "a") == (0, "", "")
        assert engine.seen("GET", ".*/logs")[0][2]["timestamps"] == "1"

    def test_of_several(self, engine, mdocker):
        with_logs(engine, "a", frame(1, stamp(1, "x1") + stamp(4, "y4")))
        with_logs(engine, "bb", frame(1, stamp(2, "y2") + stamp(3, "x3")))
        assert mdocker("logs", "--grep", "x", "a", "bb").out == "a  | x1\nbb | x3\n"

    def test_lines_of_a_terminal(self, engine, mdocker):
        with_logs(engine, "a", frame(1, stamp(1, "one\r") + stamp(2, "one two\r")))
        assert mdocker("logs", "--grep", "one$", "a").out == "one\r\n"

    def test_bytes_that_are_no_text(self, engine, mdocker):
        with_logs(engine, "a", frame(1, stamp(1, "").removesuffix(b"\n") + b"\xff\xc3\xa4\n"))
        assert mdocker("logs", "--grep", "ä", "a").code == 0

    def test_a_log_of_which_nothing_is_shown(self, engine, mdocker):
        """It neither holds up the others nor fills the memory."""
        many = b"".join(stamp(1, f"line {number}") for number in range(50_000))
        with_logs(
            engine, "a", *(frame(1, many[at : at + 60_000]) for at in range(0, len(many), 60_000))
        )
        with_logs(engine, "b", frame(1, stamp(2, "late")))
        assert mdocker("logs", "--grep", "late|line 4999.$", "a", "b").out.splitlines() == [
            *(f"a | line {number}" for number in range(49_990, 50_000)),
            "b | late",
        ]

    def test_what_was_found_is_coloured_on_a_terminal(self, engine, spawn):
        with_logs(engine, "a", frame(1, stamp(1, "an error, an error")))
        ours, theirs = os.openpty()
        process = spawn("logs", "--grep", "err|x*", "a", stdout=theirs, env={"TERM": "xterm"})
        os.close(theirs)
        out = b""
        with contextlib.suppress(OSError):
            while part := os.read(ours, 1000):
                out += part
        os.close(ours)
        assert process.wait(10) == 0
        assert out == b"an \x1b[1;31merr\x1b[0mor, an \x1b[1;31merr\x1b[0mor\r\n"

    @pytest.mark.parametrize("expression", ["(", "*", "[z-a]", "a{1}{2}"])
    def test_what_is_no_expression(self, engine, mdocker, expression):
        result = mdocker("logs", "--grep", expression, "a")
        assert result.code == 1
        assert f'invalid argument "{expression}" for "--grep"' in result.err
        assert not engine.requests


class TestChosen:
    """--all and --filter: whoever there is, however many, each with its name."""

    @pytest.fixture
    def two(self, engine):
        with_logs(engine, "a", frame(1, stamp(1, "x")))
        with_logs(engine, "b", frame(1, stamp(2, "y")))
        return engine

    def test_all(self, two, mdocker):
        listed = [{"Names": [f"/{name}"], "State": "exited"} for name in "ab"]
        two.json("GET", "/containers/json", listed)
        assert mdocker("logs", "--all").out == "a | x\nb | y\n"
        assert two.requests[0][2] == {"all": "1"}

    def test_one_that_fits(self, two, mdocker):
        two.json("GET", "/containers/json", [{"Names": ["/b"], "State": "running"}])
        assert mdocker("logs", "--filter", "label=x").out == "b | y\n"
        assert two.requests[0][2] == {"all": "1", "filters": '{"label":{"x":true}}'}

    def test_none(self, engine, mdocker):
        engine.json("GET", "/containers/json", [])
        assert mdocker("logs", "-f", "--all") == (0, "", "")

    def test_names_or_all(self, engine, mdocker):
        assert "requires at least 1 argument, or --all or --filter" in mdocker("logs").err
        assert "names or --all, not both" in mdocker("logs", "--all", "a").err


EVENT = {
    "Type": "container",
    "Action": "die",
    "Actor": {"ID": "abc", "Attributes": {"name": "bird", "exitCode": "0"}},
    "scope": "local",
    "time": 1767366245,
    "timeNano": 1767366245000000005,
}


@pytest.fixture
def happening(engine):
    def events(call):
        call.begin("application/json")
        line = json.dumps(EVENT).encode() + b"\n"
        call.chunk(line[:30])
        call.chunk(line[30:] + line)
        call.finish_chunks()

    engine.on("GET", "/events", events)
    return engine


def test_events(happening, mdocker, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    __import__("time").tzset()
    result = mdocker("events", "--since", "5", "-f", "event=die", "--filter", "event=start")
    line = "2026-01-02T15:04:05.000000005Z container die abc (exitCode=0, name=bird)\n"
    assert result == (0, line * 2, "")
    query = happening.requests[0][2]
    assert query["since"] == "5.000000000"
    assert json.loads(query["filters"]) == {"event": {"die": True, "start": True}}


def test_events_formatted(happening, mdocker):
    assert mdocker("events", "--format", "{{.Action}} {{.Actor.Attributes.name}}").out == (
        "die bird\n" * 2
    )
    assert [
        json.loads(line) for line in mdocker("events", "--format", "json").out.splitlines()
    ] == [
        EVENT,
        EVENT,
    ]
    assert "no field" in mdocker("events", "--format", "{{.Nope}}").err
    assert mdocker("events", "--format", "{{.TimeNano}} {{.Scope}}").code == 0
    # As JSON the fields have the names that they came with.
    as_json = mdocker("events", "--format", "{{json .}}").out
    assert [json.loads(line) for line in as_json.splitlines()] == [EVENT, EVENT]
