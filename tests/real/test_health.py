"""Health checks of real containers: what is found, told, acted on, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.real.engine_process import EngineProcess, cgroups_of

MS = 10**6
FOREVER = "exec sleep 1000"


def shell(line, **more):
    """A Healthcheck that runs a line each 50 ms."""
    return {"Test": ["CMD-SHELL", line], "Interval": 50 * MS, **more}


def events_of(engine, container):
    """What happened to a container, from its beginning on, as it happens."""
    filters = quote(json.dumps({"container": [container]}))
    with engine.stream("GET", f"/events?since=1&filters={filters}") as response:
        for line in response:
            event = json.loads(line)
            yield event["Action"], event["Actor"]["Attributes"]


def heard(engine, container, action, times=1):
    """Wait until something has happened so often; returns the last one's attributes."""
    for told, attributes in events_of(engine, container):
        times -= told == action
        if times == 0:
            return attributes
    raise AssertionError("the stream of events has ended")


def probed(engine, container, times):
    """Wait until so many probes have ended; returns State.Health."""
    heard(engine, container, "exec_die", times)
    return engine.inspect(container)["State"]["Health"]


def logged(engine, container, fits):
    """Wait for a result on record that fits; returns it."""
    for action, _ in events_of(engine, container):
        if action.startswith("exec_create"):  # the one before is on record
            health = engine.inspect(container)["State"]["Health"]
            for result in health["Log"]:
                if fits(result):
                    return result
    raise AssertionError("the stream of events has ended")


def processes(container):
    """Who is in its cgroup and below it."""
    return {
        int(pid)
        for top in cgroups_of(container)
        for procs in Path(top).rglob("cgroup.procs")
        for pid in procs.read_text().split()
    }


@pytest.fixture
def containers(engine):
    """Runs containers that are removed after the test."""
    made = []

    def run(line=FOREVER, **options):
        made.append(engine.run("sh", "-c", line, **options))
        return made[-1]

    yield run
    for container in made:
        engine.delete(f"/containers/{container}?force=1")
        assert cgroups_of(container) == []


def test_a_healthy_one_is_told_everywhere(engine, containers):
    container = containers(Healthcheck=shell("echo fine; echo err >&2"), Labels={"a": "b"})
    state = engine.inspect(container)["State"]["Health"]
    assert state["Status"] in ("starting", "healthy")
    attributes = heard(engine, container, "health_status: healthy")
    assert attributes["a"] == "b"
    health = engine.inspect(container)["State"]["Health"]
    assert (health["Status"], health["FailingStreak"]) == ("healthy", 0)
    first = health["Log"][0]
    assert (first["ExitCode"], first["Output"]) == (0, "fine\nerr\n")
    assert first["Start"] < first["End"]
    listed = engine.get("/containers/json").json
    assert next(c["Status"] for c in listed if c["Id"] == container).endswith(" (healthy)")
    for status, found in (("healthy", True), ("unhealthy", False), ("none", False)):
        filters = quote(json.dumps({"health": [status]}))
        ids = [c["Id"] for c in engine.get(f"/containers/json?filters={filters}").json]
        assert (container in ids) == found
    shown = engine.inspect(container)["Config"]["Healthcheck"]
    assert shown == shell("echo fine; echo err >&2")


def test_the_probes_are_told_as_execs(engine, containers):
    container = containers(Healthcheck={"Test": ["CMD", "sh", "-c", "exit 3"], "Interval": 50 * MS})
    told = []
    for action, attributes in events_of(engine, container):
        told.append((action, attributes))
        if action == "exec_die":
            break
    names = [action for action, _ in told]
    assert names == ["create", "start", "exec_create: sh -c exit 3", "exec_start: sh -c exit 3",
                     "exec_die"]  # fmt: skip
    assert re.fullmatch("[0-9a-f]{64}", told[2][1]["execID"])
    assert len({attributes["execID"] for _, attributes in told[2:]}) == 1
    assert told[-1][1]["exitCode"] == "3"


def test_only_the_last_five_are_kept_and_old_ones_survive_a_stop(engine, containers):
    container = containers(Healthcheck=shell("date +%s%N; exit 1", Retries=2))
    health = probed(engine, container, 9)
    assert len(health["Log"]) == 5
    assert health["FailingStreak"] >= 8
    assert engine.post(f"/containers/{container}/kill").status == 204
    stopped = engine.inspect(container)["State"]["Health"]
    assert (stopped["Status"], len(stopped["Log"])) == ("unhealthy", 5)


