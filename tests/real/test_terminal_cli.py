"""A person at a terminal, with our command line and with Docker's, in real containers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from tests.real.engine_process import CHECKOUT, EngineProcess
from tests.terminal_session import Session

DOCKER = shutil.which("docker")
OURS = (sys.executable, "-m", "mdocker")
BOTH = [
    pytest.param(OURS, id="mdocker"),
    pytest.param(
        (DOCKER,), id="docker", marks=pytest.mark.skipif(DOCKER is None, reason="needs docker")
    ),
]
SHELL = ("bash", "--norc", "--noprofile")
PROMPT = rb"bash-[\d.]+# "
LEAVE = b"\x10\x11"
SIZED = """until [ "$(stty size)" = "%s" ]; do sleep 0.05; done; echo si''zed\n"""
WORDS = ("sh", "-c", "while read x; do echo $x; done")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    # On the engine's side `test_terminals` tries both backends.
    process = EngineProcess(tmp_path_factory.mktemp("engine"), respawn=True)
    process.start()
    yield process
    process.close()


@pytest.fixture
def at(engine, tmp_path):
    """Start a command line in a terminal of its own."""
    started = []
    environment = {**engine.environment, "DOCKER_CONFIG": str(tmp_path), "TERM": "xterm"}

    def start(*words, client=OURS, **options):
        started.append(Session([*client, *words], env=environment, cwd=CHECKOUT, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()
    for container in engine.get("/containers/json?all=1").json:
        engine.delete(f"/containers/{container['Id']}?force=1")


@pytest.fixture
def piped(engine):
    """Run our command line to its end; (exit code, stdout, stderr)."""

    def run(*words, data=b"", **options):
        done = subprocess.run(
            [*OURS, *words],
            cwd=CHECKOUT,
            env=engine.environment,
            input=data,
            capture_output=True,
            timeout=60,
            **options,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def log_of(engine, name):
    """What a container with a terminal has printed."""
    answer = engine.get(f"/containers/{name}/logs?stdout=1&stderr=1")
    assert answer.status == 200
    return answer.body


@pytest.mark.parametrize("client", BOTH)
def test_a_shell_with_job_control(at, client):
    one = at("run", "--rm", "-it", "host", *SHELL, client=client, size=(31, 101))
    one.until(PROMPT)
    one.send("tty; stty size; echo $TERM\n")
    one.until(rb"/dev/pts/0\r\n31 101\r\nxterm\r\n")
    one.until(PROMPT)
    one.send("echo ru''ns; cat\n")
    one.until(rb"runs\r\n")  # so the shell has let go of the terminal
    one.send("first\n")
    one.until(rb"first\r\nfirst\r\n")
    one.send("\x1a")
    one.until(rb"Stopped +cat")
    one.until(PROMPT)
    one.send("jobs; fg\n")
    one.until(rb"\ncat\r\n")
    one.send("typed\n")
    one.until(rb"typed\r\ntyped\r\n")
    one.send("\x03")
    one.until(PROMPT)
    one.send("sleep 999 &\n")
    one.until(PROMPT)
    one.send("kill %1; wait %1; echo code=$?\n")
    one.until(rb"code=143")
    one.send("exit 7\n")
    assert one.end() == 7
    assert not one.is_raw


def test_the_size_follows(at):
    # Docker's client begins to listen for changes only after what runs there has begun.
    one = at("run", "--rm", "-it", "host", *SHELL)
    one.until(PROMPT)
    one.send(SIZED % "40 132")
    one.resize(40, 132)
    one.until(rb"sized\r\n")
    one.send("exit\n")
    one.end()


@pytest.mark.skipif(shutil.which("vim") is None, reason="needs vim")
def test_an_editor(at):
    one = at("run", "--rm", "-it", "host", *SHELL, size=(30, 90))
    one.until(PROMPT)
    one.send("vim -u NONE -N -n /tmp/note\n")
    one.until(rb"/tmp/note")
    one.send("ihello\x1b:wq\r")
    one.until(PROMPT)
    one.send("cat /tmp/note; exit 5\n")
    one.until(rb"\rhello\r\n")
    assert one.end() == 5


def test_a_big_paste(at):
    """More than any buffer on the way holds, raw, while its echo comes back."""
    one = at("run", "--rm", "-it", "host", "sh", "-c", "stty raw -echo; echo go; sha1sum")
    one.until(rb"go\n")
    data = os.urandom(200_000).hex().encode()
    one.send(data)
    one.send(LEAVE)
    assert one.wait() == 0


@pytest.mark.parametrize("client", BOTH)
def test_left_by_keys_and_come_back_to(at, engine, client):
    one = at("run", "--name", "kept", "-it", "host", *SHELL, client=client)
    one.until(PROMPT)
    one.send("x=41\n")
    one.until(PROMPT)
    one.send(LEAVE)
    assert one.end() == 0
    assert not one.is_raw
    assert engine.inspect("kept")["State"]["Running"]
    two = at("attach", "--detach-keys", "ctrl-a,d", "kept", client=client, size=(33, 99))
    two.send("\n")
    two.until(PROMPT)
    two.send("echo $((x+1)); stty size\n")
    two.until(rb"42\r\n33 99\r\n")
    two.send("\x01d")
    two.until(rb"read escape sequence\r\n")
    assert two.end() == 1
    three = at("attach", "kept", client=client)
    three.send("exit 3\n")
    assert three.end() == 3
    again = at("start", "-ai", "kept", client=client)
    again.until(PROMPT)
    again.send("exit 4\n")
    assert again.end() == 4


def test_several_at_one_terminal(at, engine):
    engine.run(*SHELL, name="shared", Tty=True, OpenStdin=True)
    ones = [at("attach", "shared") for _ in range(3)]
    for one in ones:
        one.send("\n")
        one.until(PROMPT)
    for number, one in enumerate(ones):
        one.send(f"echo from $(({number}+10))\n")
        for other in ones:
            other.until(rb"from %d\r\n" % (number + 10))
    ones[0].send(LEAVE)
    assert ones[0].end() == 1
    ones[1].kill(signal.SIGKILL)
    ones[1].wait()
    ones[2].send("exit 9\n")
    assert ones[2].end() == 9


def test_a_signal_to_the_client_gives_the_terminal_back_and_harms_nobody(at, engine):
    one = at("run", "--name", "kept", "-it", "host", *SHELL)
    one.until(PROMPT)
    assert one.is_raw
    one.kill(signal.SIGTERM)
    assert one.wait() == -signal.SIGTERM
    assert not one.is_raw
    assert engine.inspect("kept")["State"]["Running"]


def test_a_session_goes_on_when_its_engine_is_killed(at, engine):
    """In the middle of its output: all that it ever printed is shown once, and logged once."""
    one = at("run", "--name", "long", "-it", "host", *SHELL)
    one.until(PROMPT)
    one.send("for i in $(seq 3000); do echo line $i; done; echo do''ne\n")
    one.until(rb"line 700\r\n")
    engine.kill()
    one.send("echo aft''er\n")
    one.until(rb"done\r\n")
    one.until(rb"after\r\n")
    one.resize(50, 150)
    one.send(SIZED % "50 150")
    one.until(rb"sized\r\n")
    one.send("exit 6\n")
    assert one.end() == 6
    assert one.everything == log_of(engine, "long")
    lines = b"".join(b"line %d\r\n" % number for number in range(1, 3001))
    assert lines in one.everything.replace(b"echo aft''er\r\n", b"", 1)


@pytest.mark.parametrize("size", [1, 3_000_000])
def test_input_and_its_end(piped, size):
    data = os.urandom(size)
    assert piped("run", "--rm", "-i", "host", "wc", "-c", data=data)[:2] == (0, b"%d\n" % size)
    assert piped("run", "--rm", "-i", "host", "cat", data=data)[:2] == (0, data)


def test_input_alone(piped, engine):
    """The client leaves when it has said everything; all of it arrives."""
    data = b"x" * 300_000
    code, out, _ = piped("run", "-a", "stdin", "-i", "host", "wc", "-c", data=data)
    container = out.decode().strip()
    assert (code, len(container)) == (0, 64)
    assert engine.wait(container) == 0
    assert engine.output(container) == (b"300000\n", b"")
    engine.delete(f"/containers/{container}")


def test_a_stopped_container_with_an_input(piped, engine):
    code, out, _ = piped("create", "-i", "--name", "later", "host", "sh", "-c", "cat; exit 3")
    assert code == 0, out
    assert piped("start", "-ai", "later", data=b"one")[:2] == (3, b"one")
    assert piped("start", "-ai", "later", data=b"two")[:2] == (3, b"two")
    code, _, err = piped("attach", "later")
    assert code == 1
    assert b"You cannot attach to a stopped container, start it first" in err
    engine.delete("/containers/later")


def test_a_client_that_is_killed_ends_the_input_that_was_its_own(engine):
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [*OURS, "run", "--name", "alone", "-i", "host", "sh", "-c", "echo ready; cat; exit 5"],
        cwd=CHECKOUT,
        env=engine.environment,
        stdin=reader,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout.readline() == b"ready\n"
        os.write(writer, b"last words\n")
        assert process.stdout.readline() == b"last words\n"
        process.kill()
        process.wait()
        assert engine.wait("alone") == 5
    finally:
        process.kill()
        process.communicate()
        os.close(reader)
        os.close(writer)
        engine.delete("/containers/alone?force=1")


def test_input_over_an_engine_that_is_killed(engine):
    """What was on its way may be lost, which is said; the rest goes on."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [*OURS, "run", "--name", "slow", "-i", "host", *WORDS],
        cwd=CHECKOUT,
        env=engine.environment,
        stdin=reader,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.close(reader)
    try:
        os.write(writer, b"one\n")
        assert process.stdout.readline() == b"one\n"
        engine.kill()
        os.write(writer, b"two\n")
        assert process.stdout.readline() == b"two\n"
        os.close(writer)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, b"")
        assert b"may be missing" in err
    finally:
        process.kill()
        process.communicate()
        engine.delete("/containers/slow?force=1")
