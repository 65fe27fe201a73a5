"""Builds that are cut off: by their client, by a kill -9 of the engine, at any moment."""

from __future__ import annotations

import json
import os
import random
import socket
import time
from pathlib import Path

from tests.real.archives import TAR
from tests.real.building import NOTHING, context, left, made, path, under_way
from tests.real.engine_process import EngineProcess, UnixConnection, cgroups_of

HANGING = "FROM busybox\nCOPY a /\nRUN trap '' TERM; echo begun; sleep 1000\n"
FILES = {"a": b"a" * 100_000}


def until(condition, seconds=30):
    """Look again and again: what follows a client's leaving is nothing that anybody is told."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def imported(engine, busybox_tar):
    answer = engine.request(
        "POST", "/images/create?fromSrc=-&repo=busybox", busybox_tar.read_bytes(), TAR
    )
    assert answer.status == 200, answer


def test_a_client_that_hangs_up_ends_the_command(engine, busybox):
    since = time.time()
    with under_way(engine, HANGING, FILES) as seen:
        assert b"Running in" in seen
        (container,) = left(engine)[0]
    # Told when it is removed: nothing else of the build is left then but its directory.
    query = f"since={since}&filters=" + json.dumps({"event": {"destroy": True}})
    with engine.stream("GET", f"/events?{query.replace(' ', '')}") as events:
        assert json.loads(events.readline())["Actor"]["ID"] == container
    until(lambda: left(engine) == NOTHING)
    assert cgroups_of(container) == []
    # What was done is in the cache.
    assert made(engine, "FROM busybox\nCOPY a /\n", FILES).cached == 1


def test_what_a_build_needs_stays_meanwhile(engine, busybox):
    dockerfile = f"FROM busybox AS one\nRUN echo 1 >/one\n{HANGING}COPY --from=one /one /\n"
    engine.post("/images/prune")  # what other tests have left
    with under_way(engine, dockerfile, FILES) as seen:
        assert engine.post("/images/prune").json["ImagesDeleted"] is None
        stage = seen.partition(b'"aux":{"ID":"')[2][:71].decode()
        base = engine.get("/images/busybox/json").json["Id"]
        for image in (stage, base):
            answer = engine.delete(f"/images/{image}?force=1")
            assert answer.status == 409, answer
    until(lambda: left(engine) == NOTHING)
    assert engine.post("/images/prune").json["ImagesDeleted"]


def test_a_client_that_hangs_up_while_it_sends(engine, busybox):
    data = context(HANGING, {"a": os.urandom(300_000)})
    connection = UnixConnection(engine.socket)
    connection.connect()
    connection.sock.sendall(
        b"POST /v1.50/build HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data)
    )
    connection.sock.sendall(data[:200_000])
    until(lambda: left(engine)[1])
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    until(lambda: left(engine) == NOTHING)


def test_a_client_that_does_not_read_holds_up_its_build_alone(engine, busybox):
    """What a command prints waits for it on the disk, not in memory."""
    script = "yes 0123456789012345678901234567890123456789 | head -c 60000000"
    connection = UnixConnection(engine.socket)
    connection.connect()
    data = context(f"FROM busybox\nRUN {script}; echo; echo begun\nRUN echo never\n")
    connection.request("POST", "/v1.50/build", data, TAR)
    until(lambda: left(engine)[0])
    (container,) = left(engine)[0]
    assert engine.wait(container) == 0
    statm = Path(f"/proc/{engine.supervisor_pid}/statm").read_text()
    assert int(statm.split()[1]) * 4096 < 150_000_000
    assert left(engine)[0] == [container]  # the next step waits for the client
    # Found: what a build had still to make an image of was pruned.
    assert not engine.post("/containers/prune").json["ContainersDeleted"]
    connection.close()
    until(lambda: left(engine) == NOTHING)


def test_the_engine_is_killed_while_a_command_runs(tmp_path, busybox_tar):
    engine = EngineProcess(tmp_path / "engine", respawn=True).start()
    try:
        imported(engine, busybox_tar)
        with under_way(engine, HANGING, FILES):
            (container,) = left(engine)[0]
            engine.kill()
        until(lambda: left(engine) == NOTHING)
        assert cgroups_of(container) == []
        assert made(engine, "FROM busybox\nCOPY a /\n", FILES).cached == 1
    finally:
        engine.close()


def test_the_engine_is_told_to_end(tmp_path, busybox_tar):
    """Unlike other containers a build's does not outlive it."""
    engine = EngineProcess(tmp_path / "engine", backend="trio").start()
    try:
        imported(engine, busybox_tar)
        assert made(engine, "FROM busybox\nRUN echo 1 >/1\nCOPY a /\n", FILES).cached == 0
        with under_way(engine, HANGING, FILES):
            (container,) = left(engine)[0]
            engine.terminate()
        assert not (engine.root / "containers" / container).exists()
        assert cgroups_of(container) == []
        engine.start()
        until(lambda: left(engine) == NOTHING)
    finally:
        engine.close()


def test_the_engine_is_killed_at_random_moments(tmp_path, busybox_tar):
    """A store that is whole, and nothing of the builds, whenever it happens."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    engine = EngineProcess(tmp_path / "engine").start()
    lines = "COPY a /a\nRUN echo 1 >/one\nENV X=1\nADD a /b/\nWORKDIR /w\n"
    data = context(f"FROM busybox\n{lines}", FILES)
    try:
        imported(engine, busybox_tar)
        for _ in range(int(os.environ.get("MDOCKER_BUILD_KILLS", "2"))):
            connection = UnixConnection(engine.socket)
            connection.request("POST", f"/v1.50{path(nocache=1)}", data, TAR)
            time.sleep(chance.uniform(0, 1.2))
            engine.kill()
            connection.close()
            engine.start()
            until(lambda: left(engine) == NOTHING)
            for image in engine.get("/images/json?all=1").json:
                assert engine.get(f"/images/{image['Id']}/json").status == 200
        assert engine.request("POST", "/build", data, TAR).body.count(b"errorDetail") == 0
        *_, summary = engine.get("/mdocker/check").body.splitlines()
        assert json.loads(summary)["Summary"]["Findings"] == 0
    except AssertionError as error:
        raise AssertionError(f"seed {seed}") from error
    finally:
        engine.close()
