"""Restart policies with real containers: what people see, stop, start and update while it loops."""

import contextlib
import http.client
import json
import os
import random
import threading
import time
import urllib.parse
from pathlib import Path

import pytest

from tests.real.engine_process import cgroups_of

FAR = 60_000

SLOW_TO_STOP = (
    "trap 'until [ -e /tmp/go ]; do sleep 0.02; done; exit 4' TERM; while :; do sleep 0.02; done"
)


def policy(name="always", retries=0, delay=1, longest=None):
    return {
        "RestartPolicy": {
            "Name": name,
            "MaximumRetryCount": retries,
            "DelayMs": delay,
            "MaxDelayMs": longest or delay,
        }
    }


def actions_until(engine, container, action, count=1):
    """What has happened to a container, in order, until `action` has happened `count` times."""
    filters = urllib.parse.quote(json.dumps({"container": [container]}))
    seen = []
    with engine.stream("GET", f"/events?since=1&filters={filters}") as events:
        for line in events:
            event = json.loads(line)
            seen.append((event["Action"], event["Actor"]["Attributes"].get("exitCode")))
            if sum(one == action for one, _ in seen) == count:
                return seen
    raise AssertionError(f"the stream ended: {seen}")


def restarting(engine, code=3, **options):
    """A container that waits for its next restart, a minute from now."""
    container = engine.run(
        "sh", "-c", f"echo run; exit {code}", HostConfig=policy(delay=FAR), **options
    )
    actions_until(engine, container, "die")
    assert engine.inspect(container)["State"]["Status"] == "restarting"
    return container


@pytest.fixture
def removed(engine):
    """Whatever the test has made goes."""
    yield
    for container in engine.get("/containers/json?all=1").json:
        engine.delete(f"/containers/{container['Id']}?force=1")


pytestmark = pytest.mark.usefixtures("removed")


def test_on_failure_goes_on_until_its_count_is_reached(engine):
    container = engine.run("sh", "-c", "echo run; exit 3", HostConfig=policy("on-failure", 2))
    seen = actions_until(engine, container, "die", 3)
    start, die = ("start", None), ("die", "3")
    assert seen == [("create", None), start, die, start, die, start, die]
    shown = engine.inspect(container)
    assert shown["RestartCount"] == 2
    assert (shown["State"]["Status"], shown["State"]["ExitCode"]) == ("exited", 3)
    assert engine.wait(container) == 3
    assert engine.output(container) == (b"run\n" * 3, b"")


def test_on_failure_leaves_a_success_alone(engine):
    container = engine.run("true", HostConfig=policy("on-failure"))
    assert engine.wait(container) == 0
    shown = engine.inspect(container)
    assert (shown["State"]["Status"], shown["RestartCount"]) == ("exited", 0)


def test_what_is_told_of_one_that_waits(engine):
    container = restarting(engine, name="finch")
    shown = engine.inspect(container)
    state = shown["State"]
    assert (state["Running"], state["Restarting"], state["Pid"]) == (True, True, 0)
    assert state["ExitCode"] == 3
    assert state["NextRestartAt"] > state["FinishedAt"]
    assert shown["RestartCount"] == 1
    filters = urllib.parse.quote(json.dumps({"status": ["restarting"]}))
    (line,) = engine.get(f"/containers/json?filters={filters}").json
    assert line["Id"] == container
    assert line["Status"].startswith("Restarting (3) ")
    assert [c["Id"] for c in engine.get("/containers/json").json] == [container]
    assert cgroups_of(container) == []
    answer = engine.delete("/containers/finch")
    assert answer.status == 409
    assert answer.message == (
        'cannot remove container "finch": container is restarting: '
        "stop the container before removing or force remove"
    )
    assert engine.post("/containers/finch/kill?signal=HUP").status == 409
    assert engine.post("/containers/prune").json["ContainersDeleted"] is None


