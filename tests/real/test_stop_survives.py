"""A stop under way when the supervisor dies goes on with what is left of its time."""

import json
import os
import signal
import threading
from urllib.parse import quote

import msgspec
import pytest

STUBBORN = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done"


def begin_to_stop(engine, container, query):
    """Ask for a stop, and wait for its signal; its answer never comes, as the supervisor dies.

    The event follows the record; what the container prints of the signal may well precede it.
    """
    filters = quote(json.dumps({"container": [container], "event": ["kill"]}))
    with (
        engine.stream("GET", f"/events?since=1&filters={filters}") as events,
        engine.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1") as logs,
    ):
        assert logs.read(8 + len("ready\n"))
        asking = threading.Thread(target=ask, args=(engine, container, query))
        asking.start()
        assert b"asked" in logs.read(8 + len("asked\n"))
        assert events.readline()
    return asking


def ask(engine, container, query):
    try:
        engine.post(f"/containers/{container}/stop?{query}")
    except OSError:
        return  # it was killed, as it should


def test_the_rest_of_the_deadline_counts_and_the_signal_is_not_sent_again(fresh_engine):
    engine = fresh_engine
    container = engine.run("sh", "-c", STUBBORN, HostConfig={"RestartPolicy": {"Name": "always"}})
    asking = begin_to_stop(engine, container, "t=1")
    engine.kill()
    asking.join()
    engine.start()
    assert engine.wait(container) == 137
    assert engine.output(container)[0].count(b"asked") == 1
    # Nor does its policy bring it back: the wish is on record too.
    assert engine.inspect(container)["State"]["Status"] == "exited"


def test_a_second_stop_brings_a_recorded_deadline_nearer(fresh_engine):
    engine = fresh_engine
    container = engine.run("sh", "-c", STUBBORN)
    asking = begin_to_stop(engine, container, "t=1000")
    engine.kill()
    asking.join()
    engine.start()
    assert engine.inspect(container)["State"]["Running"]
    assert engine.post(f"/containers/{container}/stop?t=0").status == 204
    assert engine.inspect(container)["State"]["ExitCode"] == 137


@pytest.mark.parametrize("policy", ["no", "always"])
def test_after_a_reboot_the_end_is_unknown_and_said(fresh_engine, policy):
    engine = fresh_engine
    container = engine.run("sleep", "1000", HostConfig={"RestartPolicy": {"Name": policy}})
    shim = engine.shim_pid
    engine.kill()
    os.kill(shim, signal.SIGKILL)
    config = engine.root / "containers" / container / "config.json"
    record = msgspec.json.decode(config.read_bytes())
    assert record["life"]["boot_id"]
    record["life"]["boot_id"] = "another-boot"
    config.write_bytes(msgspec.json.encode(record))
    engine.start()
    if policy == "always":
        with engine.stream(
            "GET", "/events?since=1&filters=%7B%22event%22:[%22start%22]%7D"
        ) as told:
            # The first start is told from the history, the second perhaps later.
            assert [b'"start"' in told.readline() for _ in range(2)] == [True, True]
        assert engine.inspect(container)["State"]["Running"]
        return
    state = engine.inspect(container)["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 255)
    assert "the machine went down" in state["Error"]
