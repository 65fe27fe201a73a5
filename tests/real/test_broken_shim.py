"""The shim is killed, alone or with the supervisor: no exit code, process or cgroup is lost."""

import os
import signal
import subprocess
import threading
from pathlib import Path

from tests.real.conftest import our_cgroups, payloads
from tests.real.engine_process import EngineProcess


def container_cgroups(engine):
    return {
        path.name
        for parent in our_cgroups(engine.base)
        for path in Path(parent).iterdir()
        if path.is_dir()
    }


def test_codes_survive_a_shim_that_dies_while_they_come(fresh_engine):
    engine = fresh_engine
    for _ in range(4):
        containers = [engine.run("sh", "-c", "sleep 0.2; exit 9") for _ in range(12)]
        os.kill(engine.shim_pid, signal.SIGKILL)
        assert [engine.wait(one) for one in containers] == [9] * 12
        for one in containers:
            assert engine.delete(f"/containers/{one}").status == 204


def test_what_a_dead_shim_left_of_a_start_is_ended(fresh_engine):
    engine = fresh_engine
    container = engine.create("sleep", "1000")
    shim = engine.shim_pid
    os.kill(shim, signal.SIGSTOP)
    answers = []
    asking = threading.Thread(
        target=lambda: answers.append(engine.post(f"/containers/{container}/start"))
    )
    asking.start()
    # It stands for an init that was cloned and that the shim did not live to tell of.
    with subprocess.Popen(["sleep", "1000"]) as stray:
        while True:
            found = [p for p in our_cgroups(engine.base) if Path(p, container).is_dir()]
            if found:
                break
        Path(found[0], container, "cgroup.procs").write_text(str(stray.pid))
        os.kill(shim, signal.SIGKILL)
        try:
            assert stray.wait(20) == -signal.SIGKILL
        finally:
            stray.kill()
    asking.join(20)
    assert answers[0].status == 500
    assert "the shim died" in answers[0].message
    assert container_cgroups(engine) == set()
    assert engine.post(f"/containers/{container}/start").status == 204


def test_both_die_and_what_ran_is_ended_and_said(fresh_engine):
    engine = fresh_engine
    running = [engine.run("sh", "-c", "sleep 1000 & sleep 1000") for _ in range(8)]
    created = engine.create("true")
    shim = engine.shim_pid
    engine.kill()
    os.kill(shim, signal.SIGKILL)
    # A start that was under way then has left its cgroup.
    (parent,) = our_cgroups(engine.base)
    Path(parent, created).mkdir()
    engine.start()
    for one in running:
        state = engine.inspect(one)["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", 137)
        assert "it was killed" in state["Error"]
    assert container_cgroups(engine) == set()
    assert payloads(str(engine.base)) == {}
    for one in running:
        assert engine.post(f"/containers/{one}/start").status == 204


def test_both_die_with_a_child_in_a_cgroup_of_its_own(tmp_path):
    engine = EngineProcess(tmp_path / "engine").start()
    try:
        container = engine.run("sleep", "1000")
        (parent,) = our_cgroups(engine.base)
        pid = engine.inspect(container)["State"]["Pid"]
        inner = Path(parent, container, "inner")
        inner.mkdir()
        (inner / "cgroup.procs").write_text(str(pid))
        shim = engine.shim_pid
        engine.kill()
        os.kill(shim, signal.SIGKILL)
        engine.start()
        assert container_cgroups(engine) == set()
    finally:
        engine.close()
