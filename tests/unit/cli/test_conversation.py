"""What is typed or piped in, beside what is shown: neither waits for the other."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdocker.detach_keys import DetachKeys, chosen, parse
from mdocker.errors import UsageError
from mdocker.input import Input
from mdocker.outlet import Outlet
from supervisor import escape_keys
from tests.unit.cli.fake_engine import frame
from tests.unit.cli.test_comeback import Turns, place, upgrade

ID = "c3" * 32
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"


@pytest.fixture
def container(engine):
    """One that can be created and started, and exits with 3; the attachment is the test's."""
    engine.json("POST", "/containers/create", {"Id": ID, "Warnings": []}, 201)
    engine.json("POST", f"/containers/{ID}/start", None, 204)
    engine.json("POST", f"/containers/{ID}/resize", None, 200)
    engine.json("POST", f"/containers/{ID}/wait", {"StatusCode": 3})
    return engine


def all_of(call):
    """Read what the client sends until its end."""
    pieces = []
    while piece := call.connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


@pytest.fixture
def attached(container, mdocker):
    """Run a command line with some bytes as its stdin; returns the result."""

    def run(data, *words):
        reader, writer = os.pipe()
        saved = os.dup(0)
        os.dup2(reader, 0)
        os.close(reader)

        def feed():
            view = memoryview(data)
            try:
                while view:
                    view = view[os.write(writer, view) :]
            except BrokenPipeError:
                pass
            os.close(writer)

        feeder = threading.Thread(target=feed)
        feeder.start()
        try:
            return mdocker(*words)
        finally:
            os.dup2(saved, 0)
            os.close(saved)
            feeder.join(10)

    return run


def created(engine):
    (request,) = engine.seen("POST", "/containers/create")
    return json.loads(request[3])


def asked(engine):
    return engine.seen("POST", ".*/attach")[0][2]


def test_input_arrives_with_its_end(container, attached):
    got = []

    def attach(call):
        call.upgrade()
        got.append(all_of(call))
        call.wfile.write(frame(1, b"%d" % len(got[0])))

    container.on("POST", f"/containers/{ID}/attach", attach)
    data = bytes(range(256)) * 4000
    assert attached(data, "run", "-i", "host", "wc") == (3, str(len(data)), "")
    assert got == [data]
    assert asked(container) == {
        **dict.fromkeys(("stream", "stdin", "stdout", "stderr", "places"), "1")
    }
    body = created(container)
    streams = ("AttachStdin", "AttachStdout", "AttachStderr", "OpenStdin", "StdinOnce")
    assert all(body[name] is True for name in streams)
    assert "Tty" not in body


def test_nobody_waits_for_the_other(container, attached):
    """An echo whose answers are not read before all was said, by more than any buffer holds."""

    def attach(call):
        call.upgrade()
        while piece := call.connection.recv(65536):
            call.wfile.write(frame(1, piece))

    container.on("POST", f"/containers/{ID}/attach", attach)
    data = os.urandom(3_000_000).hex().encode()
    result = attached(data, "run", "-i", "host", "cat")
    assert (result.code, result.out == data.decode()) == (3, True)


def test_the_end_of_the_output_does_not_wait_for_input(container, spawn):
    container.on("POST", f"/containers/{ID}/attach", lambda call: call.upgrade())
    reader, writer = os.pipe()
    process = spawn("run", "-i", "host", "true", stdin=reader)
    assert process.wait(20) == 3
    os.close(reader)
    os.close(writer)


def test_only_input(container, attached):
    got = []

    def attach(call):
        call.upgrade()
        got.append(all_of(call))

    container.on("POST", f"/containers/{ID}/attach", attach)
    assert attached(b"data", "run", "-a", "stdin", "-i", "host", "sh") == (0, ID + "\n", "")
    assert "stdout" not in asked(container)
    body = created(container)
    assert (body["AttachStdin"], body["StdinOnce"], "AttachStdout" in body) == (True, True, False)