def test_a_start_begins_with_nothing_known(engine, containers):
    container = containers(Healthcheck=shell("test -e /ok", Retries=1))
    heard(engine, container, "health_status: unhealthy")
    assert engine.post(f"/containers/{container}/restart?t=0").status == 204
    heard(engine, container, "health_status: unhealthy", times=2)


def test_a_probe_is_the_payload_s_equal(engine, containers):
    script = "id -u; pwd; echo $A $HOSTNAME; grep -E '^(CapEff|CapBnd|NoNew)' /proc/$$/status"
    container = containers(
        f"{script}; {FOREVER}",
        Healthcheck=shell(script),
        User="nobody",
        WorkingDir="/tmp",
        Env=["A=b"],
        HostConfig={"SecurityOpt": ["no-new-privileges"], "PidsLimit": 50},
    )
    result = logged(engine, container, lambda result: result["ExitCode"] == 0)
    out, _ = engine.output(container)
    assert result["Output"] == out.decode()
    assert "NoNewPrivs:\t1" in result["Output"]


def test_long_output_is_cut_and_what_is_no_text_replaced(engine, containers):
    line = "printf 'a\\377b'; head -c 300000 /dev/zero | tr '\\0' x"
    container = containers(Healthcheck=shell(line))
    output = logged(engine, container, lambda result: True)["Output"]
    assert output == "a�b" + "x" * 4093 + "..."


def test_one_that_hangs_is_killed_with_its_children_and_nothing_is_left(engine, containers):
    line = "trap '' TERM INT; echo so far; (trap '' TERM; sleep 999) & sleep 999"
    container = containers(Healthcheck=shell(line, Timeout=100 * MS, Retries=1))
    result = logged(engine, container, lambda result: True)
    assert result["ExitCode"] == -1
    assert result["Output"] == "Health check exceeded timeout (100ms): so far\n"
    assert engine.inspect(container)["State"]["Health"]["Status"] == "unhealthy"
    # The next one hangs as well: its container ends, and takes it along.
    heard(engine, container, f"exec_start: /bin/sh -c {line}", times=4)
    assert len(processes(container)) > 1
    assert engine.post(f"/containers/{container}/stop?t=0").status == 204
    assert processes(container) == set()
    assert cgroups_of(container) == []


def test_what_a_probe_leaves_behind_is_ended(engine, containers):
    """A daemon that holds its output open neither delays nor outlives it."""
    container = containers(Healthcheck=shell("sleep 999 & echo up"))
    health = probed(engine, container, 4)
    assert health["Log"][0]["Output"] == "up\n"
    assert engine.post(f"/containers/{container}/kill").status == 204


def test_a_missing_command_is_a_failure_in_words(engine, containers):
    container = containers(Healthcheck={"Test": ["CMD", "/no/where"], "Interval": 50 * MS})
    result = logged(engine, container, lambda result: True)
    assert result["ExitCode"] == -1
    assert 'exec: "/no/where": stat /no/where: no such file or directory' in result["Output"]


def test_a_container_that_ends_while_it_is_probed_is_not_called_ill(engine, containers):
    container = containers("exec sleep 0.3", Healthcheck=shell("sleep 999", Retries=1))
    assert engine.wait(container) == 0
    told = [action for action, _ in _past(engine, container)]
    assert not [action for action in told if action.startswith("health_status")]
    assert engine.inspect(container)["State"]["Health"]["Log"] == []


def _past(engine, container):
    filters = quote(json.dumps({"container": [container]}))
    until = engine.get("/info").json["SystemTime"]
    body = engine.get(f"/events?since=1&until={until}&filters={filters}").body
    return [
        (event["Action"], event["Actor"]["Attributes"])
        for event in map(json.loads, body.decode().splitlines())
    ]


@pytest.mark.parametrize(
    ("action", "policy", "after"),
    [
        ("kill", "no", ["die"]),
        ("kill", "always", ["die", "start"]),
        ("restart", "no", ["die", "stop", "start"]),
        ("stop", "always", ["die", "stop"]),
    ],
)
def test_what_was_asked_for_an_unhealthy_one_is_done(engine, containers, action, policy, after):
    container = containers(
        "trap 'exit 0' TERM; while :; do sleep 0.02; done",
        Healthcheck=shell("exit 1", Retries=1, OnFailure=action),
        HostConfig={"RestartPolicy": {"Name": policy}},
    )
    told = []
    for name, _ in events_of(engine, container):
        if "health_status: unhealthy" in told or name == "health_status: unhealthy":
            told.append(name)
        if [name for name in told if name in ("die", "start", "stop")] == after:
            break
    assert engine.inspect(container)["Config"]["Healthcheck"]["OnFailure"] == action


