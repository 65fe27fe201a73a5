"""Pause and unpause on real containers: frozen, remembered, and ended in spite of it."""

import json
import os
import signal
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.real.engine_process import cgroups_of

TICKS = "i=0; while :; do i=$((i+1)); echo $i; done"
POLITE = "trap 'echo asked; exit 7' TERM; echo ready; while :; do sleep 0.01; done"


def first_line(engine, container):
    with engine.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1") as logs:
        return logs.read(9)


def state(engine, container):
    return engine.inspect(container)["State"]


def cpu_usec(container):
    unified = next(path for path in cgroups_of(container) if Path(path, "cgroup.freeze").exists())
    return int(Path(unified, "cpu.stat").read_text().split()[1])


def paused(engine, *command, **options):
    container = engine.run("sh", "-c", *command, **options)
    assert first_line(engine, container)
    answer = engine.post(f"/containers/{container}/pause")
    assert answer.status == 204, answer
    return container


def told(engine, container):
    filters = quote(json.dumps({"container": [container]}))
    lines = engine.get(f"/events?since=1&until={time.time()}&filters={filters}").body.splitlines()
    return [json.loads(line)["Action"] for line in lines]


def test_what_is_paused_uses_no_processor_and_goes_on(engine):
    container = paused(engine, TICKS)
    used = cpu_usec(container)
    assert (state(engine, container)["Status"], state(engine, container)["Paused"]) == (
        "paused",
        True,
    )
    assert state(engine, container)["Running"]
    shown = engine.get("/containers/json?filters=%7B%22status%22:[%22paused%22]%7D").json
    assert [one["Status"].endswith("(Paused)") for one in shown if one["Id"] == container] == [True]
    assert engine.get("/info").json["ContainersPaused"] >= 1
    assert cpu_usec(container) == used
    assert engine.post(f"/containers/{container}/unpause").status == 204
    assert (state(engine, container)["Status"], state(engine, container)["Paused"]) == (
        "running",
        False,
    )
    since = f"since={time.time()}"
    with engine.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1&{since}") as logs:
        assert logs.read(9)
    assert told(engine, container)[-2:] == ["pause", "unpause"]
    names = [one["Name"] for one in engine.get(f"/containers/{container}/timeline").json["Phases"]]
    assert names.count("paused") == 1
    assert engine.delete(f"/containers/{container}?force=1").status == 204


def test_what_can_not_be_paused_or_unpaused_is_refused_in_dockers_words(engine):
    container = paused(engine, POLITE)
    again = engine.post(f"/containers/{container}/pause")
    assert (again.status, again.message) == (409, f"Container {container} is already paused")
    start = engine.post(f"/containers/{container}/start")
    assert (start.status, start.message) == (
        409,
        "cannot start a paused container, try unpause instead",
    )
    remove = engine.delete(f"/containers/{container}")
    assert (remove.status, "is paused and must be unpaused first" in remove.message) == (409, True)
    attach = engine.post(f"/containers/{container}/attach?stream=1&stdout=1")
    assert (attach.status, "unpause the container before attach" in attach.message) == (409, True)
    assert engine.post(f"/containers/{container}/unpause").status == 204
    never = engine.post(f"/containers/{container}/unpause")
    assert (never.status, never.message) == (500, f"Container {container} is not paused")
    assert engine.post(f"/containers/{container}/kill").status == 204
    ended = engine.post(f"/containers/{container}/pause")
    assert (ended.status, ended.message) == (409, f"Container {container} is not running")
    assert engine.post("/containers/nosuch/pause").status == 404
    assert engine.delete(f"/containers/{container}").status == 204


def test_a_stop_lets_it_go_on_to_meet_the_signal(engine):
    container = paused(engine, POLITE)
    assert engine.post(f"/containers/{container}/stop?t=30").status == 204
    assert state(engine, container)["ExitCode"] == 7
    assert engine.output(container)[0] == b"ready\nasked\n"
    assert told(engine, container)[-5:] == ["pause", "unpause", "kill", "die", "stop"]
    assert engine.delete(f"/containers/{container}").status == 204


@pytest.mark.parametrize("query", ["", "?signal=TERM"])
def test_a_kill_ends_what_is_paused(engine, query):
    container = paused(engine, POLITE)
    assert engine.post(f"/containers/{container}/kill{query}").status == 204
    assert engine.wait(container) == (7 if query else 137)
    assert not cgroups_of(container)
    assert engine.delete(f"/containers/{container}").status == 204


