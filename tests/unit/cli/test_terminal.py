"""Our own terminal: raw for as long as it is needed, and given back whatever ends us."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import threading

import pytest

from mdocker import output, terminal
from mdocker.errors import NotATerminal
from tests.terminal_session import Session
from tests.unit.cli.conftest import CHECKOUT
from tests.unit.cli.fake_engine import frame
from tests.unit.cli.test_comeback import Turns, begin, place, upgrade

RAW = """
import sys
from mdocker.terminal import OurTerminal
import os
with OurTerminal() as ours:
    os.write(1, b"raw;")
    while (typed := os.read(0, 100)) != b"q":
        os.write(1, b"[%s]" % typed.hex().encode())
    if len(sys.argv) > 1:
        raise SystemExit(3)
"""


@pytest.fixture
def pair():
    """A terminal that is not this process's own: (master, slave)."""
    master, slave = os.openpty()
    yield master, slave
    for descriptor in (master, slave):
        os.close(descriptor)


def set_size(descriptor, lines, columns):
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))


def is_raw(descriptor):
    _, out, _, local, _, _, _ = termios.tcgetattr(descriptor)
    return not out & termios.OPOST and not local & (termios.ICANON | termios.ECHO | termios.ISIG)


def test_raw_and_back(pair):
    master, slave = pair
    before = termios.tcgetattr(slave)
    with terminal.OurTerminal(slave, slave):
        assert is_raw(slave)
        assert output.line_end == "\r\n"
        os.write(master, bytes(range(32)))
        assert os.read(slave, 100) == bytes(range(32))
    assert termios.tcgetattr(slave) == before
    assert output.line_end == "\n"


def test_given_back_once(pair):
    _, slave = pair
    with terminal.OurTerminal(slave, slave) as ours:
        ours.give_back()
        assert not is_raw(slave)
        mode = termios.tcgetattr(slave)
        mode[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, mode)
    assert termios.tcgetattr(slave) == mode


def test_one_whose_input_is_not_ours_stays_as_it_is(pair):
    _, slave = pair
    before = termios.tcgetattr(slave)
    handler = signal.getsignal(signal.SIGTERM)
    with terminal.OurTerminal(slave, slave, raw=False):
        assert termios.tcgetattr(slave) == before
        assert signal.getsignal(signal.SIGTERM) is handler


def test_no_terminal_at_all():
    reader, writer = os.pipe()
    try:
        with terminal.OurTerminal(reader, writer) as ours:
            assert ours.new_size() is None
        with pytest.raises(NotATerminal, match=r"^the input device is not a TTY$"):
            terminal.check(reader)
    finally:
        os.close(reader)
        os.close(writer)


def test_its_size_and_what_becomes_of_it(pair):
    master, slave = pair
    assert terminal.size(slave) is None  # nobody has said it
    set_size(master, 30, 100)
    assert terminal.size(slave) == (30, 100)
    with terminal.OurTerminal(slave, slave) as ours:
        set_size(master, 31, 101)
        signal.raise_signal(signal.SIGWINCH)
        assert struct.unpack("b", os.read(ours.descriptor, 1))[0] == signal.SIGWINCH
        signal.raise_signal(signal.SIGWINCH)
        assert ours.new_size() == (31, 101)
        with pytest.raises(BlockingIOError):
            os.read(ours.descriptor, 1)


@pytest.fixture
def session():
    started = []

    def start(*words):
        started.append(Session([sys.executable, *words], cwd=CHECKOUT))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_a_signal_at_the_very_moment_that_it_is_set(pair, monkeypatch):
    """Whenever a signal has it given back, it is what it was then."""
    _, slave = pair
    before = termios.tcgetattr(slave)
    set_mode = termios.tcsetattr
    seen = []

    def given_back():
        monkeypatch.setattr(termios, "tcsetattr", set_mode)
        ours.give_back()
        seen.append(termios.tcgetattr(slave))

    def set_then_given_back(*mode):
        set_mode(*mode)
        given_back()

    def given_back_then_set(*mode):
        given_back()
        set_mode(*mode)

    for hit in (set_then_given_back, given_back_then_set):
        ours = terminal.OurTerminal(slave, slave)
        if hit is set_then_given_back:
            monkeypatch.setattr(termios, "tcsetattr", hit)
        with ours:
            monkeypatch.setattr(termios, "tcsetattr", hit)
    assert seen == [before, before]


@pytest.mark.parametrize("number", terminal._ENDING)
def test_a_signal_ends_us_and_gives_the_terminal_back(session, number):
    one = session("-c", RAW)
    one.until(b"raw;")
    assert one.is_raw
    one.kill(number)
    assert one.wait() == -number
    assert not one.is_raw


def test_keys_are_no_signals_and_an_exception_gives_the_terminal_back(session):
    one = session("-c", RAW, "fail")
    one.until(b"raw;")
    one.send(b"\x03\x1a\x1c")
    one.until(rb"\[031a1c\]")
    one.send(b"q")
    assert one.wait() == 3
    assert not one.is_raw


def test_stopped_and_gone_on(session):
    one = session(
        "-c",
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], process_group=0)\n"
        "import signal; signal.signal(signal.SIGTTOU, signal.SIG_IGN)\n"
        "os.tcsetpgrp(0, child.pid)\n"
        "print(child.pid, flush=True)\n"
        "_, status = os.waitpid(child.pid, os.WUNTRACED)\n"
        "os.tcsetpgrp(0, os.getpgrp())\n"
        "print('stopped', os.WSTOPSIG(status), flush=True)\n"
        "sys.stdin.readline()\n"
        "os.tcsetpgrp(0, child.pid); os.kill(child.pid, signal.SIGCONT)\n"
        "sys.exit(child.wait())\n",
        RAW,
    )
    one.until(b"raw;")
    assert one.is_raw
    child = int(subprocess.check_output(["pgrep", "-P", str(one.pid)]))
    os.kill(child, signal.SIGTSTP)
    one.until(b"stopped 20")
    assert not one.is_raw
    one.send(b"on\n")
    one.until(b"on\r\n")
    while not one.is_raw:
        os.sched_yield()
    one.send(b"\x03")
    one.until(rb"\[03\]")
    one.send(b"q")
    assert one.wait() == 0
    assert not one.is_raw


WAITS = """
import sys
from mdocker import comeback
from mdocker.launch import launch
comeback._SILENT_S = 0
sys.exit(launch(sys.argv[1:]))
"""


def test_ctrl_c_while_no_engine_comes(engine, session):
    """Raw keys reach nobody then, and nobody shall sit before a dead screen for half a minute."""
    container = "d4" * 32
    gone = threading.Event()
    state = {"Running": True, "Paused": False, "Restarting": False}
    config = {"Tty": True, "OpenStdin": True}
    about = {"Id": container, "Name": "/a", "State": state, "Config": config}
    engine.json("GET", "/containers/.*/json", about)
    engine.json("POST", "/containers/.*/resize", None)
    engine.on("POST", "/containers/.*/wait", lambda call: (begin(call, "x"), gone.wait(20)))

    def first(call):
        upgrade(call, "0.0.0")
        call.wfile.write(frame(1, b"$ ") + place("0.2.0"))

    engine.on("POST", "/containers/.*/attach", Turns(first, lambda call: gone.wait(20)))
    one = session("-c", WAITS, "--host", engine.host, "attach", "a")
    one.until(rb"\$ ")
    one.until(rb"mdocker: the engine went away; waiting up to 30 s for the next one\r\n")
    one.send("\x03")
    assert one.wait() == -signal.SIGINT
    assert not one.is_raw
    gone.set()