def test_clients_that_can_say_it_by_label_only(engine, containers):
    container = containers(
        Healthcheck=shell("exit 1", Retries=1), Labels={"mdocker.health-on-failure": "kill"}
    )
    assert engine.wait(container) == 137


def test_the_image_s_check_is_used_changed_and_left_out(engine, busybox_tar):
    change = quote("HEALTHCHECK --interval=60ms --retries=7 CMD echo mine")
    answer = engine.request(
        "POST",
        f"/images/create?fromSrc=-&repo=checked&changes={change}",
        busybox_tar.read_bytes(),
        {"Content-Type": "application/x-tar"},
    )
    assert answer.status == 200
    made = [
        engine.run("sleep", "1000", image="checked", **more)
        for more in ({}, {"Healthcheck": {"Retries": 2}}, {"Healthcheck": {"Test": ["NONE"]}})
    ]
    try:
        own = {"Test": ["CMD-SHELL", "echo mine"], "Interval": 60 * MS, "Retries": 7}
        shown = [engine.inspect(container)["Config"]["Healthcheck"] for container in made]
        assert shown == [own, own | {"Retries": 2}, {"Test": ["NONE"]}]
        heard(engine, made[0], "health_status: healthy")
        heard(engine, made[1], "health_status: healthy")
        assert "Health" not in engine.inspect(made[2])["State"]
    finally:
        for container in made:
            assert engine.delete(f"/containers/{container}?force=1").status == 204


def test_probes_leave_memory_and_descriptors_as_they_were(engine, containers):
    container = containers(Healthcheck={"Test": ["CMD", "/bin/true"], "Interval": MS})
    probed(engine, container, 40)
    before = engine.descriptors()
    health = probed(engine, container, 200)
    assert health["Status"] == "healthy"
    engine.post(f"/containers/{container}/kill")
    assert [now <= then for now, then in zip(engine.descriptors(), before, strict=True)]


# ── deaths ──────────────────────────────────────────────────────────────────────────────────────


HANGING = "test -p /hang && { echo x > /hang; exec sleep 999; }; "
"""A probe that hangs as soon as there is a fifo, and says so by it."""


class Hanging:
    """A container whose next probe hangs."""

    def __init__(self, engine, container):
        self.container = container
        self.pid = engine.inspect(container)["State"]["Pid"]
        self.fifo = Path(f"/proc/{self.pid}/root/hang")

    def __enter__(self):
        os.mkfifo(self.fifo)
        self.fifo.read_text()  # a probe has come by
        return processes(self.container) - {self.pid}

    def __exit__(self, *_):
        self.fifo.unlink()


def test_health_survives_the_supervisor_and_its_probe_does_not(fresh_engine):
    engine = fresh_engine
    check = shell(HANGING + "exit 1", Retries=1)
    container = engine.run("sh", "-c", FOREVER, Healthcheck=check)
    heard(engine, container, "health_status: unhealthy")
    before = probed(engine, container, 6)
    with Hanging(engine, container) as hanging:
        (pidfd,) = [os.pidfd_open(pid) for pid in hanging]
        engine.kill()
        assert select.select([pidfd], [], [], 10)[0]  # the shim ends it
        os.close(pidfd)
    engine.start()
    after = engine.inspect(container)["State"]["Health"]
    assert after["Status"] == "unhealthy"
    assert after["FailingStreak"] >= before["FailingStreak"]
    heard(engine, container, "exec_die", times=10)
    assert engine.inspect(container)["State"]["Health"]["FailingStreak"] > after["FailingStreak"]


def test_a_shim_that_dies_while_it_is_probed_costs_one_probe(fresh_engine):
    engine = fresh_engine
    container = engine.run("sh", "-c", FOREVER, Healthcheck=shell(HANGING + "exit 0"))
    heard(engine, container, "health_status: healthy")
    with Hanging(engine, container) as hanging:
        os.kill(engine.shim_pid, signal.SIGKILL)
    for pid in hanging:
        os.kill(pid, signal.SIGKILL)
    count = sum(1 for action, _ in _past(engine, container) if action == "exec_die")
    heard(engine, container, "exec_die", times=count + 4)
    assert engine.inspect(container)["State"]["Health"]["Status"] == "healthy"
    children = subprocess.check_output(["ps", "--ppid", str(engine.process.pid), "-o", "stat="])
    assert b"Z" not in children
    assert engine.post(f"/containers/{container}/kill").status == 204
    assert engine.wait(container) == 137


