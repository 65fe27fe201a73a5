"""pause, unpause and top over HTTP, against the scripted engine."""

import pytest

from tests.unit.api.test_containers import add

pytestmark = pytest.mark.anyio


async def test_pause_and_unpause(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1")
        for verb in ("pause", "unpause"):
            answer = await client.request("POST", f"/v1.50/containers/c1/{verb}")
            assert (answer.status, answer.body) == (204, b"")
            assert engine.calls[-1] == (verb, "c1")
        answer = await client.request("POST", "/containers/nosuch/pause")
        assert (answer.status, answer.message) == (404, "No such container: nosuch")


async def test_top_hands_the_options_on(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1")
        answer = await client.request("GET", "/v1.50/containers/c1/top?ps_args=-o%20pid")
        assert answer.json == {"Titles": ["PID", "CMD"], "Processes": [["1", "sh -c x"]]}
        assert engine.calls[-1] == ("top", "c1", "-o pid")
        await client.request("GET", "/v1.50/containers/c1/top")
        assert engine.calls[-1] == ("top", "c1", "")
