"""The command line against a scripted engine, in this process or as one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from mdocker.launch import launch
from tests.unit.cli.fake_engine import FakeEngine

CHECKOUT = Path(__file__).parents[3]


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ("MDOCKER_HOST", "MDOCKER_ROOT", "MDOCKER_RUN_DIR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def engine(tmp_path):
    fake = FakeEngine(tmp_path / "engine.sock")
    yield fake
    fake.close()


@pytest.fixture
def mdocker(engine, capfd):
    """Run a command line in this process."""

    def run(*words):
        code = launch(["--host", engine.host, *words])
        sys.stdout.flush()
        sys.stderr.flush()
        return Result(code, *capfd.readouterr())

    return run


@pytest.fixture
def spawn(engine):
    """Start a command line as a process; those that still run are killed at the end."""
    started = []

    def start(*words, **options):
        process = subprocess.Popen(
            [sys.executable, "-m", "mdocker", "--host", engine.host, *words],
            cwd=CHECKOUT,
            env={**os.environ, **options.pop("env", {})},
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **options,
            },
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