@pytest.mark.parametrize("verb", ["stop", "kill"])
def test_stop_and_kill_end_the_waiting_and_tell_who_waits(engine, verb):
    container = restarting(engine)
    codes = []
    waiter = threading.Thread(target=lambda: codes.append(engine.wait(container)))
    with engine.stream("POST", f"/containers/{container}/wait?condition=next-exit") as registered:
        waiter.start()
        assert engine.post(f"/containers/{container}/{verb}").status == 204
        assert json.loads(registered.read())["StatusCode"] == 3
    waiter.join(10)
    assert codes == [3]
    state = engine.inspect(container)["State"]
    assert (state["Status"], state["Running"], state["ExitCode"]) == ("exited", False, 3)
    assert state["NextRestartAt"].startswith("0001")
    expected = {"stop": 304, "kill": 409}[verb]
    assert engine.post(f"/containers/{container}/{verb}").status == expected


def test_rm_with_force_ends_the_waiting(engine):
    container = restarting(engine)
    assert engine.delete(f"/containers/{container}?force=1").status == 204
    assert engine.get(f"/containers/{container}/json").status == 404


def test_start_does_not_wait_and_begins_the_count_anew(engine):
    container = restarting(engine)
    assert engine.post(f"/containers/{container}/start").status == 204
    assert actions_until(engine, container, "die", 2)[-1] == ("die", "3")
    shown = engine.inspect(container)
    assert (shown["State"]["Status"], shown["RestartCount"]) == ("restarting", 1)
    assert engine.output(container) == (b"run\nrun\n", b"")


def test_restart_of_one_that_waits(engine):
    container = restarting(engine)
    assert engine.post(f"/containers/{container}/restart").status == 204
    seen = actions_until(engine, container, "die", 2)
    assert [one for one, _ in seen if one != "restart"] == [
        *("create", "start", "die"),
        *("start", "die"),
    ]
    assert engine.output(container) == (b"run\nrun\n", b"")


