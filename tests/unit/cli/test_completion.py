"""TAB: what is offered where, and that bash, zsh and fish really offer it."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mdocker import completing
from mdocker.completing import offer
from mdocker.launch import launch
from mdocker.table import COMMANDS

CHECKOUT = Path(__file__).parents[3]


def listed(name, state):
    return {"Names": [f"/{name}"], "State": state, "Image": "host", "Status": f"Is {state}"}


@pytest.fixture
def flock(engine):
    engine.json(
        "GET",
        "/containers/json",
        [listed("bird", "running"), listed("bee", "paused"), listed("crow", "exited")],
    )
    engine.json("GET", "/images/json", [{"RepoTags": ["host:latest", "box:1"]}, {"RepoTags": None}])
    engine.json("GET", "/volumes", {"Volumes": [{"Name": "data"}, {"Name": "cache"}]})
    return engine


@pytest.fixture
def tab(flock):
    """What is offered at the end of a line."""

    def offered(line):
        found = offer(["--host", flock.host, *line.split(" ")])
        values = " ".join(value for value, _ in found.values)
        return values if found.mode == "words" else f"{found.mode}: {values}".strip()

    return offered


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("sto", "stop"),
        ("help sto", "stop"),
        ("stop ", "bird bee"),
        ("stop bi", "bird"),
        ("stop bird ", "bee"),
        ("stop -t 3 b", "bird bee"),
        ("stop -t ", ""),
        ("stop -t3 bi", "bird"),
        ("stop -- bi", "bird"),
        ("stop --nosuch bi", "bird"),
        ("stop --sig", "--signal"),
        ("stop -- --sig", ""),
        ("kill --signal KI", "KILL"),
        ("kill --signal=KI", "--signal=KILL"),
        ("kill -s SIGKI", "SIGKILL"),
        ("start ", "crow"),
        ("rm ", "crow"),
        ("rm -fv ", "bird bee crow"),
        ("rm --force=false ", "crow"),
        ("logs -f ", "bird bee crow"),
        ("unpause ", "bee"),
        ("rename cr", "crow"),
        ("rename crow ", ""),
        ("port crow ", ""),
        ("run ", "host box:1"),
        ("run -d --network h", "host"),
        ("run --pid cont", "container:bird container:bee"),
        ("run --restart=on-f", "--restart=on-failure --restart=on-failure:"),
        ("run --env-file ", "files:"),
        ("run -v ", "open: data: cache:"),
        ("run -v da", "open: data:"),
        ("run -v data:", "open: data:"),
        ("run -v ./", "files:"),
        ("create --volume=/sr", "files:"),
        ("run --volumes-from c", "crow"),
        ("run --log-opt max-", "open: max-size= max-file= max-buffer-size="),
        ("run --log-opt mode=", "mode=blocking mode=non-blocking"),
        ("run --log-opt compress=t", "compress=true"),
        ("run --log-opt tag=", ""),
        ("run host ", "files:"),
        ("run host --na", "files:"),
        ("run --repl", "--replicas"),
        ("inspect b", "bird bee box:1"),
        ("inspect --type i", "image"),
        ("rmi b", "box:1"),
        ("pull b", "box:1"),
        ("push ", "host box:1"),
        ("push box:1 ", ""),
        ("run --pull ", "missing always never"),
        ("import ", "files:"),
        ("import x.tar ", ""),
        ("build ", "files:"),
        ("build -f ", "files:"),
        ("build --iidfile=", "files:"),
        ("build --pull ", "files:"),
        ("build --network h", "host"),
        ("ps --filter sta", "open: status="),
        ("ps --filter status=re", "status=restarting status=removing"),
        ("ps -f name=b", "name=bird name=bee"),
        ("ps -f ancestor=", "ancestor=host ancestor=box:1"),
        ("ps -f nosuch=", ""),
        ("ps -f label=a=", ""),
        ("events -f event=health", "event=health_status"),
        ("images -f dangling=", "dangling=true dangling=false"),
        ("completion f", "fish"),
        ("system ", "df check prune events info"),
        ("container l", "ls logs"),
        ("container stop ", "bird bee"),
        ("image ", "inspect prune ls build history import load pull push save tag rm"),
        ("network ", "prune"),
        ("image prune --filter u", "open: until="),
        ("ps b", ""),
    ],
)
def test_offers(tab, line, offered):
    # Some are in the next version's table already, or were in the last one's.
    known = {command.name.partition(" ")[0] for command in COMMANDS}
    if line.split(" ")[0] not in {*known, "sto", "help"}:
        pytest.skip(f"no such command yet: {line}")
    assert tab(line) == offered


def test_every_command_is_offered(tab):
    names = tab("").split(" ")
    words = [command.name.partition(" ")[0] for command in COMMANDS]
    assert names == [*dict.fromkeys(words), "help"]
    assert tab("volume ") == "create ls inspect rm prune"


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_option_is_offered_with_words_about_it(flock, command):
    found = offer(["--host", flock.host, *command.split(), "-"])
    assert ("--help", "Show the page of this command") in found.values
    assert all(value.startswith("-") and about for value, about in found.values)


def test_options_before_the_command(tab):
    assert offer(["--ho"]).values == [
        ("--host", "The engine: unix:///PATH or tcp://HOST:PORT (TLS)")
    ]
    assert offer(["--root", ""]).mode == offer(["-H", "x"]).mode == "files"


class TestTrouble:
    """A TAB is answered with nothing then, at once, and starts no engine."""

    def silent(self, capfd, *words):
        assert launch(["__complete", *words]) == 1
        assert capfd.readouterr() == ("", "")

    def test_no_engine(self, capfd, tmp_path, monkeypatch):
        monkeypatch.setenv("MDOCKER_RUN_DIR", str(tmp_path))
        self.silent(capfd, "fish", "stop", "")
        assert list(tmp_path.iterdir()) == []

    def test_what_is_no_line(self, capfd):
        self.silent(capfd)
        self.silent(capfd, "bash")
        self.silent(capfd, "fish", "nosuch", "")
        self.silent(capfd, "fish", "--host", "tcp://x", "stop", "")

    def test_an_engine_that_refuses(self, engine, capfd):
        engine.refuse("GET", "/containers/json", 500, "no")
        assert launch(["__complete", "fish", "--host", engine.host, "stop", ""]) == 0
        assert capfd.readouterr() == ("words\n", "")

    def test_one_that_hangs(self, capfd, tmp_path, monkeypatch):
        monkeypatch.setattr(completing, "_PATIENCE_S", 0.05)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "s"))
            listener.listen()
            self.silent(capfd, "zsh", "--host", f"unix://{tmp_path}/s", "stop", "")


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("mdocker stop ", ["words", "bird", "bee"]),
        ("mdocker kill --signal=KI", ["words", "KILL"]),
        ("mdocker rmi box:", ["words", "1"]),
        ("mdocker rmi 'box:", ["words", "box:1"]),
        ('mdocker rmi "bo', ["words", "box:1"]),
        ("mdocker ps -f na", ["open", "name="]),
        ("mdocker run -e 'A=b c' ho", ["words", "host"]),
        ("mdocker import 'x", ["files"]),
    ],
)
def test_bash_gets_what_is_behind_its_breaks(flock, capfd, monkeypatch, line, answer):
    monkeypatch.setenv("MDOCKER_HOST", flock.host)
    assert launch(["__complete", "bash", line, "\"'@><=;|&(:"]) == 0
    assert capfd.readouterr().out.splitlines() == answer


def test_zsh_and_fish_get_words_about_each(flock, capfd, monkeypatch):
    monkeypatch.setenv("MDOCKER_HOST", flock.host)
    launch(["__complete", "zsh", "inspect", "b"])
    assert capfd.readouterr().out.splitlines() == [
        "words", "bird:host, Is running", "bee:host, Is paused", "box\\:1",
    ]  # fmt: skip
    launch(["__complete", "fish", "inspect", "b"])
    assert capfd.readouterr().out.splitlines() == [
        "words", "bird\thost, Is running", "bee\thost, Is paused", "box:1",
    ]  # fmt: skip


def test_completion(mdocker):
    for shell in ("bash", "zsh", "fish"):
        result = mdocker("completion", shell)
        assert result.code == 0 and "__complete" in result.out
    assert mdocker("completion", "tcsh") == (
        1,
        "",
        'mdocker: unable to complete in "tcsh": the shells are bash, zsh, fish\n'
        "See 'mdocker completion --help'.\n",
    )


@pytest.fixture
def installed(flock, tmp_path, monkeypatch):
    """`mdocker` is a program in PATH, and there is a file in the working directory."""
    program = tmp_path / "mdocker"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={CHECKOUT} exec {sys.executable} -m mdocker "$@"\n')
    program.chmod(0o755)
    (tmp_path / "here").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("MDOCKER_HOST", flock.host)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("HOME", str(tmp_path))


def needs(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell} (apt-get install {shell})")


@pytest.fixture
def terminal(installed, tmp_path):
    """Type into a real shell at a terminal of its own; returns a function that looks for text."""
    with contextlib.ExitStack() as stack:

        def start(*words):
            needs(words[0])
            ours, theirs = pty.openpty()
            process = subprocess.Popen(
                words, stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path,
                start_new_session=True,
            )  # fmt: skip
            os.close(theirs)

            def end():
                process.kill()
                process.wait()
                os.close(ours)

            stack.callback(end)

            def type_and_see(typed, wanted):
                os.write(ours, typed.encode())
                seen = b""
                while wanted.encode() not in seen:
                    seen += os.read(ours, 4096)

            return type_and_see

        yield start


def test_bash(terminal):
    see = terminal("bash", "--norc", "--noprofile", "-i")
    see("PS1='ready''> '; source <(mdocker completion bash)\n", "ready> ")
    see("mdocker stop bi\t", "stop bird ")
    see("\x15: ; mdocker kill --sig\t", "--signal ")
    see("\x15mdocker kill --signal=KI\t", "--signal=KILL ")
    see("\x15mdocker rmi box:\t", "box:1 ")
    see("\x15mdocker ps -f stat\tex\t", "status=exited ")
    see("\x15mdocker import he\t", "import here ")


def test_zsh(terminal):
    see = terminal("zsh", "-f", "-i")
    see("PS1='ready''> '; autoload -Uz compinit; compinit -u -D\n", "ready> ")
    see("source <(mdocker completion zsh); echo so''urced\n", "sourced")
    see("mdocker stop bi\t", "stop bird")
    see("\x15mdocker kill --signal=KI\t", "--signal=KILL")
    see("\x15mdocker ps -f stat\tex\t", "status=exited")
    see("\x15mdocker rmi box:\t", "box:1")
    see("\x15mdocker import he\t", "import here")


def test_fish(installed, tmp_path):
    needs("fish")
    asked = ("stop bi", "kill --signal=KI", "rmi box", "import he", "ps -f status=ex")
    lines = "; ".join(f"complete -C 'mdocker {line}'" for line in asked)
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"mdocker completion fish | source; {lines}"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == [
        "bird", "--signal=KILL", "box:1", "here", "status=exited",
    ]  # fmt: skip
