"""Supervisor and shim die at once: what can be known is told, and told to everybody."""

from __future__ import annotations

import json
import os
import signal
import time


def test_an_end_that_nobody_saw_is_an_event_too(fresh_engine):
    began = time.time_ns()
    container = fresh_engine.run("sleep", "1000")
    os.kill(fresh_engine.shim_pid, signal.SIGKILL)
    fresh_engine.kill()
    fresh_engine.start()
    state = fresh_engine.inspect(container)["State"]
    assert state["Status"] == "exited"
    assert state["Error"]
    until = f"{time.time_ns() / 1e9:.9f}"
    answer = fresh_engine.get(f"/events?since={began / 1e9:.9f}&until={until}")
    told = [json.loads(line) for line in answer.body.splitlines()]
    assert [event["Action"] for event in told] == ["create", "start", "die"]
    assert told[-1]["Actor"]["Attributes"]["exitCode"] == str(state["ExitCode"])
