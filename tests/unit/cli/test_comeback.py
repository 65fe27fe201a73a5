"""The engine dies under a command, and the next one is asked for the rest: nothing twice."""

from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdocker import client, comeback
from mdocker.frames import Demultiplexer
from mdocker.place import Place
from mdocker.settings import Settings
from tests.unit.cli.fake_engine import frame

ID = "ab" * 32
PLACE = 4


def place(words):
    return frame(PLACE, words.encode() + b"\n")


def die(call):
    """End the connection as a dead engine does."""
    call.close_connection = True


def begin(call, resume=None, **more):
    """The head of a chunked answer that can be resumed."""
    call.send_response_only(200)
    call.send_header("Content-Type", "application/vnd.docker.multiplexed-stream")
    call.send_header("Transfer-Encoding", "chunked")
    if resume is not None:
        call.send_header("Mdocker-Resume", resume)
    for name, value in more.items():
        call.send_header(name.replace("_", "-"), value)
    call.end_headers()
    call.wfile.flush()


def upgrade(call, resume):
    call.send_response_only(101, "UPGRADED")
    call.send_header("Content-Type", "application/vnd.docker.multiplexed-stream")
    call.send_header("Connection", "Upgrade")
    call.send_header("Upgrade", "tcp")
    call.send_header("Mdocker-Resume", resume)
    call.end_headers()
    call.wfile.flush()
    call.close_connection = True


class Turns:
    """A route that answers differently each time; the last answer stays."""

    def __init__(self, *handlers):
        self.handlers = list(handlers)
        self.queries = []

    def __call__(self, call, *groups):
        self.queries.append(call.query)
        handler = self.handlers.pop(0) if len(self.handlers) > 1 else self.handlers[0]
        handler(call)


def test_a_followed_log_goes_on_behind_what_was_seen(engine, mdocker):
    def first(call):
        begin(call, "0")
        call.chunk(frame(1, b"one\n") + place("10"))
        call.chunk(frame(1, b"two\nthr"))
        die(call)

    def second(call):
        begin(call, "10")
        call.chunk(frame(1, b"two\n") + place("20") + frame(1, b"three\n") + place("30"))
        call.finish_chunks()

    turns = Turns(first, second)
    engine.on("GET", "/containers/a/logs", turns)
    assert mdocker("logs", "-f", "a") == (0, "one\ntwo\nthree\n", "")
    assert [query.get("resume") for query in turns.queries] == [None, "10"]


def test_an_engine_that_names_no_place_can_not_be_gone_on_with(engine, mdocker):
    def cut(call):
        call.begin()
        call.chunk(frame(1, b"one\n"))
        die(call)

    engine.on("GET", "/containers/a/logs", cut)
    result = mdocker("logs", "-f", "a")
    assert (result.code, result.out) == (1, "one\n")
    assert "closed the connection in the middle" in result.err


def test_a_log_that_was_removed_meanwhile_is_told(engine, mdocker):
    def first(call):
        begin(call, "0")
        die(call)

    engine.on("GET", "/containers/a/logs", Turns(first, lambda call: call.refuse(404, "gone")))
    result = mdocker("logs", "-f", "a")
    assert result.code == 1
    assert "a was removed while no engine was there" in result.err


def test_bytes_that_were_rotated_away_are_told(engine, mdocker):
    def first(call):
        begin(call, "0")
        call.chunk(frame(1, b"seen"))
        die(call)

    def second(call):
        begin(call, "0", Mdocker_Missed="1")
        call.chunk(frame(1, b"new\n"))
        call.finish_chunks()

    engine.on("GET", "/containers/a/logs", Turns(first, second))
    result = mdocker("logs", "-f", "a")
    assert (result.code, result.out) == (0, "seennew\n")
    assert "a part of the log of a was rotated away while no engine was there" in result.err


