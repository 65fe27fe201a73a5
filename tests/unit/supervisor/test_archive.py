"""What is told of a helper whose container is not what it was when it was asked for."""

import json
import os
from types import SimpleNamespace

import pytest

from supervisor import archive, helper_process
from supervisor.errors import Conflict, EngineFault, NoSuchContainer
from supervisor.states import State

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (State.GONE, NoSuchContainer),
        (State.REMOVING, Conflict),
        (State.EXITED, EngineFault),
    ],
)
async def test_files_that_a_removal_has_taken_away_meanwhile(monkeypatch, state, told):
    container = SimpleNamespace(state=State.EXITED, name="bird", id="b" * 64)
    result, words = os.pipe()
    os.write(words, json.dumps({"kind": "failed", "error": "no such file"}).encode() + b"\n")

    async def start(*_):
        container.state = state
        return SimpleNamespace(result_fd=result)

    async def end(*_):
        os.close(result)

    monkeypatch.setattr(helper_process, "start", start)
    monkeypatch.setattr(helper_process, "end", end)
    with pytest.raises(told):
        async with archive.helper(None, container, {}, view={}):
            raise AssertionError("it has nothing to show")
    os.close(words)
