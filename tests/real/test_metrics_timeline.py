"""What /metrics and the timeline tell of real containers, also after deaths of the supervisor."""

import contextlib
import http.client
import re
import signal
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.real.engine_process import EngineProcess, UnixConnection


def samples(engine):
    answer = engine.get("/metrics")
    assert answer.status == 200, answer
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def phases(engine, container):
    answer = engine.get(f"/containers/{container}/timeline")
    assert answer.status == 200, answer
    return answer.json["Phases"]


def names(engine, container):
    return [phase["Name"] for phase in phases(engine, container)]


def under_way(engine, container):
    return [one["Name"] for one in phases(engine, container) if one["Ended"].startswith("0001")]


def test_a_life_is_counted(engine):
    before = samples(engine)
    container = engine.run("sh", "-c", "printf 'twelve bytes'; exit 3")
    assert engine.wait(container) == 3
    failed = engine.create("nosuch")
    assert engine.post(f"/containers/{failed}/start").status == 400
    assert engine.delete(f"/containers/{container}").status == 204
    after = samples(engine)

    def more(*name):
        return after.get(name, 0) - before.get(name, 0)

    assert more("mdocker_container_starts_total") == 1
    assert more("mdocker_container_failed_starts_total") == 1
    assert more("mdocker_container_exits_total", "failure") == 1
    assert more("mdocker_log_read_bytes_total") == len("twelve bytes")
    assert more("mdocker_log_written_bytes_total") > len("twelve bytes")
    assert more("mdocker_log_dropped_bytes_total") == 0
    for phase in ("create", "start", "start.spawn", "start.init", "run", "remove"):
        assert more("mdocker_phase_duration_seconds_count", phase) >= 1, phase
    assert after["process_open_fds",] > 3
    assert after["mdocker_shim_process_open_fds",] > 3
    assert after["mdocker_event_loop_lag_seconds_count",] > 0


def test_scraping_holds_nothing(engine):
    """On one connection, so that no other's end is still on its way."""
    connection = UnixConnection(engine.socket)
    open_fds = []
    try:
        for _ in range(12):
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
            open_fds.append(re.findall(r"^(?:mdocker_shim_)?process_open_fds .*", text, re.M))
    finally:
        connection.close()
    assert len(open_fds[-1]) == 2
    assert open_fds[-1] == open_fds[1]


def test_a_stop_that_has_to_kill_is_shown_in_its_parts(engine):
    container = engine.run("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
    with engine.stream("GET", f"/containers/{container}/logs?follow=1&stdout=1") as follow:
        follow.read(8 + len("ready\n"))
    assert under_way(engine, container) == ["run"]
    assert engine.post(f"/containers/{container}/stop?t=0").status == 204
    assert under_way(engine, container) == []
    found = {phase["Name"]: phase for phase in phases(engine, container)}
    assert found["stop"]["Note"] == "SIGTERM"
    assert found["run"]["Note"] == "SIGKILL"
    assert found["stop.kill"]["DurationNs"] <= found["stop"]["DurationNs"]
    # SIGKILL is noted behind its sending: the end may have been quicker than the note.
    ended = max(found["run"]["Ended"], found["stop.kill"]["Began"])
    assert found["stop.kill"]["Ended"] == ended
    assert found["stop"]["Ended"] == found["run"]["Ended"]


def test_a_failed_start_is_part_of_the_life(engine):
    container = engine.create("nosuch")
    assert engine.post(f"/containers/{container}/start").status == 400
    failed = phases(engine, container)[1]
    assert (failed["Name"], failed["Note"]) == ("start", "failed")


@pytest.fixture
def mortal(tmp_path):
    """An engine that this test kills."""
    process = EngineProcess(tmp_path / "engine").start()
    yield process
    process.close()


def test_the_timeline_outlives_supervisors(mortal):
    container = mortal.run("sleep", "1000")
    mortal.start_is_on_record(container)
    before = phases(mortal, container)
    for _ in range(2):
        mortal.kill()
        mortal.start()
    after = phases(mortal, container)
    assert after[:-1] == before[:-1]
    assert after[-1]["Name"] == "run"
    assert after[-1]["Began"] == before[-1]["Began"]
    timeline = mortal.get(f"/containers/{container}/timeline").json
    assert [one["Adopted"] for one in timeline["Supervisors"]] == [1, 1]
    assert timeline["Supervisors"][-1]["Pid"] == mortal.process.pid
    counted = samples(mortal)
    assert counted["mdocker_containers_adopted_total",] == 1
    assert 0 < counted["mdocker_recovery_seconds",] < 60


def test_a_stop_under_way_when_the_supervisor_dies_is_one_stop(mortal):
    container = mortal.run("sh", "-c", "trap 'echo got it' TERM; while :; do sleep 0.1; done")

    def stop():
        with contextlib.suppress(http.client.HTTPException, OSError):
            mortal.post(f"/containers/{container}/stop?t=1000")

    with mortal.stream("GET", f"/containers/{container}/logs?follow=1&stdout=1") as follow:
        stopping = threading.Thread(target=stop)
        stopping.start()
        follow.read(8 + len("got it\n"))
    mortal.kill()
    stopping.join()
    mortal.start()
    assert under_way(mortal, container) == ["run", "stop", "stop.term"]
    assert mortal.post(f"/containers/{container}/kill").status == 204
    assert names(mortal, container).count("stop") == 1
    assert under_way(mortal, container) == []


def test_what_a_restart_policy_waits_for_is_shown(engine):
    policy = {"Name": "on-failure", "MaximumRetryCount": 2, "DelayMs": 20}
    container = engine.create("false", HostConfig={"RestartPolicy": policy})
    assert engine.post(f"/containers/{container}/start").status == 204
    filters = f'{{"container":["{container}"],"event":["die"]}}'
    with engine.stream("GET", f"/events?since=1&filters={filters}") as events:
        for _ in range(3):
            events.readline()
    found = [name for name in names(engine, container) if name in ("run", "restart-delay")]
    assert found == ["run", "restart-delay", "run", "restart-delay", "run"]
    assert under_way(engine, container) == []
    counted = samples(engine)
    assert counted["mdocker_container_restarts_total",] >= 2
    assert counted["mdocker_phase_duration_seconds_count", "restart-delay"] >= 2


def test_signals_are_moments(engine):
    container = engine.run("sleep", "1000")
    for _ in range(3):
        assert engine.post(f"/containers/{container}/kill?signal=CONT").status == 204
    moment = next(one for one in phases(engine, container) if one["Name"] == "signal")
    assert (moment["Note"], moment["Count"]) == (signal.SIGCONT.name, 3)
