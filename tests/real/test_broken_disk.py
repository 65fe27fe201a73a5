"""The disk fills up: what happens is said in our own log, too, and in words without gaps."""

import json
import os
import subprocess
import time
import urllib.parse

import pytest

from tests.real.engine_process import EngineProcess

LOG_EVENTS = urllib.parse.quote(json.dumps({"event": ["log_lost", "log_written"]}))


@pytest.fixture
def small(tmp_path):
    """An engine whose root is a tmpfs of 8 MiB."""
    root = tmp_path / "small"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "tmpfs", root], check=True)
    try:
        engine = EngineProcess(tmp_path / "engine", root=root).start()
        yield engine
        engine.close()
    finally:
        subprocess.run(["umount", "-l", root], check=True)


def fill(path):
    with path.open("ab", buffering=0) as file:
        for size in (65536, 4096):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def go(engine, container, name):
    pid = engine.inspect(container)["State"]["Pid"]
    os.close(os.open(f"/proc/{pid}/root/dev/shm/{name}", os.O_CREAT | os.O_WRONLY))


def follow_own_log(engine, word):
    """Wait until our own log holds a word."""
    with subprocess.Popen(
        ["tail", "-n", "+1", "-F", engine.base / "supervisor.log"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as tail:
        for line in tail.stdout:
            if word in line:
                tail.kill()
                return line
    raise AssertionError(f"no {word}")


def test_a_log_that_can_not_be_written_is_reported_once_and_when_it_goes_on(small):
    engine = small
    waiting = "while [ ! -e /dev/shm/%s ]; do sleep 0.05; done; echo %s;"
    container = engine.run("sh", "-c", waiting % ("one", "one") + waiting % ("two", "two"))
    fill(engine.root / "pad")
    answer = engine.post("/containers/create?name=full", {"Image": "host", "Cmd": ["true"]})
    assert answer.status == 500
    assert answer.message == "cannot create container full: No space left on device"
    go(engine, container, "one")
    assert "No space left on device" in follow_own_log(engine, "log.not_written")
    told = engine.inspect(container)["LogState"]
    assert told["DroppedBytes"] == 4
    assert told["Trouble"] == (
        "4 bytes of output were lost because the log could not be written; "
        "it can't be written now: No space left on device"
    )
    (engine.root / "pad").unlink()
    go(engine, container, "two")
    assert engine.wait(container) == 0
    assert '"lost_bytes": 4' in follow_own_log(engine, "log.written_again")
    assert engine.output(container)[0].endswith(
        b"lost here, because the log could not be written\ntwo\n"
    )
    assert engine.inspect(container)["LogState"]["DroppedBytes"] == 4
    query = f"since=1&until={time.time():.3f}&filters={LOG_EVENTS}"
    events = engine.get(f"/events?{query}").body.splitlines()
    assert [json.loads(line)["Action"] for line in events] == ["log_lost", "log_written"]
    attributes = [json.loads(line)["Actor"]["Attributes"] for line in events]
    assert attributes[0]["error"] == "No space left on device"
    assert attributes[1]["lostBytes"] == "4"


def test_state_that_can_not_be_written_fails_the_request_and_stays(small):
    engine = small
    container = engine.create("true", name="robin")
    engine.run("sleep", "1000", name="wren")
    fill(engine.root / "pad")
    answer = engine.post("/containers/robin/rename?name=other")
    assert (answer.status, answer.message) == (
        500,
        "cannot rename container robin: No space left on device",
    )
    answer = engine.post("/containers/robin/start")
    assert answer.status == 500
    assert "No space left on device" in answer.message
    assert engine.post("/containers/wren/kill").status == 204
    # What is on disk can be read, and what it says is as true as it was.
    engine.kill()
    (engine.root / "pad").unlink()
    engine.start()
    assert engine.inspect("robin")["Id"] == container
    assert engine.inspect("robin")["State"]["Status"] == "created"
    assert engine.wait("wren") == 137
    assert engine.post("/containers/robin/start").status == 204


def test_a_container_whose_end_had_no_room_is_restarted_once_there_is_room(small):
    engine = small
    container = engine.run(
        *("sh", "-c", "until [ -e /dev/shm/go ]; do sleep 0.05; done; exit 3"),
        HostConfig={"RestartPolicy": {"Name": "always", "DelayMs": 20, "MaxDelayMs": 20}},
    )
    fill(engine.root / "pad")
    go(engine, container, "go")
    assert "No space left on device" in follow_own_log(engine, "container.restart_failed")
    shown = engine.inspect(container)
    assert shown["State"]["Status"] == "restarting"
    assert shown["State"]["ExitCode"] in (3, 128)
    (engine.root / "pad").unlink()
    with engine.stream("GET", "/events?since=1") as events:
        starts = 0
        while starts < 2:
            starts += b'"Action":"start"' in events.readline()
    assert engine.inspect(container)["State"]["Running"]
