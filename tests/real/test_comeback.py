"""Waiters and followers outlive the supervisor: killed under them, nothing is lost or repeated."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.real.engine_process import EngineProcess, descriptors_of

COUNTS = "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); echo $i; echo err$i >&2; done"
"""Prints two streams at full speed."""


@pytest.fixture
def spawn(fresh_engine):
    """Start command lines against an engine that is going to die."""
    with fresh_engine.spawning() as start:
        yield start


@pytest.fixture
def fresh_engine(request, tmp_path):
    """A supervisor that is going to die; by a parameter of True, the shim starts the next one."""
    respawn = getattr(request, "param", False)
    process = EngineProcess(tmp_path / "engine", respawn=respawn).start()
    yield process
    process.close()


def die(engine):
    """kill -9, and another one."""
    engine.kill()
    if engine.respawn:
        assert engine.answers()
    else:
        engine.start()


def watch(process):
    """Collect a process' output as it comes."""
    lines = []
    thread = threading.Thread(target=lambda: lines.extend(process.stdout))
    thread.start()
    return lines, thread


def without_notices(lines):
    """What stderr said, besides that it took long: here that is for the machine to decide."""
    return [line for line in lines if not line.startswith("mdocker: the engine ")]


def until(ready, seconds=20):
    """Wait until something is true that no descriptor tells."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@pytest.mark.parametrize("fresh_engine", [False, True], indirect=True, ids=["started", "respawned"])
def test_a_followed_log_has_each_line_once(fresh_engine, spawn):
    container = fresh_engine.run("sh", "-c", COUNTS)
    follower = spawn("logs", "-f", container)
    errors = []
    reader = threading.Thread(target=lambda: errors.extend(follower.stderr))
    reader.start()
    lines, thread = watch(follower)
    for goal in (100, 900, 2000):
        until(lambda goal=goal: len(lines) >= goal)
        die(fresh_engine)
    assert follower.wait(30) == 0
    thread.join()
    reader.join()
    assert lines == [f"{number}\n" for number in range(1, 4001)]
    assert without_notices(errors) == [f"err{number}\n" for number in range(1, 4001)]


def test_several_logs_at_once(fresh_engine, spawn):
    for name in ("one", "two"):
        fresh_engine.run("sh", "-c", COUNTS.replace("4000", "600"), name=name)
    follower = spawn("logs", "-f", "one", "two")
    drain = threading.Thread(target=follower.stderr.read)
    drain.start()
    lines, thread = watch(follower)
    until(lambda: len(lines) > 50)
    die(fresh_engine)
    assert follower.wait(30) == 0
    thread.join()
    drain.join()
    for name in ("one", "two"):
        mine = [line for line in lines if line.startswith(name)]
        assert mine == [f"{name} | {number}\n" for number in range(1, 601)]


TALKS = """
printf 'begun '
while [ ! -e /tmp/go ]; do sleep 0.02; done
echo went
i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; done
printf 'no newline'
exit 7
"""


def go(engine, container):
    """Let a container that TALKS go on."""
    pid = engine.inspect(container)["State"]["Pid"]
    open(f"/proc/{pid}/root/tmp/go", "w").close()


def asks(engine, pid, requests):
    """Whether a client has made so many requests, and the engine has seen them."""
    sockets = [link for link in descriptors_of(pid) if link.startswith("socket:")]
    if len(sockets) < requests or not at_rest(pid):
        return False
    # What was sent before this is taken up before it is answered.
    return engine.answers()


def at_rest(pid):
    """Whether all threads of a process sleep, in one same moment."""

    def look():
        status = [(task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
        return [
            (re.search(r"^State:\t(\w)", text, re.M)[1], re.findall(r"_switches:\t(\d+)", text))
            for text in status
        ]

    try:
        seen = look()
        return all(state == "S" for state, _ in seen) and look() == seen
    except (FileNotFoundError, ProcessLookupError):
        return False  # a thread has just ended


def happened(engine):
    """The actions of all events so far."""
    body = engine.get(f"/events?since=1&until={time.time():.3f}").body
    return [json.loads(line)["Action"] for line in body.splitlines()]


def the_one(engine):
    (container,) = engine.get("/containers/json?all=1").json
    return container["Id"]


def received(process, text):
    """Read stdout up to a text."""
    data = ""
    while not data.endswith(text):
        piece = process.stdout.read(1)
        assert piece, f"it ended: {data!r} {process.stderr.read()!r}"
        data += piece
    return data


def the_rest(process):
    """What stdout and stderr still bring, behind what was read of them."""
    rest = process.stdout.read()
    errors = process.stderr.read()
    process.wait(10)
    return rest, errors


EXPECTED = "begun went\n" + "".join(f"{number}\n" for number in range(1, 3001)) + "no newline"


@pytest.mark.parametrize(
    ("fresh_engine", "rm"),
    [(False, ()), (False, ("--rm",)), (True, ("--rm",))],
    indirect=["fresh_engine"],
    ids=["kept", "removed", "respawned"],
)
def test_a_container_in_the_foreground(fresh_engine, spawn, rm):
    process = spawn("run", *rm, "host", "sh", "-c", TALKS)
    said = received(process, "begun ")
    die(fresh_engine)
    go(fresh_engine, the_one(fresh_engine))
    said += received(process, "500\n")
    die(fresh_engine)
    rest, errors = the_rest(process)
    assert said + rest == EXPECTED
    assert (process.returncode, without_notices(errors.splitlines())) == (7, [])
    left = fresh_engine.get("/containers/json?all=1").json
    assert len(left) == (0 if rm else 1)


def test_one_that_ended_and_removes_itself_waits_for_its_client(fresh_engine, spawn):
    """Nobody supervised when it ended: its log goes with it, but not before it was read."""
    process = spawn("run", "--rm", "host", "sh", "-c", TALKS)
    said = received(process, "begun ")
    container = the_one(fresh_engine)
    pid = fresh_engine.inspect(container)["State"]["Pid"]
    ended = os.pidfd_open(pid)
    fresh_engine.kill()
    open(f"/proc/{pid}/root/tmp/go", "w").close()
    select.select([ended], [], [])
    os.close(ended)
    fresh_engine.start()
    rest, errors = the_rest(process)
    assert said + rest == EXPECTED
    assert (process.returncode, without_notices(errors.splitlines())) == (7, [])
    assert fresh_engine.get("/containers/json?all=1").json == []
    # And for clients that can't come back by themselves the answer is there by its id.
    assert fresh_engine.wait(container) == 7
    assert fresh_engine.wait(container[:12], "removed") == 7


def test_who_attaches_later_sees_what_comes_from_then_on(fresh_engine, spawn):
    container = fresh_engine.run("sh", "-c", TALKS, name="bird")
    await_begun(fresh_engine, container)
    until(lambda: happened(fresh_engine).count("attach") == 1)
    process = spawn("attach", "bird")
    until(lambda: happened(fresh_engine).count("attach") == 2)
    die(fresh_engine)
    go(fresh_engine, container)
    rest, errors = the_rest(process)
    told = without_notices(errors.splitlines())
    assert (rest, told) == (EXPECTED.removeprefix("begun "), [])
    assert process.returncode == 7


def await_begun(engine, container):
    """Wait for what an attachment is sent that asks for all from the beginning on."""
    words = "POST /v1.50/containers/%s/attach?stream=1&stdout=1&logs=1 HTTP/1.1\r\nHost: d\r\n"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(engine.socket))
        client.sendall((words % container + "Upgrade: tcp\r\nConnection: Upgrade\r\n\r\n").encode())
        client.settimeout(30)
        data = b""
        while b"begun " not in data:
            piece = client.recv(4096)
            assert piece, data
            data += piece


def test_output_that_no_log_keeps(fresh_engine, spawn):
    process = spawn("run", "--log-driver", "none", "host", "sh", "-c", TALKS)
    said = received(process, "begun ")
    die(fresh_engine)
    container = the_one(fresh_engine)
    errors = process.stderr.readline()
    assert "is not known here, as its log driver keeps nothing" in errors
    until(lambda: happened(fresh_engine).count("attach") == 2)
    go(fresh_engine, container)
    rest, _ = the_rest(process)
    assert process.returncode == 7
    assert said + rest == EXPECTED


def test_waits_are_answered_with_the_end_that_was_waited_for(fresh_engine, spawn):
    gone = fresh_engine.run("sh", "-c", TALKS, name="gone", HostConfig={"AutoRemove": True})
    again = fresh_engine.run("sh", "-c", TALKS, name="again")
    process = spawn("wait", "gone", "again")
    until(lambda: asks(fresh_engine, process.pid, 2))
    fresh_engine.kill()
    pids = []
    for container in (gone, again):
        record = fresh_engine.root / "containers" / container / "config.json"
        pids.append(json.loads(record.read_text())["life"]["pid"])
    fds = [os.pidfd_open(pid) for pid in pids]
    for pid, fd in zip(pids, fds, strict=True):
        open(f"/proc/{pid}/root/tmp/go", "w").close()
        select.select([fd], [], [])
        os.close(fd)
    fresh_engine.start()
    fresh_engine.post(f"/containers/{again}/start")
    out, errors = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "7\n7\n")
    assert without_notices(errors.splitlines()) == []


def test_events_come_once_each_and_none_is_missing(fresh_engine, spawn):
    process = spawn("events", "--filter", "event=create", "--format", "{{.Actor.Attributes.name}}")
    until(lambda: fresh_engine.get("/info").json["NEventsListener"] == 1)
    lines, thread = watch(process)
    for number in range(12):
        fresh_engine.create("true", name=f"c{number}")
        if number % 4 == 1:
            die(fresh_engine)
    until(lambda: len(lines) >= 12)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    thread.join()
    assert lines == [f"c{number}\n" for number in range(12)]
    past = fresh_engine.get("/events?since=1&until=1")
    assert past.body == b""
    body = fresh_engine.get(f"/events?since=1&until={time.time():.3f}").body
    times = [json.loads(line)["timeNano"] for line in body.splitlines()]
    assert times == sorted(set(times))
    assert len([line for line in body.splitlines() if b'"create"' in line]) == 12


@pytest.mark.parametrize("fresh_engine", [True], indirect=True, ids=["respawned"])
def test_a_stop_is_seen_through(fresh_engine, spawn):
    """Its client asks the next engine, which goes on with what is left of the deadline."""
    deaf = "trap '' TERM; echo deaf; while :; do sleep 0.1; done"
    container = fresh_engine.run("sh", "-c", deaf, name="deaf")
    until(lambda: fresh_engine.output(container)[0] == b"deaf\n")
    process = spawn("stop", "-t", "2", "deaf")
    until(lambda: "kill" in happened(fresh_engine))
    die(fresh_engine)
    out, errors = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "deaf\n")
    assert without_notices(errors.splitlines()) == []
    assert fresh_engine.inspect(container)["State"]["ExitCode"] == 137


@pytest.mark.parametrize("fresh_engine", [True], indirect=True, ids=["respawned"])
def test_a_command_in_the_moment_after_a_kill(fresh_engine, spawn):
    fresh_engine.create("true", name="bird")
    fresh_engine.kill()
    process = spawn("ps", "-a", "--format", "{{.Names}}")
    out, errors = process.communicate(timeout=30)
    assert (process.returncode, out, errors) == (0, "bird\n", "")