def test_a_stopped_one_stays_stopped_and_can_be_started(engine):
    container = engine.run("sleep", "1000", HostConfig=policy())
    assert engine.post(f"/containers/{container}/stop?t=0").status == 204
    state = engine.inspect(container)["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 137)
    assert engine.post(f"/containers/{container}/start").status == 204
    pid = engine.inspect(container)["State"]["Pid"]
    os.kill(pid, 9)  # nobody of ours has asked for this
    seen = actions_until(engine, container, "start", 3)
    assert seen[-2:] == [("die", "137"), ("start", None)]


def test_a_signal_that_asks_for_no_end_does_not_end_the_policy(engine):
    container = engine.run(
        "sh", "-c", "trap 'exit 5' HUP; echo ready; sleep 1000 & wait", HostConfig=policy()
    )
    with engine.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1") as logs:
        assert b"ready" in logs.read1(100)
    assert engine.post(f"/containers/{container}/kill?signal=HUP").status == 204
    assert actions_until(engine, container, "start", 2)[-2:] == [("die", "5"), ("start", None)]
    assert engine.post(f"/containers/{container}/kill").status == 204
    assert engine.inspect(container)["State"]["Status"] == "exited"


def test_update_changes_what_follows(engine):
    container = restarting(engine)
    update = f"/containers/{container}/update"
    answer = engine.post(update, {"RestartPolicy": {"Name": "no"}})
    assert (answer.status, answer.json) == (200, {"Warnings": []})
    shown = engine.inspect(container)
    assert shown["State"]["Status"] == "exited"
    assert shown["HostConfig"]["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
    answer = engine.post(update, policy("on-failure", 1))
    assert answer.status == 200
    assert engine.post(f"/containers/{container}/start").status == 204
    assert actions_until(engine, container, "die", 3)[-1] == ("die", "3")
    shown = engine.inspect(container)
    assert (shown["State"]["Status"], shown["RestartCount"]) == ("exited", 1)
    answer = engine.post(update, {"RestartPolicy": {"Name": "ever"}})
    assert (answer.status, "unknown policy 'ever'" in answer.message) == (400, True)
    answer = engine.post(update, {"CpuRealtimePeriod": 9, "RestartPolicy": {"Name": "no"}})
    assert (answer.status, "CpuRealtimePeriod" in answer.message) == (501, True)


def test_attempts_whose_payload_is_gone_go_on_and_say_so(engine, busybox):
    container = engine.run(
        *("/bin/busybox", "sh", "-c", "rm /bin/busybox; exit 1"),
        image=busybox,
        HostConfig=policy("on-failure", 3),
    )
    assert engine.wait(container, "next-exit") in (1, 127)
    while (shown := engine.inspect(container))["State"]["Restarting"]:
        engine.wait(container)
    assert shown["State"]["Status"] == "exited"
    assert shown["State"]["ExitCode"] == 127
    assert "no such file or directory" in shown["State"]["Error"]
    assert shown["RestartCount"] == 3


def test_a_first_start_that_fails_is_not_repeated(engine):
    container = engine.create("/nosuch", HostConfig=policy())
    assert engine.post(f"/containers/{container}/start").status == 400
    shown = engine.inspect(container)
    assert (shown["State"]["Status"], shown["RestartCount"]) == ("created", 0)
    assert shown["State"]["ExitCode"] == 127


def test_attach_to_one_that_waits_is_refused(engine):
    container = restarting(engine)
    answer = engine.post(f"/containers/{container}/attach?stdout=1&stream=1")
    assert (answer.status, "wait until the container is running" in answer.message) == (409, True)


def test_fifty_restarts_leave_nothing(engine):
    warm = engine.run("false", HostConfig=policy("on-failure", 5))
    actions_until(engine, warm, "die", 6)
    before = engine.descriptors()
    container = engine.run("sh", "-c", "echo run; exit 1", HostConfig=policy("on-failure", 50))
    actions_until(engine, container, "die", 51)
    assert engine.inspect(container)["State"]["Status"] == "exited"
    assert engine.output(container) == (b"run\n" * 51, b"")
    assert cgroups_of(container) == []
    # The connections of this test come and go: a few, not fifty.
    assert all(now <= then + 2 for now, then in zip(engine.descriptors(), before, strict=True))


# ── the supervisor dies, the machine goes down ──────────────────────────────────────────────────


def record(engine, container):
    return Path(engine.root) / "containers" / container / "config.json"


def test_a_stop_is_remembered_over_a_death(fresh_engine):
    engine = fresh_engine
    stopped = engine.run("sleep", "1000", HostConfig=policy())
    waiting = restarting(engine)
    assert engine.post(f"/containers/{stopped}/stop?t=0").status == 204
    assert engine.post(f"/containers/{waiting}/stop").status == 204
    engine.kill()
    engine.start()
    for container in (stopped, waiting):
        shown = engine.inspect(container)
        assert shown["State"]["Status"] == "exited"


def test_a_stop_that_a_death_cut_off_is_remembered(fresh_engine):
    engine = fresh_engine
    container = engine.run("sh", "-c", SLOW_TO_STOP, HostConfig=policy())
    pid = engine.inspect(container)["State"]["Pid"]

    def stop():
        with contextlib.suppress(OSError, http.client.HTTPException):
            engine.post(f"/containers/{container}/stop?t=60")

    stopper = threading.Thread(target=stop)
    stopper.start()
    actions_until(engine, container, "kill")
    engine.kill()
    stopper.join(20)
    engine.start()
    Path(f"/proc/{pid}/root/tmp/go").touch()
    assert engine.wait(container) == 4
    assert engine.inspect(container)["State"]["Status"] == "exited"


def test_a_restart_that_a_death_cut_off_is_done_by_the_next_supervisor(fresh_engine):
    engine = fresh_engine
    container = engine.run("sh", "-c", SLOW_TO_STOP)
    pid = engine.inspect(container)["State"]["Pid"]

    def restart():
        with contextlib.suppress(OSError, http.client.HTTPException):
            engine.post(f"/containers/{container}/restart?t=60")

    asker = threading.Thread(target=restart)
    asker.start()
    actions_until(engine, container, "kill")
    engine.kill()
    asker.join(20)
    engine.start()
    Path(f"/proc/{pid}/root/tmp/go").touch()
    assert actions_until(engine, container, "start", 2)[-2:] == [("stop", None), ("start", None)]
    assert engine.inspect(container)["State"]["Running"]


def test_every_attempt_is_made_once_whenever_the_supervisor_dies(fresh_engine):
    engine, seed = fresh_engine, random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    crash = ("sh", "-c", "echo run; exit 3")
    containers = [engine.run(*crash, HostConfig=policy("on-failure", 12)) for _ in range(2)]
    while any(engine.inspect(c)["State"]["Running"] for c in containers):
        # Not a wait for anything: the moment of death is what is tried out.
        time.sleep(chance.random() * 0.2)
        engine.kill()
        engine.start()
    for container in containers:
        assert engine.wait(container) == 3
        assert engine.inspect(container)["RestartCount"] == 12
        assert engine.output(container) == (b"run\n" * 13, b"")


def test_the_waiting_goes_on_after_a_death(fresh_engine):
    engine = fresh_engine
    far = restarting(engine)
    soon = engine.run("sh", "-c", "exit 3", HostConfig=policy(delay=1500))
    due = engine.inspect(far)["State"]["NextRestartAt"]
    engine.kill()
    engine.start()
    state = engine.inspect(far)["State"]
    assert (state["Status"], state["NextRestartAt"]) == ("restarting", due)
    actions_until(engine, soon, "die", 2)
    assert engine.inspect(soon)["RestartCount"] >= 2


def test_one_that_ends_while_nobody_looks_comes_back(fresh_engine):
    engine = fresh_engine
    container = engine.run(
        "sh",
        "-c",
        "[ -e /tmp/again ] && exec sleep 1000; touch /tmp/again; sleep 1000",
        HostConfig=policy("on-failure"),
    )
    pid = engine.inspect(container)["State"]["Pid"]
    engine.kill()
    os.kill(pid, 9)
    engine.start()
    actions_until(engine, container, "start", 2)
    shown = engine.inspect(container)
    assert (shown["State"]["Status"], shown["RestartCount"]) == ("running", 1)


def test_after_a_reboot_those_come_back_whose_policy_says_so(fresh_engine):
    """The machine goes down: every process is gone at once, and the boot id is another."""
    engine = fresh_engine
    ran, stopped = {}, {}
    for name in ("no", "on-failure", "always", "unless-stopped"):
        for kind in (ran, stopped):
            asked = {"RestartPolicy": {"Name": name}}
            kind[name] = engine.run("sleep", "1000", HostConfig=asked)
        assert engine.post(f"/containers/{stopped[name]}/stop?t=0").status == 204
    engine.kill()
    os.kill(engine.shim_pid, 9)
    for container in ran.values():
        pid = json.loads(record(engine, container).read_text())["life"]["pid"]
        os.kill(pid, 9)
    for container in (*ran.values(), *stopped.values()):
        path = record(engine, container)
        known = json.loads(path.read_text())
        known["life"]["boot_id"] = "an earlier boot"
        path.write_text(json.dumps(known))
    engine.start()
    for name in ("on-failure", "always", "unless-stopped"):
        actions_until(engine, ran[name], "start", 2)
    actions_until(engine, stopped["always"], "start", 2)
    states = {
        kind: {name: engine.inspect(c)["State"]["Status"] for name, c in containers.items()}
        for kind, containers in (("ran", ran), ("stopped", stopped))
    }
    assert states == {
        "ran": {
            "no": "exited",
            "on-failure": "running",
            "always": "running",
            "unless-stopped": "running",
        },
        "stopped": {
            "no": "exited",
            "on-failure": "exited",
            "always": "running",
            "unless-stopped": "exited",
        },
    }
    assert engine.inspect(ran["no"])["State"]["Error"] != ""
