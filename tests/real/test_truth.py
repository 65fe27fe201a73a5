"""What clients see is true and comes at once, whatever a container or its supervisor is in."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time

import pytest

DOCKER = shutil.which("docker")


def test_looking_on_never_waits_for_a_container_that_is_stuck(engine):
    """Its start hangs in the shim; everybody else is told at once."""
    running = engine.run("sleep", "60", name="running")
    stuck = engine.create("sleep", "60", name="stuck")
    answers = []
    shim = engine.shim_pid
    os.kill(shim, signal.SIGSTOP)
    try:
        starting = threading.Thread(
            target=lambda: answers.append(engine.post(f"/containers/{stuck}/start").status)
        )
        starting.start()
        deadline = time.monotonic() + 10
        while "create" not in last_actions(engine, stuck) and time.monotonic() < deadline:
            pass
        for path in (
            "/containers/json?all=1",
            f"/containers/{stuck}/json",
            f"/containers/{running}/json",
            "/info",
            f"/events?since=1&until={time.time():.3f}",
            f"/containers/{running}/logs?stdout=1",
        ):
            began = time.monotonic()
            assert engine.get(path).status == 200
            assert time.monotonic() - began < 5, path
        assert not answers
    finally:
        os.kill(shim, signal.SIGCONT)
    starting.join(20)
    assert answers == [204]
    for container in (running, stuck):
        assert engine.delete(f"/containers/{container}?force=1").status == 204


def last_actions(engine, container):
    body = engine.get(f"/events?since=1&until={time.time():.3f}").body
    happened = [json.loads(line) for line in body.splitlines()]
    return [event["Action"] for event in happened if event["Actor"]["ID"] == container]


def test_a_life_is_told_in_order_and_once_over_deaths(fresh_engine):
    engine = fresh_engine
    container = engine.create("sh", "-c", "exit 3", name="bird", Labels={"k": "v"})
    engine.kill()
    engine.start()
    engine.post(f"/containers/{container}/start")
    assert engine.wait(container) == 3
    engine.kill()
    engine.start()
    engine.delete(f"/containers/{container}")
    assert last_actions(engine, container) == ["create", "start", "die", "destroy"]
    filters = '{"container":["bi"],"event":["die"],"label":["k=v"]}'
    query = f"/events?since=1&until={time.time():.3f}&filters={quote(filters)}"
    (event,) = [json.loads(line) for line in engine.get(query).body.splitlines()]
    assert event["Actor"]["Attributes"]["exitCode"] == "3"


def quote(text):
    from urllib.parse import quote

    return quote(text)


@pytest.mark.skipif(DOCKER is None, reason="needs the docker CLI (docker.io)")
def test_dockers_own_client_gets_the_answer_by_asking_again(fresh_engine, tmp_path):
    """It can't resume: cut off in a `run --rm`, it asks `wait` with the id that it was told."""
    environment = {**fresh_engine.environment, "DOCKER_CONFIG": str(tmp_path)}
    process = subprocess.Popen(
        [
            DOCKER,
            "run",
            "--rm",
            "--cidfile",
            tmp_path / "cid",
            "host",
            "sh",
            "-c",
            "echo up; sleep 1; exit 9",
        ],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "up\n", process.stderr.read()
    (about,) = fresh_engine.get("/containers/json").json
    container = about["Id"]
    assert (tmp_path / "cid").read_text() == container
    shown = fresh_engine.inspect(container)["HostConfig"]["ContainerIDFile"]
    assert shown == str(tmp_path / "cid")
    fresh_engine.kill()
    process.communicate(timeout=20)
    assert process.returncode != 9
    fresh_engine.start()
    for _ in range(2):  # while it runs or waits for its client, and once it is gone
        done = subprocess.run(
            [DOCKER, "wait", container],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (done.returncode, done.stdout) == (0, "9\n")
        assert fresh_engine.wait(container, "removed") == 9
