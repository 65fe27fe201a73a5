"""A person at a terminal, with our command line and with Docker's, in real containers."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.parse

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
DETACHED = "/events?filters=%7B%22event%22%3A%5B%22detach%22%5D%7D"
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


@pytest.mark.skipif(shutil.which("vim") is None, reason="needs vim")
@pytest.mark.parametrize("client", BOTH)
def test_an_editor(at, client):
    """It knows the size of the screen at once, and draws on it all that is typed."""
    words = ("sh", "-c", "vim -u NONE -N -n /tmp/note; cat /tmp/note; exit 5")
    one = at("run", "--rm", "-it", "host", *words, client=client, size=(30, 90))
    one.until(rb"/tmp/note")
    one.send(':echo &lines "lines," &columns "columns"\r')
    one.until(rb"30 lines, 90 columns")
    one.send("ihello\x1byypA again\x1b:wq\r")
    one.until(rb"hello\r\nhello again\r\n")
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


@pytest.mark.parametrize("client", BOTH)
def test_ctrl_c_reaches_the_foreground_job_alone(at, client):
    one = at("run", "--rm", "-it", "host", *SHELL, client=client)
    one.until(PROMPT)
    one.send("sleep 999 & echo $(($$+0)) is it\n")
    one.until(rb"1 is it")
    one.send("sh -c 'trap \"echo caught; exit 4\" INT; echo wa''its; while :; do sleep 9; done'\n")
    one.until(rb"waits\r\n")
    one.send("\x03")
    one.until(rb"caught\r\n")
    one.send("echo code=$?; jobs\n")
    one.until(rb"code=4\r\n")
    one.until(rb"Running +sleep 999")
    one.send("exit\n")
    assert one.end() == 0


@pytest.mark.parametrize("client", BOTH)
def test_the_size_at_the_first_moment_and_whenever_it_changes(at, client):
    """Asked for by the very first command; each change reaches the payload as SIGWINCH."""
    tell = "trap 'stty size' WINCH; stty size; while :; do sleep 0.05; done"
    one = at("run", "--rm", "-it", "host", "bash", "-c", tell, client=client, size=(31, 101))
    one.until(rb"31 101\r\n")
    for lines in (40, 50):
        # Docker's client begins to listen at a moment that nothing tells, and bash forgets what
        # comes while it is in a trap: so the size goes on to change until one is seen.
        sizes = itertools.cycle([(lines, 132), (lines, 131)])
        one.resize(*next(sizes))
        one.until(rb"%d 13[12]\r\n" % lines, meanwhile=lambda s=sizes: one.resize(*next(s)))
    one.send(LEAVE)
    assert one.end() == 0


@pytest.mark.parametrize("client", BOTH)
def test_an_output_alone_takes_no_keys(at, engine, client):
    """The terminal stays as it is; what is typed stays here, and Ctrl-C ends the client alone."""
    container = engine.create(*SHELL, name="shown", Tty=True, OpenStdin=True)
    ones = [at("start", "-a", "shown", client=client)]
    ones[0].until(PROMPT)
    with attaching(engine, container):
        ones.append(at("attach", "--no-stdin", "shown", client=client))
    typist = at("attach", "shown")
    typist.send("echo sh''own\n")
    for one in ones:
        one.until(rb"\nshown\r|\rshown\r")
        assert not one.is_raw
    ones[1].send("exit 9\n")
    interrupted(ones[1])
    typist.send("echo st''ill\n")
    typist.until(rb"still\r\n")
    typist.send("exit 3\n")
    assert ones[0].end() == 3


def interrupted(one):
    """Press Ctrl-C until it ends: Docker's client wants it three times. Returns its exit code."""
    while one.read(meanwhile=lambda: one.send("\x03")):
        pass
    return one.wait()


@contextlib.contextmanager
def attaching(engine, container):
    """What is done inside is to attach to a container; returns when it has."""
    wanted = json.dumps({"event": ["attach"], "container": [container]})
    with engine.stream("GET", f"/events?filters={urllib.parse.quote(wanted)}") as events:
        yield
        assert events.readline()


@pytest.mark.parametrize("client", BOTH)
def test_signals_are_handed_on_unless_they_are_not_to_be(at, engine, client):
    """Without a terminal Ctrl-C at ours is a signal to the client."""
    says = ("sh", "-c", "trap 'echo caught' INT; echo ready; while :; do sleep 0.05; done")
    one = at("run", "--name", "said", "host", *says, client=client)
    one.until(rb"ready\r\n")
    one.send("\x03")
    one.until(rb"caught\r\n")
    with attaching(engine, engine.inspect("said")["Id"]):
        two = at("attach", "--sig-proxy=false", "said", client=client)
    one.send("\x03")
    one.until(rb"caught\r\n")
    two.until(rb"caught\r\n")
    assert interrupted(two) != 0
    assert engine.inspect("said")["State"]["Running"]
    assert engine.output("said")[0].count(b"caught") == 2


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM])
def test_a_signal_to_the_client_gives_the_terminal_back_and_harms_nobody(at, engine, number):
    one = at("run", "--name", "kept", "-it", "host", *SHELL)
    one.until(PROMPT)
    assert one.is_raw
    one.kill(number)
    assert one.wait() == -number
    assert not one.is_raw
    assert engine.inspect("kept")["State"]["Running"]


def test_a_terminal_that_is_hung_up_ends_the_client_and_no_container(at, engine):
    """Docker's hands the SIGHUP on, which ends a shell."""
    one = at("run", "--name", "kept", "-it", "host", *SHELL)
    one.until(PROMPT)
    with engine.stream("GET", DETACHED) as events:
        one.hang_up()
        assert events.readline()
    two = at("attach", "kept")
    two.send("exit 8\n")
    assert two.end() == 8


@pytest.mark.parametrize("client", BOTH)
def test_the_last_words_of_a_terminal_and_its_code(at, client):
    one = at(
        "run", "--rm", "-it", "host", "sh", "-c", "seq 5000; printf last; exit 9", client=client
    )
    assert one.end() == 9
    shown = b"".join(b"%d\r\n" % number for number in range(1, 5001)) + b"last"
    assert one.everything.rstrip().endswith(shown)


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
