"""kill -9 of the supervisor right before each of its calls in a phase; the next one goes on.

The whole of it takes minutes, so each run of the suite takes a sample by a seed that it prints;
`MDOCKER_FAULTS=10 pytest tests/faults/test_killed_at_each_call.py` tries every call.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.killed_engine import PHASES
from tests.real.engine_process import CHECKOUT, EngineProcess
from tests.soak.leftovers import behind

SCALE = int(os.environ.get("MDOCKER_FAULTS", "1"))
SAMPLE = 1
MOST_CALLS = 200


def run_until_killed(base, phase, k):
    """Returns whether the phase got through before its k-th call."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.faults.killed_engine", str(base), phase, str(k)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == -9, ran.stderr[-2000:]
    return "through" in ran.stdout


def how_it_goes_on(engine, phase):
    """Ask the next supervisor for the same again, and then for the rest of the life."""
    found = engine.get("/containers/bird/json")
    if phase == "create":
        if found.status == 404:
            engine.create("true", name="bird")
        assert engine.post("/containers/bird/start").status == 204
        return
    if phase == "remove":
        assert found.status in (200, 404)
        # A removal that had begun is ended without being asked for.
        wholly_there = found.status == 200 and found.json["State"]["Status"] == "created"
        assert engine.delete("/containers/bird").status in ((204,) if wholly_there else (204, 404))
        return
    assert found.status == 200, found
    state = found.json["State"]
    assert state["Error"] == "", state
    if phase == "start":
        assert state["Status"] in ("created", "running")
        asked = engine.post("/containers/bird/start").status
        assert asked == (304 if state["Running"] else 204)
        due = b"up\n"
    elif phase == "stop":
        assert engine.post("/containers/bird/stop?t=25").status in (204, 304)
        state = engine.inspect("bird")["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", 3), state
        due = b"up\nbye\n"
    elif phase == "commit":
        due = b"up\n"
        # Paused for the commit alone, it goes on without being asked.
        assert state["Status"] == "running"
        listed = [image["RepoTags"] for image in engine.get("/images/json").json]
        assert listed in ([["host:latest"]], [["nest:1"], ["host:latest"]])
        engine.swept()
        assert engine.post("/commit?container=bird&repo=nest&tag=1").status == 201
        assert engine.result("true", image="nest:1")[0] == 0
    else:
        # The wish for a next run may have been put on record, or not.
        assert engine.post("/containers/bird/restart?t=25").status == 204
        assert engine.inspect("bird")["State"]["Status"] == "running"
        due = None
    if state["Status"] != "exited" or phase != "stop":
        with engine.stream("GET", "/containers/bird/logs?stdout=1&follow=1") as logs:
            assert logs.read(11)
        assert engine.post("/containers/bird/kill").status == 204
    out, err = engine.output("bird")
    assert err == b""
    if due is not None:
        assert out == due
    else:
        lines = out.decode().split("\n")[:-1]
        assert lines[:3] == ["up", "bye", "up"], lines
        assert all(line in ("up", "bye") for line in lines)


def fitting(base, phase, k):
    """One kill, and what follows; returns whether the phase got through before its k-th call."""
    through = run_until_killed(base, phase, k)
    engine = EngineProcess(base).start()
    try:
        how_it_goes_on(engine, phase)
        engine.delete("/containers/bird?force=1")
        assert behind(engine, engine.process.pid, engine.shim_pid) == []
    except BaseException as error:
        error.add_note(f"{phase}: killed before call {k}; see {base}")
        raise
    finally:
        engine.close()
    return through


@pytest.mark.timeout(60 if SCALE == 1 else 600)
@pytest.mark.parametrize("phase", PHASES)
def test_the_next_supervisor_goes_on(tmp_path, phase):
    if SCALE > 1:
        calls = range(1, MOST_CALLS)
    else:
        seed = random.SystemRandom().randrange(1 << 32)
        calls = random.Random(seed).sample(range(1, CALLS[phase] + 1), SAMPLE)
        print(f"{phase}: killed before calls {calls} (seed {seed})")
    for k in calls:
        if fitting(Path(tmp_path, str(k)), phase, k) and SCALE > 1:
            return
    assert SCALE == 1, "more calls than we tried"


CALLS = {"create": 8, "start": 30, "stop": 20, "restart": 45, "remove": 12, "commit": 80}
"""About how many calls each phase makes, for the sample."""