@pytest.mark.parametrize(
    ("words", "query"),
    [
        (("-a", "stdout"), {"stdout": "1"}),
        (("-a", "STDERR"), {"stderr": "1"}),
        (("-a", "stdout", "-a", "stdin", "-i"), {"stdout": "1", "stdin": "1"}),
        ((), {"stdout": "1", "stderr": "1"}),
    ],
)
def test_what_is_attached(container, attached, words, query):
    container.on("POST", f"/containers/{ID}/attach", lambda call: call.upgrade())
    assert attached(b"", "run", *words, "host").code == 3
    assert asked(container) == {"stream": "1", "places": "1", **query}


def test_detached_it_may_have_a_terminal_and_an_input(container, mdocker):
    assert mdocker("run", "-dit", "host", "sh").code == 0
    body = created(container)
    assert (body["Tty"], body["OpenStdin"]) == (True, True)
    assert not {"StdinOnce", "AttachStdin", "AttachStdout"} & set(body)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("-d", "-a", "stdout"), 1, "cannot specify both --attach and --detach"),
        (("-a", "foo"), 125, "valid streams are STDIN, STDOUT and STDERR"),
        (("-it",), 1, "the input device is not a TTY"),
        (("-i", "--detach-keys", "ctrl-?"), 125, "invalid detach keys (ctrl-?) provided"),
    ],
)
def test_refused_before_anything_is_made(container, attached, words, code, text):
    result = attached(b"", "run", *words, "host")
    assert (result.code, result.out) == (code, "")
    assert text in result.err
    assert not container.seen("POST", "/containers/create")


def test_input_goes_on_with_the_next_engine(container, attached):
    """What was on its way is told to be in doubt; what was not read yet goes to the next one."""
    got = []

    def first(call):
        upgrade(call, "0.0.0")
        got.append(call.connection.recv(10))
        call.wfile.write(frame(1, b"one\n") + place("4.0.0"))

    def second(call):
        upgrade(call, "4.0.0")
        got.append(all_of(call))
        call.wfile.write(frame(1, b"two\n") + place("8.0.0") + place("end"))

    container.on("POST", f"/containers/{ID}/attach", Turns(first, second))
    data = b"x" * 2_000_000
    result = attached(data, "run", "-i", "host", "cat")
    assert (result.code, result.out) == (3, "one\ntwo\n")
    assert result.err == (
        "mdocker: the engine died: what was on its way to it of the input may be missing\n"
    )
    assert len(got[0]) == 10
    assert 1_000_000 < len(got[1]) < 2_000_000


def test_the_end_of_the_input_is_said_to_the_next_engine_too(container, attached):
    ends = []

    def first(call):
        upgrade(call, "0.0.0")
        ends.append(all_of(call))

    def second(call):
        upgrade(call, "0.0.0")
        ends.append(all_of(call))
        call.wfile.write(place("end"))

    container.on("POST", f"/containers/{ID}/attach", Turns(first, second))
    assert attached(b"all", "run", "-i", "host", "cat").code == 3
    assert ends == [b"all", b""]


def test_a_container_with_a_terminal_needs_one_of_ours(engine, attached):
    state = {"Running": True, "Paused": False, "Restarting": False}
    config = {"Tty": True, "OpenStdin": True}
    about = {"Id": ID, "Name": "/a", "State": state, "Config": config}
    engine.json("GET", "/containers/.*/json", about)
    engine.on("POST", f"/containers/{ID}/attach", lambda call: call.upgrade(MULTIPLEXED))
    result = attached(b"", "attach", "a")
    assert (result.code, result.err) == (1, "mdocker: the input device is not a TTY\n")
    assert attached(b"", "attach", "--no-stdin", "a").code == 3
    assert "stdin" not in asked(engine)


