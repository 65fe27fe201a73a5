"""GET /networks: the two that there are."""

import json
from urllib.parse import quote

import pytest

from supervisor.states import State
from tests.unit.api.test_containers import add

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, "host none"),
        ({"name": ["on"]}, "none"),
        ({"driver": {"null": True}}, "none"),
        ({"type": ["builtin"]}, "host none"),
        ({"type": ["custom"]}, ""),
        ({"scope": ["local"]}, "host none"),
        ({"scope": ["swarm"]}, ""),
        ({"label": ["a"]}, ""),
        ({"dangling": ["true"]}, ""),
        ({"dangling": ["false"]}, "host none"),
        ({"id": ["0"]}, ""),
    ],
)
async def test_networks(engine_and_client, filters, names):
    async with engine_and_client() as (_, connect), connect() as client:
        answer = await client.request("GET", f"/networks?filters={quote(json.dumps(filters))}")
        assert " ".join(network["Name"] for network in answer.json) == names


async def test_a_network_and_who_is_in_it(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        alone = add(engine, "alone")
        add(engine, "shares", config={"network_mode": "host"})
        add(engine, "done", State.EXITED)
        none = (await client.request("GET", "/networks/none")).json
        assert (none["Driver"], none["Scope"], none["IPAM"]["Driver"]) == (
            "null", "local", "default",
        )  # fmt: skip
        assert {id: one["Name"] for id, one in none["Containers"].items()} == {alone.id: "alone"}
        assert (await client.request("GET", f"/networks/{none['Id'][:12]}")).json == none
        host = (await client.request("GET", "/networks/host")).json
        assert [one["Name"] for one in host["Containers"].values()] == ["shares"]
        listed = (await client.request("GET", "/networks")).json
        assert [one["Containers"] for one in listed] == [{}, {}]


@pytest.mark.parametrize("path", ["nosuch", "bridge", "none?scope=swarm"])
async def test_no_such_network(engine_and_client, path):
    async with engine_and_client() as (_, connect), connect() as client:
        answer = await client.request("GET", f"/networks/{path}")
        name = path.partition("?")[0]
        assert (answer.status, answer.message) == (404, f"network {name} not found")


async def test_filters_that_can_not_be(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        for filters, text in (
            ({"nosuch": ["x"]}, "invalid filter 'nosuch'"),
            ({"type": ["odd"]}, "invalid filter 'type=odd'"),
            ({"dangling": ["x"]}, "invalid filter 'dangling=[x]'"),
        ):
            answer = await client.request("GET", f"/networks?filters={quote(json.dumps(filters))}")
            assert (answer.status, answer.message.startswith(text)) == (400, True)


async def test_none_can_be_taken_away(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        for name, status, text in (
            ("host", 403, "host is a pre-defined network and cannot be removed"),
            ("nest_default", 404, "network nest_default not found"),
        ):
            answer = await client.request("DELETE", f"/networks/{name}")
            assert (answer.status, answer.message) == (status, text)
        pruned = await client.request("POST", "/networks/prune?filters={}")
        assert (pruned.status, pruned.json) == (200, {"NetworksDeleted": None})
        event = engine.events.past()[-1]
        assert (event.type, event.action, event.attributes) == (
            "network",
            "prune",
            {"reclaimed": "0"},
        )
        bad = await client.request(
            "POST", f"/networks/prune?filters={quote(json.dumps({'name': ['x']}))}"
        )
        assert (bad.status, bad.message) == (400, "invalid filter 'name'")