def test_several_logs_go_on_each_at_its_own_place(engine, mdocker):
    for name in ("a", "b"):
        identifier = name * 64
        engine.json("GET", f"/containers/{name}/json", {"Id": identifier, "Name": f"/{name}"})

        def first(call, name=name):
            begin(call, "0")
            call.chunk(frame(1, b"2026-01-01T00:00:00.1Z %b1\n" % name.encode()) + place("5"))
            call.chunk(frame(1, b"2026-01-01T00:00:00.2Z %b" % name.encode()))
            die(call)

        def second(call, name=name):
            assert call.query["resume"] == "5"
            begin(call, "5")
            call.chunk(frame(1, b"2026-01-01T00:00:00.2Z %b2\n" % name.encode()))
            call.finish_chunks()

        engine.on("GET", f"/containers/{identifier}/logs", Turns(first, second))
    result = mdocker("logs", "-f", "a", "b")
    assert result.code == 0
    assert sorted(result.out.splitlines()) == ["a | a1", "a | a2", "b | b1", "b | b2"]


def test_events_go_on_behind_the_last_one_that_was_seen(engine, mdocker):
    def event(number):
        return b'{"Type":"container","Action":"a%d","Actor":{},"timeNano":%d}\n' % (number, number)

    def first(call):
        begin(call, "100")
        call.chunk(event(101) + event(102)[:9])
        die(call)

    def second(call):
        begin(call, "101", Mdocker_Begins="1000000000")
        call.chunk(event(102) + event(103))
        call.finish_chunks()

    turns = Turns(lambda call: (begin(call, "100"), die(call)), first, second)
    engine.on("GET", "/events", turns)
    result = mdocker("events", "--format", "{{.Action}}")
    assert (result.code, result.out) == (0, "a101\na102\na103\n")
    assert [query.get("resume") for query in turns.queries] == [None, "100", "101"]
    assert "were forgotten meanwhile" in result.err


def test_an_engine_that_dies_before_it_answers_is_followed_by_one_that_does(engine, mdocker):
    def line(call):
        begin(call, "0")
        call.chunk(frame(1, b"one\n") + place("10"))
        call.finish_chunks()

    logs = Turns(die, die, line)
    engine.on("GET", "/containers/a/logs", logs)
    assert mdocker("logs", "a") == (0, "one\n", "")
    assert ["resume" in query for query in logs.queries] == [False] * 3


def test_what_only_ever_hangs_up_is_no_engine_that_dies(engine, mdocker, monkeypatch):
    monkeypatch.setattr(comeback, "PATIENCE_S", 0.05)
    hanging_up = Turns(die)
    engine.on("GET", "/events", hanging_up)
    result = mdocker("events")
    assert (result.code, result.out) == (1, "")
    assert "closed the connection" in result.err
    assert len(hanging_up.queries) > 1


def test_what_was_not_sent_at_all_is_sent_again(engine, monkeypatch):
    """A connection that hangs up before it takes a byte has done nothing, whatever was asked."""
    engine.json("POST", "/containers/create", {"Id": ID, "Warnings": []}, 201)
    ours, theirs = socket.socketpair()
    theirs.close()
    dialled = [ours]
    dial = client.dial
    monkeypatch.setattr(client, "dial", lambda path: dialled.pop() if dialled else dial(path))
    with client.Engine(Settings("", "", engine.path, False)) as asked:
        assert asked.call("POST", "/containers/create", None, {}).status == 201
    assert not dialled
    assert len(engine.seen("POST", "/containers/create")) == 1


@pytest.fixture
def foreground(engine):
    """A container that can be created; the rest is the test's."""
    engine.json("POST", "/containers/create", {"Id": ID, "Warnings": []}, 201)
    engine.json("POST", f"/containers/{ID}/start", None, 204)
    return engine


