"""The supervisor is killed at random moments, while containers print numbers as fast as they can.

Each number must stand in the log once and in order, in both streams. By default some dozens of
kills; MDOCKER_KILLS=500 makes it 500, MDOCKER_SEED=N repeats the moments of a run.
"""

import os
import random
import subprocess
import sys
import time

from logs.drivers import Stream
from logs.reader import read

KILLS = int(os.environ.get("MDOCKER_KILLS", "16"))
SEED = int(os.environ.get("MDOCKER_SEED") or random.randrange(1 << 32))
LONGEST_LIFE_S = 0.5
"""Some kills hit a start or a recovery, others the pumping."""

COUNT = "seq 1 1000000000 >&2 & exec seq 1 1000000000"
LOGS = {
    "whole": {"Type": "json-file", "Config": {"max-size": "-1"}},
    "rotated": {"Type": "json-file", "Config": {"max-size": "300k", "max-file": "1000"}},
    "compressed": {
        "Type": "k8s-file",
        "Config": {"max-size": "3m", "max-file": "1000", "compress": "true"},
    },
    "tagged": {
        "Type": "json-file",
        "Config": {"max-size": "10m", "max-file": "1000", "tag": "{{.Name}}"},
    },
}


def kill_at(engine, moment):
    """Start a supervisor and kill it after so many seconds, whatever it has got to."""
    words = ("--root", str(engine.root), "--run-dir", str(engine.run_dir), "--no-respawn")
    with (engine.base / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mdocker", "daemon", "--backend", engine.backend, *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=engine.environment,
            cwd="/",
        )
    time.sleep(moment)  # the random moment is the point
    process.kill()
    process.wait()


def numbers_in(chunks):
    """How many numbers there are: from 1 on, each once and in order; the last may be cut short."""
    counted = 0
    with subprocess.Popen(["seq", "1", "1000000000"], stdout=subprocess.PIPE) as truth:
        try:
            for chunk in chunks:
                expected = truth.stdout.read(len(chunk))
                if chunk != expected:
                    at = next(
                        i for i, (a, b) in enumerate(zip(chunk, expected, strict=True)) if a != b
                    )
                    around = slice(max(0, at - 60), at + 60)
                    raise AssertionError(f"{chunk[around]!r} is not {expected[around]!r}")
                counted += chunk.count(b"\n")
        finally:
            truth.kill()
    return counted


def test_kills_at_random_moments_lose_and_repeat_nothing(fresh_engine):
    engine, dice = fresh_engine, random.Random(SEED)
    print(f"MDOCKER_SEED={SEED} MDOCKER_KILLS={KILLS}")
    for name, log in LOGS.items():
        engine.run("sh", "-c", COUNT, name=name, HostConfig={"LogConfig": log})
    engine.kill()
    for _ in range(KILLS):
        kill_at(engine, dice.uniform(0.1, LONGEST_LIFE_S))
    engine.start()
    total = 0
    for name, log in LOGS.items():
        assert engine.post(f"/containers/{name}/kill").status == 204
        assert engine.wait(name) == 137
        path = engine.inspect(name)["LogPath"]
        for stream in (Stream.STDOUT, Stream.STDERR):
            counted = numbers_in(read(path, log["Type"], streams=[stream]))
            assert counted > 1000, (name, stream)
            total += counted
    print(f"{total} numbers, {KILLS + 1} kills of the supervisor")