def test_a_reader_that_has_gone(container, spawn):
    """`mdocker run -i host yes | head`: the client ends as any tool of a pipeline."""

    def attach(call):
        call.upgrade()
        call.wfile.write(frame(1, b"y\n"))
        call.connection.recv(1)

    container.on("POST", f"/containers/{ID}/attach", attach)
    reader, writer = os.pipe()
    process = spawn("run", "-i", "host", "yes", stdin=reader)
    assert process.stdout.read(2) == b"y\n"
    process.stdout.close()
    assert process.wait(20) == 141
    os.close(reader)
    os.close(writer)


def test_signals_are_handed_on_without_a_terminal(container, spawn):
    handed = threading.Event()

    def attach(call):
        call.upgrade()
        call.wfile.write(frame(1, b"ready\n"))
        handed.wait(20)

    def kill(call):
        handed.set()
        call.answer(204)

    container.on("POST", f"/containers/{ID}/attach", attach)
    container.on("POST", f"/containers/{ID}/kill", kill)
    reader, writer = os.pipe()
    process = spawn("run", "-i", "host", "cat", stdin=reader)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 3
    assert container.seen("POST", ".*/kill")[0][2] == {"signal": "SIGINT"}
    os.close(reader)
    os.close(writer)


@given(st.sampled_from(["", "a", "ctrl-a,d", "a,a,b", "DEL,ctrl-@"]), st.lists(st.binary()))
def test_keys_are_those_of_the_engine(text, pieces):
    keys = parse(text)
    assert keys == escape_keys.parse(text)
    ours, theirs = DetachKeys(keys), escape_keys.EscapeKeys(keys)
    for piece in [*pieces, keys[:1], keys, b"more"]:
        assert ours.feed(piece) == theirs.feed(piece)
    assert ours.pressed
    assert theirs.detached


def test_keys_of_dockers_own_file(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert chosen("") == ""
    file = tmp_path / "config.json"
    for text, keys in (('{"detachKeys": "ctrl-x"}', "ctrl-x"), ("{}", ""), ("[]", "")):
        file.write_text(text)
        assert chosen("") == keys
    assert chosen("a") == "a"
    file.write_text("{")
    with pytest.raises(UsageError, match="unable to read"):
        chosen("")


def test_nothing_is_read_before_the_last_piece_is_on_its_way():
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    typed = Input(reader)
    try:
        while typed.wants_more:
            os.write(writer, b"x" * 65536)
            typed.read()
            typed.send(ours)
        os.write(writer, b"later")
        assert typed.is_waiting
        assert not typed.wants_more
        theirs.close()
        typed.send(ours)  # nobody takes it: the output tells why
        assert not typed.is_waiting
        assert typed.is_done
        again, theirs = socket.socketpair()
        typed.move(again)
        assert theirs.recv(10) == b"x" * 10
        assert os.read(reader, 100) == b"later"
        again.close()
    finally:
        for end in (ours, theirs):
            end.close()
        os.close(reader)
        os.close(writer)


def test_an_outlet_takes_what_goes_without_waiting(tmp_path):
    reader, writer = os.pipe()
    outlet = Outlet(writer)
    data = memoryview(b"x" * 1_000_000)
    sent = 0
    while written := outlet.write(data[sent:]):
        sent += written
    assert 0 < sent < len(data)
    os.read(reader, 65536)
    assert outlet.write(data) > 0
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        outlet.write(data)
    os.close(writer)
    with (tmp_path / "file").open("wb") as file:
        assert Outlet(file.fileno()).write(data) == len(data)


def test_an_outlet_where_the_kernel_knows_no_such_flag(monkeypatch):
    def refuse(*args):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "pwritev", refuse)
    reader, writer = os.pipe()
    outlet = Outlet(writer)
    sent = 0
    while written := outlet.write(memoryview(b"x" * 100_000)):
        sent += written
    assert sent == 65536
    os.close(reader)
    os.close(writer)