def test_the_foreground_outlives_the_engine(foreground, mdocker):
    def first(call):
        upgrade(call, "0.0.0")
        call.wfile.write(frame(1, b"$ ") + place("0.2.0") + frame(1, b"hello\nwor"))

    def second(call):
        upgrade(call, "0.2.0")
        call.wfile.write(frame(1, b"$ hello\n") + frame(1, b"world\n") + place("40.0.0"))
        call.wfile.write(frame(2, b"bye\n") + place("end"))

    attached = Turns(first, second)
    waited = Turns(
        lambda call: (begin(call, f"{ID}.5"), die(call)),
        lambda call: call.answer(200, {"StatusCode": 7}),
    )
    foreground.on("POST", f"/containers/{ID}/attach", attached)
    foreground.on("POST", f"/containers/{ID}/wait", waited)
    assert mdocker("run", "--rm", "host", "x") == (7, "$ hello\nworld\n", "bye\n")
    assert attached.queries[1]["resume"] == "0.2.0"
    assert waited.queries[1] == {"condition": "removed", "resume": f"{ID}.5"}


@pytest.mark.parametrize("how", ["ended", "was removed"])
def test_one_that_ends_right_behind_the_attaching_is_shown_to_its_end(engine, mdocker, how):
    """The engine knows that it ran when we were attached; what a look finds later says nothing."""

    def looked(running):
        state = {"Running": running, "Paused": False, "Restarting": False}
        config = {"Tty": False, "OpenStdin": False}
        return lambda call: call.answer(200, {"Id": ID, "State": state, "Config": config})

    def attached(call):
        upgrade(call, "0.0.0")
        call.wfile.write(frame(1, b"its last words\n") + place("end"))

    gone = looked(False) if how == "ended" else lambda call: call.answer(404, {"message": "gone"})
    engine.on("GET", f"/containers/(?:bird|{ID})/json", Turns(looked(True), gone))
    attaching = Turns(attached)
    engine.on("POST", f"/containers/{ID}/attach", attaching)
    engine.json("POST", f"/containers/{ID}/wait", {"StatusCode": 7})
    assert mdocker("attach", "bird") == (7, "its last words\n", "")
    assert attaching.queries[0]["running"] == "1"


def test_output_that_no_log_keeps_is_said_to_be_unknown(foreground, mdocker):
    def first(call):
        upgrade(call, "-")
        call.wfile.write(frame(1, b"one\n"))

    def second(call):
        upgrade(call, "-")
        call.wfile.write(frame(1, b"three\n") + place("end"))

    attached = Turns(first, second)
    foreground.on("POST", f"/containers/{ID}/attach", attached)
    foreground.json("POST", f"/containers/{ID}/wait", {"StatusCode": 0})
    result = mdocker("run", "--log-driver", "none", "host", "x")
    assert (result.code, result.out) == (0, "one\nthree\n")
    assert "is not known here, as its log driver keeps nothing" in result.err
    assert attached.queries[1]["resume"] == "-"


@pytest.mark.parametrize(
    ("about", "starts"),
    [
        ({"State": {"StartedAt": "0001-01-01T00:00:00Z"}}, 2),
        ({"State": {"StartedAt": "2026-01-01T00:00:00Z"}}, 1),
        (None, 1),
    ],
    ids=["it was not started", "it was", "it has gone already"],
)
def test_an_engine_that_dies_in_a_start_is_not_asked_twice(foreground, mdocker, about, starts):
    started = Turns(die, lambda call: call.answer(204))
    foreground.on("POST", f"/containers/{ID}/start", started)
    if about is None:
        foreground.refuse("GET", f"/containers/{ID}/json", 404, "No such container")
    else:
        foreground.json("GET", f"/containers/{ID}/json", about)

    def attached(call):
        upgrade(call, "0.0.0")
        call.wfile.write(place("end"))

    foreground.on("POST", f"/containers/{ID}/attach", attached)
    foreground.json("POST", f"/containers/{ID}/wait", {"StatusCode": 3})
    assert mdocker("run", "host", "x").code == 3
    assert len(started.queries) == starts


def test_a_wait_goes_on_with_the_same_end(engine, mdocker):
    def answered(call):
        call.answer(200, {"StatusCode": 9})

    turns = Turns(lambda call: (begin(call, f"{ID}.5"), die(call)), die, answered)
    engine.on("POST", "/containers/a/wait", turns)
    engine.json("POST", "/containers/b/wait", {"StatusCode": 0})
    assert mdocker("wait", "a", "b") == (0, "9\n0\n", "")
    assert [query.get("resume") for query in turns.queries] == [None, f"{ID}.5", f"{ID}.5"]