@pytest.mark.parametrize("of", ["shim_pid", "supervisor_pid"])
def test_descriptors_that_we_lack_are_no_failure_of_the_container(fresh_engine, of):
    engine = fresh_engine
    container = engine.run("sh", "-c", FOREVER, Healthcheck=shell("exit 0", Retries=1))
    pid = getattr(engine, of)
    told = (action.partition(":")[0] for action, _ in events_of(engine, container))
    assert "health_status" in told
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    open_now = len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now - 1, limits[1]))
    before = ""
    for action in told:
        if action == before == "exec_create":
            break  # twice, and no start in between: it could not be run
        before = action
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    assert "exec_die" in told
    assert "exec_die" in told
    health = engine.inspect(container)["State"]["Health"]
    assert (health["Status"], health["FailingStreak"]) == ("healthy", 0)


def test_on_trio_it_is_the_same(tmp_path):
    engine = EngineProcess(tmp_path / "engine", backend="trio").start()
    try:
        check = shell("test -e /hang && { sleep 999 & sleep 999; }; echo ok", Timeout=200 * MS)
        container = engine.run("sh", "-c", FOREVER, Healthcheck=check | {"Retries": 1})
        heard(engine, container, "health_status: healthy")
        pid = engine.inspect(container)["State"]["Pid"]
        Path(f"/proc/{pid}/root/hang").touch()
        heard(engine, container, "health_status: unhealthy")
        assert engine.post(f"/containers/{container}/stop?t=0").status == 204
        assert cgroups_of(container) == []
    finally:
        engine.close()


# ── by other hands ──────────────────────────────────────────────────────────────────────────────


def test_the_docker_client(engine, containers):
    def docker(*words):
        return subprocess.run(
            ["docker", *words], env=engine.environment, text=True, capture_output=True, timeout=20
        )

    options = ("--health-cmd", "echo ok", "--health-interval", "50ms", "--health-retries", "2")
    made = docker("run", "-d", "--name", "sound", *options, "host", "sleep", "1000")
    assert made.returncode == 0, made.stderr
    try:
        heard(engine, made.stdout.strip(), "health_status: healthy")
        assert "(healthy)" in docker("ps").stdout
        assert docker("ps", "-q", "--filter", "health=healthy").stdout.strip()
        shown = docker("inspect", "-f", "{{json .State.Health}}", "sound").stdout
        assert json.loads(shown)["Log"][0]["Output"] == "ok\n"
        shown = docker("inspect", "-f", "{{.State.Health.Status}}", "sound").stdout
        assert shown == "healthy\n"
        refused = docker("run", "--health-cmd", "x", "--health-interval", "1us", "host")
        assert "Interval in Healthcheck cannot be less than 1ms" in refused.stderr
        none = docker("run", "-d", "--name", "unknown", "--no-healthcheck", "host", "sleep", "9")
        assert none.returncode == 0, none.stderr
        assert "(" not in docker("ps", "--filter", "name=unknown", "--format", "{{.Status}}").stdout
    finally:
        docker("rm", "-f", "sound", "unknown")


def test_our_own_client(engine):
    def mdocker(*words):
        return subprocess.run(
            [sys.executable, "-m", "mdocker", *words],
            env=engine.environment,
            text=True,
            capture_output=True,
            timeout=20,
        )

    options = ("--health-cmd", "exit 1", "--health-interval=50ms", "--health-retries=1")
    made = mdocker("run", "-d", *options, "--health-on-failure=stop", "host", "sh", "-c",
                   "trap 'exit 5' TERM; while :; do sleep 0.02; done")  # fmt: skip
    assert made.returncode == 0, made.stderr
    try:
        assert mdocker("wait", made.stdout.strip()).stdout == "5\n"
        listed = mdocker("ps", "-a", "--filter", "health=unhealthy", "--format", "{{.ID}}").stdout
        assert made.stdout.startswith(listed.strip())
    finally:
        mdocker("rm", "-f", made.stdout.strip())