def test_another_signal_waits_until_it_goes_on(engine):
    container = paused(engine, "trap 'echo hup' HUP; echo ready; while :; do sleep 0.01; done")
    assert engine.post(f"/containers/{container}/kill?signal=HUP").status == 204
    assert state(engine, container)["Paused"]
    with engine.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1&tail=0") as logs:
        assert engine.post(f"/containers/{container}/unpause").status == 204
        assert logs.read(12)[8:] == b"hup\n"
    assert engine.delete(f"/containers/{container}?force=1").status == 204


def test_a_restart_and_a_forced_removal_of_what_is_paused(engine):
    container = paused(engine, POLITE)
    assert engine.post(f"/containers/{container}/restart").status == 204
    assert state(engine, container)["Status"] == "running"
    assert engine.post(f"/containers/{container}/pause").status == 204
    assert engine.delete(f"/containers/{container}?force=1").status == 204
    assert not cgroups_of(container)


def test_a_killed_supervisor_is_followed_by_one_that_knows_what_is_paused(fresh_engine):
    engine = fresh_engine
    container, behind_its_back, thawed = (paused(engine, TICKS) for _ in range(3))
    assert engine.post(f"/containers/{behind_its_back}/unpause").status == 204
    engine.kill()
    # As if it had died in between: frozen and not recorded, and the other way round.
    for one, value in ((behind_its_back, "1"), (thawed, "0")):
        unified = next(path for path in cgroups_of(one) if Path(path, "cgroup.freeze").exists())
        Path(unified, "cgroup.freeze").write_text(value)
    engine.start()
    statuses = [state(engine, one)["Status"] for one in (container, behind_its_back, thawed)]
    assert statuses == ["paused", "paused", "running"]
    assert engine.post(f"/containers/{container}/unpause").status == 204
    used = cpu_usec(container)
    while cpu_usec(container) == used:
        assert engine.answers()
    # Of both halves' death nobody could go on with it: it is ended, frozen as it is.
    os.kill(engine.shim_pid, signal.SIGKILL)
    engine.kill()
    engine.start()
    assert state(engine, behind_its_back)["Status"] == "exited"
    assert not cgroups_of(behind_its_back)


def test_health_is_not_checked_meanwhile(engine):
    # Each probe says that it has begun in the container's own output.
    test = "echo probed >/proc/1/fd/1; sleep 0.1"
    check = {"Test": ["CMD-SHELL", test], "Interval": 10**7, "Timeout": 3 * 10**8}
    container = engine.run("sh", "-c", "while :; do sleep 0.01; done", Healthcheck=check)
    filters = quote(json.dumps({"container": [container]}))
    with (
        engine.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1") as logs,
        engine.stream("GET", f"/events?since=1&filters={filters}") as events,
    ):

        def until(action):
            while json.loads(events.readline())["Action"] != action:
                continue

        until("health_status: healthy")
        for _ in range(2):
            assert logs.read(8 + len("probed\n"))
        # In the middle of a probe. That is ended by its time, as it is frozen: no failure.
        assert engine.post(f"/containers/{container}/pause").status == 204
        until("pause")
        until("exec_die")
        before = state(engine, container)["Health"]
        assert engine.post(f"/containers/{container}/unpause").status == 204
        until("unpause")
        until("exec_die")
    after = state(engine, container)["Health"]
    assert (before["FailingStreak"], after["FailingStreak"]) == (0, 0)
    assert after["Status"] == "healthy"
    assert engine.delete(f"/containers/{container}?force=1").status == 204


def test_the_command_line(engine):
    def mdocker(*words):
        process = engine.spawn(*words)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    def everything():
        return {one["Names"][0][1:] for one in engine.get("/containers/json").json}

    for name in ("bird0", "bird1"):
        engine.run("sh", "-c", TICKS, name=name)
    code, out, err = mdocker("pause", "--all")
    assert (code, set(out.split()), err) == (0, everything(), "")
    code, out, err = mdocker("pause", "bird0")
    assert (code, out, "is already paused" in err) == (1, "", True)
    assert mdocker("ps")[1].count("(Paused)") == len(everything())
    assert mdocker("unpause", "bird0", "bird1") == (0, "bird0\nbird1\n", "")
    code, out, err = mdocker("unpause", "--all")
    assert (code, set(out.split()), err) == (0, everything() - {"bird0", "bird1"}, "")
    assert mdocker("unpause")[0] == 1
    for name in ("bird0", "bird1"):
        assert engine.delete(f"/containers/{name}?force=1").status == 204
