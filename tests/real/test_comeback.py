"""Waiters and followers outlive the supervisor: it is killed under them, and nothing comes twice."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from tests.real.engine_process import CHECKOUT

COUNTS = "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); echo $i; echo err$i >&2; done"
"""Prints two streams at full speed."""


@pytest.fixture
def spawn(fresh_engine):
    """Start command lines against an engine that is going to die."""
    started = []

    def start(*words):
        process = subprocess.Popen(
            [sys.executable, "-m", "mdocker", *words],
            cwd=CHECKOUT,
            env=fresh_engine.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def die(engine):
    """kill -9, and another one."""
    engine.kill()
    engine.start()


def watch(process):
    """Collect a process' output as it comes."""
    lines = []
    thread = threading.Thread(target=lambda: lines.extend(process.stdout))
    thread.start()
    return lines, thread


def until(ready, seconds=20):
    """Wait until something is true that no descriptor tells."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_a_followed_log_has_each_line_once(fresh_engine, spawn):
    container = fresh_engine.run("sh", "-c", COUNTS)
    follower = spawn("logs", "-f", container)
    errors = []
    reader = threading.Thread(target=lambda: errors.extend(follower.stderr))
    reader.start()
    lines, thread = watch(follower)
    for goal in (100, 900, 2000):
        until(lambda goal=goal: len(lines) >= goal)
        die(fresh_engine)
    assert follower.wait(30) == 0
    thread.join()
    reader.join()
    assert lines == [f"{number}\n" for number in range(1, 4001)]
    assert errors == [f"err{number}\n" for number in range(1, 4001)]
