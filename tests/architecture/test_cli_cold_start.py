"""The client starts fast because of what it does not import; this guards it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
HEAVY = (
    "structlog",
    "anyio",
    "msgspec",
    "rich",
    "asyncio",
    "trio",
    "supervisor",
    "runtime",
    "logs",
)

UNNEEDED = {*HEAVY, "cyclopts", "attrs", "urllib", "http"}

PROBE = """
import atexit, os, sys
leave = os._exit
def report(code):
    print("MODULES", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
    sys.stderr.flush()
    leave(code)
os._exit = report
sys.argv = ["mdocker", *sys.argv[1:]]
from mdocker.__main__ import main
main()
"""


def modules_after(*words, stdout=subprocess.PIPE):
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *words],
        cwd=CHECKOUT,
        env={**os.environ, "MDOCKER_HOST": "unix:///nonexistent/engine.sock"},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    line = next(line for line in done.stderr.splitlines() if line.startswith("MODULES "))
    return set(line.split()[1:])


@pytest.mark.parametrize(
    "words",
    [
        ["ps"],
        ["ps", "-a", "--format", "{{.Names}}"],
        ["run", "-d", "--name", "x", "-m", "512m", "host", "sleep", "1"],
        ["run", "-d", "--replicas", "30", "host"],
        ["run", "host", "true"],
        ["logs", "-f", "a", "b"],
        ["stop", "-t", "1", "a"],
        ["inspect", "-f", "{{.Id}}", "a"],
        ["events", "--since", "1h"],
        ["import", "/nonexistent.tar", "x"],
        ["pull", "x"],
        ["push", "x"],
        ["timeline", "a"],
        ["cp", "/etc/hostname", "a:/x"],
        ["cp", "a:/x", "/tmp"],
        ["diff", "a"],
        ["export", "a"],
        ["login", "-u", "bird", "-p", "nest", "nest.example"],
        ["images"],
        ["version"],
    ],
    ids=lambda words: words[0],
)
def test_an_everyday_line_imports_nothing_heavy(words):
    """Not even cyclopts: the plain binder suffices for a well-formed line."""
    loaded = modules_after(*words)
    assert "socket" in loaded
    assert loaded.isdisjoint(UNNEEDED), loaded & UNNEEDED


def test_version_imports_nothing_but_us():
    loaded = modules_after("--version")
    assert "mdocker" in loaded
    assert loaded.isdisjoint({*HEAVY, "cyclopts", "h11", "json", "socket", "typing", "re"})


@pytest.mark.parametrize("line", ["st", "stop ", "stop -t 3 ", "ps --filter status="])
def test_a_tab_is_answered_without_even_the_http_library(line):
    loaded = modules_after("__complete", "fish", *line.split(" "))
    assert "mdocker" in loaded
    unneeded = UNNEEDED | ({"h11"} if "-" not in line else set())
    assert loaded.isdisjoint(unneeded), loaded & unneeded


@pytest.mark.parametrize("words", [["ps", "--foo"], ["run", "-p", "80", "host"], ["nope"]])
def test_a_wrong_line_needs_no_cyclopts(words):
    assert modules_after(*words).isdisjoint({*HEAVY, "cyclopts", "attrs"})


def test_cyclopts_brings_no_rich_for_a_wrong_value():
    loaded = modules_after("stop", "-t", "soon", "a")
    assert "cyclopts" in loaded
    assert loaded.isdisjoint({"structlog", "anyio", "msgspec", "asyncio", "trio"})


def test_registering_imports_no_command():
    """The App is strings: making it imports none of the commands."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from mdocker.cli import make_app; make_app();"
            "print([m for m in sys.modules if m.startswith('mdocker.commands')])",
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