@pytest.mark.parametrize(
    ("words", "route"),
    [(("stop", "a"), ("POST", "/containers/a/stop")), (("rm", "a"), ("DELETE", "/containers/a"))],
)
def test_what_is_gone_when_it_is_asked_again_was_done(engine, mdocker, words, route):
    turns = Turns(die, lambda call: call.refuse(404, "No such container: a"))
    engine.on(*route, turns)
    assert mdocker(*words) == (0, "a\n", "")
    assert len(turns.queries) == 2


def test_a_container_to_wait_for_that_nobody_knows_any_more_is_an_error(engine, mdocker):
    turns = Turns(die, lambda call: call.refuse(404, "No such container: a"))
    engine.on("POST", "/containers/a/wait", turns)
    assert mdocker("wait", "a") == (1, "", "mdocker: No such container: a\n")


@pytest.mark.parametrize("verb", ["start", "kill", "restart"])
def test_what_may_have_been_done_is_not_done_twice(engine, mdocker, verb):
    turns = Turns(die)
    engine.on("POST", f"/containers/a/{verb}", turns)
    result = mdocker(verb, "a")
    assert result.code == 1
    assert "closed the connection in the middle of its answer" in result.err
    assert len(turns.queries) == 1


def test_none_comes_back(engine, mdocker, monkeypatch):
    monkeypatch.setattr(comeback, "PATIENCE_S", 0.05)
    monkeypatch.setattr(comeback, "_SILENT_S", 0.0)

    def last(call):
        begin(call, "0")
        engine._server.socket.close()
        die(call)

    engine.on("GET", "/containers/a/logs", last)
    result = mdocker("logs", "-f", "a")
    assert result.code == 1
    assert "waiting up to 0 s for the next one" in result.err
    assert "none came back within 0 s: containers go on running" in result.err


# ── the arithmetic ──────────────────────────────────────────────────────────────────────────────

RECORDS = st.lists(
    st.tuples(st.sampled_from((1, 2)), st.binary(min_size=1, max_size=6)), max_size=12
)


@given(RECORDS, st.lists(st.tuples(st.integers(0, 200), st.integers(1, 5)), max_size=4))
def test_whatever_is_cut_wherever_each_byte_is_shown_once(records, deaths):
    """A log of records; engines send it from a place on, with places in between, and die."""
    shown = {1: b"", 2: b""}
    mine = Place("0")

    def sent(start, every):
        for index in range(start, len(records)):
            yield from frame(*records[index])
            if (index + 1) % every == 0:
                yield from frame(PLACE, b"%d\n" % (index + 1))

    for length, every in [*deaths, (10**6, 3)]:
        stream = memoryview(bytes(sent(int(mine.token), every))[:length])
        frames = Demultiplexer()
        for start in range(0, len(stream), 7):
            for number, view in mine.take(frames.feed(stream[start : start + 7])):
                shown[number] += bytes(view)
        mine.cut()
    for number in (1, 2):
        assert shown[number] == b"".join(data for stream, data in records if stream == number)


def test_a_queue_that_nobody_serves_is_left(engine, mdocker, monkeypatch):
    """The shim keeps the listening socket: to connect is possible, and nobody answers."""
    monkeypatch.setattr(comeback, "PATIENCE_S", 0.1)
    monkeypatch.setattr(comeback, "_SILENT_S", 0.05)
    over = threading.Event()

    def first(call):
        begin(call, "0")
        die(call)

    engine.on("GET", "/containers/a/logs", Turns(first, lambda call: over.wait(10)))
    result = mdocker("logs", "-f", "a")
    over.set()
    assert result.code == 1
    assert "waiting up to 0 s for the next one" in result.err
    assert "none came back within 0 s: containers go on running" in result.err
