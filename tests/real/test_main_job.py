"""The main job over the API: many detached containers, their logs, their stop."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.real.engine_process import EngineProcess, cgroups_of, demultiplexed

DEAF = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")


def log_line(engine, container, wanted):
    """Follow until a line comes; returns what was read up to it."""
    seen = b""
    with engine.stream("GET", f"/containers/{container}/logs?stdout=1&stderr=1&follow=1") as logs:
        while wanted not in seen:
            piece = logs.read1(65536)
            assert piece, f"the log ended before {wanted!r} came: {seen!r}"
            seen += piece
    return seen


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def engine(request, tmp_path_factory):
    """The main job is done on both backends."""
    process = EngineProcess(tmp_path_factory.mktemp("engine"), backend=request.param).start()
    yield process
    process.close()


def test_a_life_from_create_to_removal(engine):
    container = engine.create("sh", "-c", "echo out; echo err >&2; exit 3", name="life")
    assert engine.inspect("life")["State"]["Status"] == "created"
    assert engine.post("/containers/life/start").status == 204
    assert engine.wait("life") == 3
    told = engine.inspect(container)
    assert told["State"]["Status"] == "exited"
    assert told["State"]["ExitCode"] == 3
    assert told["State"]["Pid"] == 0
    # The same, where it has ended before we could note that it began.
    assert told["State"]["StartedAt"] <= told["State"]["FinishedAt"]
    assert told["Name"] == "/life"
    assert engine.output("life") == (b"out\n", b"err\n")
    record = json.loads((engine.root / "containers" / container / "config.json").read_text())
    assert record["life"]["state"] == "exited"
    assert engine.delete("/containers/life").status == 204
    assert engine.get("/containers/life/json").status == 404
    assert not (engine.root / "containers" / container).exists()


def test_the_log_file_is_dockers(engine):
    container = engine.run("sh", "-c", 'echo "a<b>&\\"c\\""; printf tail')
    engine.wait(container)
    path = Path(engine.inspect(container)["LogPath"])
    assert path.name == f"{container}-json.log"
    first, second = (json.loads(line) for line in path.read_bytes().splitlines())
    assert first["log"] == 'a<b>&"c"\n'
    assert first["stream"] == "stdout"
    assert list(first) == ["log", "stream", "time"]
    assert second["log"] == "tail"
    assert b"\\u003cb\\u003e\\u0026" in path.read_bytes()


def test_a_polite_one_stops_at_sigterm_with_its_own_code(engine):
    container = engine.run(
        "sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    )
    log_line(engine, container, b"ready")
    assert engine.post(f"/containers/{container}/stop?t=20").status == 204
    assert engine.inspect(container)["State"]["ExitCode"] == 7
    assert engine.post(f"/containers/{container}/stop").status == 304


def test_a_deaf_one_is_killed_and_its_children_too(engine):
    container = engine.run(
        "sh", "-c", "trap '' TERM; (trap '' TERM; sleep 1000) & echo ready; wait"
    )
    log_line(engine, container, b"ready")
    assert engine.post(f"/containers/{container}/stop?t=1").status == 204
    state = engine.inspect(container)["State"]
    assert state["ExitCode"] == 137
    assert not state["OOMKilled"]
    left = cgroups_of(container)
    assert left == []


def test_a_second_stop_brings_the_end_nearer(engine):
    container = engine.run(*DEAF)
    log_line(engine, container, b"ready")
    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(engine.post, f"/containers/{container}/stop?t=1000")
        second = pool.submit(engine.post, f"/containers/{container}/stop?t=0")
        assert first.result().status == 204
        assert second.result().status in (204, 304)
    assert time.monotonic() - began < 500
    assert engine.inspect(container)["State"]["ExitCode"] == 137


def test_the_stop_goes_on_when_its_client_hangs_up(engine):
    container = engine.run(*DEAF)
    log_line(engine, container, b"ready")
    from tests.real.engine_process import UnixConnection

    with_events = engine.stream("GET", "/events")
    with with_events as events:
        client = UnixConnection(engine.socket)
        client.request("POST", f"/v1.50/containers/{container}/stop?t=1")
        seen = b""
        while b'"kill"' not in seen:
            seen += events.read1(65536)
        client.close()
        assert engine.wait(container) == 137


def test_stop_signal_and_timeout_of_the_container_itself(engine):
    container = engine.run(
        "sh",
        "-c",
        "trap 'exit 5' INT; trap '' TERM; echo ready; while :; do sleep 0.05; done",
        StopSignal="SIGINT",
        StopTimeout=30,
    )
    log_line(engine, container, b"ready")
    assert engine.post(f"/containers/{container}/stop").status == 204
    assert engine.inspect(container)["State"]["ExitCode"] == 5


def test_kill_sends_any_signal(engine):
    container = engine.run(
        "sh", "-c", "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done"
    )
    log_line(engine, container, b"ready")
    assert engine.post(f"/containers/{container}/kill?signal=FOO").status == 400
    assert engine.post(f"/containers/{container}/kill?signal=USR1").status == 204
    assert engine.wait(container) == 9
    answer = engine.post(f"/containers/{container}/kill")
    assert answer.status == 409
    assert "is not running" in answer.message


def test_start_of_a_running_one_changes_nothing(engine):
    container = engine.run("sleep", "1000")
    pid = engine.inspect(container)["State"]["Pid"]
    assert engine.post(f"/containers/{container}/start").status == 304
    assert engine.inspect(container)["State"]["Pid"] == pid
    assert engine.post(f"/containers/{container}/kill").status == 204


def test_restart_gives_a_new_process_and_keeps_the_log(engine):
    container = engine.run("sh", "-c", "echo run; exec sleep 1000")
    log_line(engine, container, b"run")
    before = engine.inspect(container)["State"]["Pid"]
    assert engine.post(f"/containers/{container}/restart?t=0").status == 204
    assert engine.inspect(container)["State"]["Pid"] not in (0, before)
    seen = log_line(engine, container, b"run\n")
    while demultiplexed(seen)[0] != b"run\nrun\n":
        seen = log_line(engine, container, b"run\n")
    engine.post(f"/containers/{container}/kill")


def test_restart_of_one_that_removes_itself_keeps_it(engine):
    container = engine.run(
        "sh",
        "-c",
        "echo run >> /tmp/runs; cat /tmp/runs; exec sleep 1000",
        HostConfig={"AutoRemove": True},
    )
    log_line(engine, container, b"run")
    assert engine.post(f"/containers/{container}/restart?t=0").status == 204
    while demultiplexed(log_line(engine, container, b"run\n"))[0] != b"run\nrun\nrun\n":
        pass
    with engine.stream("GET", "/events") as events:
        assert engine.post(f"/containers/{container}/stop?t=0").status == 204
        seen = b""
        while b'"destroy"' not in seen:
            seen += events.read1(65536)
    assert engine.get(f"/containers/{container}/json").status == 404


def test_rename_and_the_conflict_of_names(engine):
    one = engine.create("true", name="finch")
    engine.create("true", name="wren")
    answer = engine.post("/containers/create?name=wren", {"Image": "host", "Cmd": ["true"]})
    assert answer.status == 409
    assert answer.message.startswith('Conflict. The container name "/wren" is already in use by')
    assert engine.post("/containers/finch/rename?name=wren").status == 409
    assert engine.post("/containers/finch/rename?name=finch").status == 400
    assert engine.post("/containers/finch/rename?name=a%20b").status == 400
    assert engine.post("/containers/finch/rename?name=robin").status == 204
    assert engine.inspect("robin")["Id"] == one
    assert engine.inspect(one[:10])["Name"] == "/robin"


def test_wait_for_the_next_exit_and_the_removal(engine):
    container = engine.create("sh", "-c", "exit 4", HostConfig={"AutoRemove": True})
    with ThreadPoolExecutor(2) as pool, engine.stream("GET", "/events") as events:
        next_exit = pool.submit(engine.wait, container, "next-exit")
        removed = pool.submit(engine.wait, container, "removed")
        assert engine.post(f"/containers/{container}/start").status == 204
        seen = b""
        while b'"destroy"' not in seen:
            seen += events.read1(65536)
        assert removed.result() == 4 or removed.exception()
        assert next_exit.result() in (4, None) or next_exit.exception()
    assert engine.get(f"/containers/{container}/json").status == 404


def test_prune_takes_what_does_not_run(engine):
    running = engine.run("sleep", "1000")
    done = engine.run("true")
    engine.wait(done)
    created = engine.create("true")
    answer = engine.post("/containers/prune")
    assert answer.status == 200
    assert {done, created} <= set(answer.json["ContainersDeleted"])
    assert running not in answer.json["ContainersDeleted"]
    assert answer.json["SpaceReclaimed"] > 0
    answer = engine.delete(f"/containers/{running}")
    assert answer.status == 409
    assert "stop the container before removing or force remove" in answer.message
    assert engine.delete(f"/containers/{running}?force=1").status == 204


def test_a_hundred_at_once(engine):
    def one(number):
        return engine.run(
            "sh", "-c", f"echo number {number}; exec sleep 1000", name=f"flock-{number}"
        )

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(one, range(100)))
        shown = engine.get("/containers/json").json
        assert set(ids) <= {container["Id"] for container in shown}
        for number in (0, 50, 99):
            assert b"number %d\n" % number in log_line(engine, ids[number], b"number")
        stopped = list(pool.map(lambda c: engine.post(f"/containers/{c}/stop?t=0").status, ids))
        assert set(stopped) == {204}
        removed = list(pool.map(lambda c: engine.delete(f"/containers/{c}").status, ids))
        assert set(removed) == {204}


def test_one_container_costs_no_descriptor_after_its_end(engine):
    for _ in range(3):
        engine.result("true")
    before = engine.descriptors()
    for _ in range(10):
        engine.result("sh", "-c", "echo x; exit 1")
    after = engine.descriptors()
    assert after[0] <= before[0] + 2  # a keep-alive connection may be ending
    assert after[1] <= before[1]


def test_limits_hold(engine):
    code, out, _ = engine.result(
        "python3",
        "-c",
        "a = bytearray(200 * 1024 * 1024); print('survived')",
        HostConfig={"Memory": 64 * 1024 * 1024, "MemorySwap": 64 * 1024 * 1024},
    )
    assert (code, out) == (137, "")
    container = engine.run(
        "python3",
        "-c",
        "a = bytearray(200 * 1024 * 1024)",
        HostConfig={"Memory": 64 * 1024 * 1024, "MemorySwap": 64 * 1024 * 1024},
    )
    engine.wait(container)
    state = engine.inspect(container)["State"]
    assert state["OOMKilled"]
    assert state["ExitCode"] == 137
    code, _, err = engine.result(
        "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; wait", HostConfig={"PidsLimit": 5}
    )
    assert code != 0
    assert "fork" in err.lower() or "resource" in err.lower()
