"""`exec`: what is asked of the engine, whose output it is, and with which code it ends."""

from __future__ import annotations

import json

import pytest

from tests.unit.cli.fake_engine import frame

ID = "e1" * 32


@pytest.fixture
def execs(engine):
    """An engine in which a command prints on both streams and ends with 7."""
    engine.json("POST", "/containers/bird/exec", {"Id": ID}, 201)
    engine.json("GET", f"/exec/{ID}/json", {"ExitCode": 7, "Running": False})

    def start(call):
        call.upgrade()
        call.wfile.write(frame(1, b"out\n") + frame(2, b"err\n"))

    engine.on("POST", f"/exec/{ID}/start", start)
    return engine


def asked(engine):
    (request,) = engine.seen("POST", "/containers/bird/exec")
    return json.loads(request[3])


def test_its_streams_and_its_code_are_ours(execs, mdocker):
    assert mdocker("exec", "bird", "sh", "-c", "x", "-d") == (7, "out\n", "err\n")
    assert asked(execs) == {
        "Cmd": ["sh", "-c", "x", "-d"],
        "AttachStdout": True,
        "AttachStderr": True,
    }


def test_detached(execs, mdocker):
    execs.json("POST", f"/exec/{ID}/start", {}, 200)
    assert mdocker(*"exec -d -e A=b -u me:us -w /w --privileged bird x".split()) == (0, "", "")
    assert asked(execs) == {
        "Cmd": ["x"],
        "Env": ["A=b"],
        "User": "me:us",
        "WorkingDir": "/w",
        "Privileged": True,
    }
    (request,) = execs.seen("POST", f"/exec/{ID}/start")
    assert json.loads(request[3]) == {"Detach": True, "Tty": False}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ('exec: "x": executable file not found in $PATH', 127),
        ('exec: "/etc": is a directory', 126),
        ("unable to find user me: no matching entries in passwd file", 126),
    ],
)
def test_what_can_not_be_executed_is_told_on_stderr(execs, mdocker, words, code):
    execs.json("POST", f"/exec/{ID}/start", {"message": words}, 400)
    assert mdocker("exec", "bird", "x") == (code, "", f"mdocker: {words}\n")


def test_what_is_refused_otherwise_is_a_failure(execs, mdocker):
    execs.json("POST", "/containers/bird/exec", {"message": "container b is not running"}, 409)
    assert mdocker("exec", "bird", "x") == (1, "", "mdocker: container b is not running\n")


def test_an_engine_that_died_meanwhile_is_told_apart_from_an_end(execs, mdocker):
    execs.json("GET", f"/exec/{ID}/json", {"message": f"No such exec instance: {ID}"}, 404)
    code, out, err = mdocker("exec", "bird", "x")
    assert (code, out) == (1, "out\n")
    assert "the engine died, and the command ended with it" in err


def test_a_terminal_that_is_none(execs, mdocker):
    code, _, err = mdocker("exec", "-it", "bird", "x")
    assert (code, err) == (1, "mdocker: the input device is not a TTY\n")
