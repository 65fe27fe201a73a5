"""`ps --watch`: shown anew at each event, and not asked for in between."""

from __future__ import annotations

import fcntl
import os
import queue
import signal
import struct
import termios
import time

import pytest

EVENT = b'{"Type":"container","Action":"start","timeNano":1}\n'


class Flock:
    """An engine with containers that the test changes, and an event for each change."""

    def __init__(self, engine):
        self.engine = engine
        self.states = {"a": "running"}
        self.age_s = 300
        self._happened = queue.Queue()
        engine.on("GET", "/containers/json", self._list)
        engine.on("GET", "/events", self._events)

    def _list(self, call):
        call.answer(
            200,
            [
                {"Id": name * 64, "Names": [f"/{name}"], "State": state, "Status": f"Is {state}",
                 "Image": "host", "Command": "x", "Created": int(time.time()) - self.age_s}
                for name, state in self.states.items()
            ],
        )  # fmt: skip

    def _events(self, call):
        call.begin("application/json")
        while (event := self._happened.get()) is not None:
            call.chunk(event)
        call.close_connection = True

    def change(self, **states):
        self.states |= states
        self._happened.put(EVENT)

    def hang_up(self):
        """The engine dies: the events end in the middle."""
        self._happened.put(None)

    @property
    def lists(self):
        return len(self.engine.seen("GET", "/containers/json"))


@pytest.fixture
def flock(engine):
    made = Flock(engine)
    yield made
    made.hang_up()


FORMAT = ("--format", "{{.Names}} {{.Status}}")


def test_a_page_for_each_change(flock, spawn):
    process = spawn("ps", "-aw", *FORMAT, "-f", "label=x")
    assert process.stdout.readline() == b"a Is running\n"
    flock.change(a="paused")
    assert [process.stdout.readline() for _ in range(2)] == [b"\n", b"a Is paused\n"]
    flock.change(b="created")
    lines = [process.stdout.readline() for _ in range(3)]
    assert lines == [b"\n", b"a Is paused\n", b"b Is created\n"]
    assert flock.lists == 3
    asked = flock.engine.seen("GET", "/containers/json")[0][2]
    assert asked == {"all": "1", "filters": '{"label":{"x":true}}'}
    assert flock.engine.requests[0][1] == "/events"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert process.stderr.read() == b""


def test_what_looks_alike_is_no_page(flock, spawn):
    process = spawn("ps", "-q", "--watch")
    assert process.stdout.readline() == b"aaaaaaaaaaaa\n"
    flock.change(a="paused")
    while flock.lists < 2:
        time.sleep(0.01)
    flock.change(b="running")
    assert process.stdout.readline() == b"\n"
    assert [process.stdout.readline() for _ in range(2)] == [b"aaaaaaaaaaaa\n", b"bbbbbbbbbbbb\n"]


def test_many_changes_are_few_lists(flock, spawn):
    process = spawn("ps", "--watch", *FORMAT)
    process.stdout.readline()
    for number in range(200):
        flock.change(a=str(number))
    while process.stdout.readline() != b"a Is 199\n":
        pass
    assert flock.lists < 20


def test_seconds_pass(flock, spawn):
    flock.age_s = 2
    process = spawn("ps", "--watch", "--format", "{{.RunningFor}}")
    assert process.stdout.readline() == b"2 seconds ago\n"
    flock.age_s = 3
    while (line := process.stdout.readline()) == b"\n":
        pass
    assert line != b"2 seconds ago\n" and line.endswith(b" seconds ago\n")


def test_an_engine_that_dies(flock, spawn):
    process = spawn("ps", "--watch", *FORMAT)
    process.stdout.readline()
    flock.states["a"] = "exited"
    flock.hang_up()
    assert [process.stdout.readline() for _ in range(2)] == [b"\n", b"a Is exited\n"]
    flock.change(a="running")
    assert [process.stdout.readline() for _ in range(2)] == [b"\n", b"a Is running\n"]
    assert len(flock.engine.seen("GET", "/events")) == 2


def test_it_ends_when_nobody_reads(flock, spawn):
    process = spawn("ps", "--watch", *FORMAT)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(10) == 141


def test_a_refusal_is_told(engine, mdocker, flock):
    engine.refuse("GET", "/containers/json", 400, "invalid filter 'x'")
    assert mdocker("ps", "-w", "-f", "x=y") == (1, "", "mdocker: invalid filter 'x'\n")


def test_on_a_terminal_it_is_drawn_in_place(flock, spawn):
    flock.states = dict.fromkeys("abcdefgh", "running")
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 4, 80, 0, 0))
    process = spawn("ps", "--watch", *FORMAT, stdout=theirs, env={"TERM": "xterm"})
    os.close(theirs)
    seen = b""

    def until(text):
        nonlocal seen
        while text not in seen:
            seen += os.read(ours, 4096)
        before, _, seen = seen.partition(text)
        return before + text

    assert until(b"\x1b[J").startswith(b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[Ha Is running\x1b[K\r")
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 3, 80, 0, 0))
    process.send_signal(signal.SIGWINCH)
    drawn = until(b"\x1b[J")
    assert b"b Is running" in drawn and "… and 6 more".encode() in drawn and b"c Is" not in drawn
    flock.change(a="paused")
    assert b"a Is paused" in until(b"\x1b[J")
    process.send_signal(signal.SIGINT)
    left = until(b"h Is running")
    assert b"\x1b[?7h\x1b[?25h\x1b[?1049la Is paused\r\n" in left
    assert process.wait(10) == 130
    os.close(ours)
