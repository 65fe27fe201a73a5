"""Health checks in requests and answers: merged, refused in Docker's words, shown in its shapes."""

import dataclasses
import json
import time
from urllib.parse import quote

import msgspec
import pytest

from supervisor.api import wire
from supervisor.api.health_options import checked_health
from supervisor.api.views import status_words
from supervisor.container import Container, ContainerConfig, Health, HealthCheck, Life, Probe
from supervisor.errors import BadParameter
from supervisor.states import State
from tests.unit.api.fakes import HOST
from tests.unit.api.test_containers import add

pytestmark = pytest.mark.anyio
S = 10**9


def checked(asked=None, image=None, labels=None):
    asked = None if asked is None else msgspec.convert(asked, wire.AskedHealth)
    return checked_health(asked, {"Healthcheck": image} if image else {}, labels or {})


@pytest.mark.parametrize(
    ("asked", "image", "check"),
    [
        (None, None, None),
        ({}, None, None),
        ({"Test": []}, {}, None),
        ({"Test": ["CMD", "a"]}, None, HealthCheck(("CMD", "a"))),
        (None, {"Test": ["CMD-SHELL", "a b"]}, HealthCheck(("CMD-SHELL", "a b"))),
        ({"Test": ["NONE"]}, {"Test": ["CMD", "a"], "Retries": 3}, HealthCheck(("NONE",))),
        (None, {"Test": ["NONE"]}, HealthCheck(("NONE",))),
        (
            {"Test": [], "Interval": S, "Timeout": 0},
            {"Test": ["CMD", "a"], "Interval": 9 * S, "Timeout": 2 * S, "StartPeriod": 10**6},
            HealthCheck(("CMD", "a"), interval=S, timeout=2 * S, start_period=10**6),
        ),
        (
            {"Test": ["CMD", "b"], "Retries": 1, "StartInterval": S, "OnFailure": "stop"},
            {"Test": ["CMD", "a"], "Retries": 9},
            HealthCheck(("CMD", "b"), retries=1, start_interval=S, on_failure="stop"),
        ),
    ],
)
def test_what_is_asked_goes_before_what_the_image_says(asked, image, check):
    assert checked(asked, image) == check


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"Interval": 999_999}, "Interval in Healthcheck cannot be less than 1ms"),
        ({"Timeout": -1}, "Timeout in Healthcheck cannot be less than 1ms"),
        ({"StartPeriod": 1}, "StartPeriod in Healthcheck cannot be less than 1ms"),
        ({"StartInterval": 1}, "StartInterval in Healthcheck cannot be less than 1ms"),
        ({"Retries": -1}, "Retries in Healthcheck cannot be negative"),
        ({"Interval": 2**63}, "Interval in Healthcheck cannot be 9223372036854775808"),
        ({"Test": ["curl", "x"]}, "Unknown healthcheck type 'curl' (expected 'CMD'"),
        ({"Test": ["CMD"]}, "no command after 'CMD'"),
        ({"Test": ["CMD-SHELL", ""]}, "no command after 'CMD-SHELL'"),
        ({"Test": ["CMD", "a\0b"]}, "NUL character"),
        ({"Test": ["CMD", "a"], "OnFailure": "explode"}, "use one of none, kill, restart, stop"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(asked, text):
    with pytest.raises(BadParameter) as refusal:
        checked(asked, None if "Test" in asked else {"Test": ["CMD", "a"]})
    assert text in str(refusal.value)


def test_options_without_any_command_are_refused_and_not_ignored():
    with pytest.raises(BadParameter, match="no command to run"):
        checked({"Interval": S})


def test_an_image_with_nonsense_is_named_as_the_one_at_fault():
    with pytest.raises(BadParameter, match="the image's Healthcheck is invalid"):
        checked(None, {"Test": "curl"})


def test_clients_without_the_field_have_a_label():
    labels = {"mdocker.health-on-failure": "restart"}
    assert checked({"Test": ["CMD", "a"]}, labels=labels).on_failure == "restart"
    asked = {"Test": ["CMD", "a"], "OnFailure": "kill"}
    assert checked(asked, labels=labels).on_failure == "kill"
    assert checked(None, labels=labels) is None


def test_the_image_s_shell_runs_the_line():
    image = {"Healthcheck": {"Test": ["CMD-SHELL", "x"]}, "Shell": ["/bin/bash", "-euc"]}
    assert checked_health(None, image, {}).shell == ("/bin/bash", "-euc")


@pytest.mark.parametrize(
    ("health", "words"),
    [
        (None, "Up 5 seconds"),
        (Health(), "Up 5 seconds (health: starting)"),
        (Health("healthy"), "Up 5 seconds (healthy)"),
        (Health("unhealthy", 3), "Up 5 seconds (unhealthy)"),
    ],
)
def test_the_status_column(health, words):
    now = time.time_ns()
    life = Life(state=State.RUNNING, started_ns=now - 5 * S, health=health)
    config = ContainerConfig(image="host", image_id="sha256:1")
    assert status_words(Container("1" * 64, "a", config, 1, life), now) == words


async def test_create_and_inspect(engine_and_client):
    body = {
        "Image": "host",
        "Healthcheck": {"Test": ["CMD", "x"], "Interval": S, "OnFailure": "kill"},
    }
    async with engine_and_client() as (engine, connect), connect() as client:
        made = (await client.request("POST", "/v1.50/containers/create?name=sound", body)).json[
            "Id"
        ]
        shown = (await client.request("GET", f"/v1.50/containers/{made}/json")).json
        assert shown["Config"]["Healthcheck"] == body["Healthcheck"]
        assert "Health" not in shown["State"]
        probes = (Probe(1_700_000_000 * S, 1_700_000_001 * S, 0, "ok"),)
        life = {"state": State.RUNNING, "health": Health("healthy", 0, probes)}
        container = engine.containers.find("sound")
        container.life = msgspec.structs.replace(container.life, **life)
        shown = (await client.request("GET", f"/v1.50/containers/{made}/json")).json
        assert shown["State"]["Health"] == {
            "Status": "healthy",
            "FailingStreak": 0,
            "Log": [
                {
                    "Start": "2023-11-14T22:13:20Z",
                    "End": "2023-11-14T22:13:21Z",
                    "ExitCode": 0,
                    "Output": "ok",
                }
            ],
        }
        container.life = msgspec.structs.replace(container.life, state=State.EXITED)
        shown = (await client.request("GET", f"/v1.50/containers/{made}/json")).json
        assert shown["State"]["Health"]["Status"] == "unhealthy"


async def test_an_unknown_field_is_refused_by_name(engine_and_client):
    body = {"Image": "host", "Healthcheck": {"Test": ["CMD", "x"], "Intervall": 5}}
    async with engine_and_client() as (_, connect), connect() as client:
        answer = await client.request("POST", "/v1.50/containers/create", body)
        assert answer.status == 501
        assert "Config.Healthcheck.Intervall 5" in answer.json["message"]


async def test_the_image_s_check_is_inherited_at_create(engine_and_client):
    image = dataclasses.replace(
        HOST, config={**HOST.config, "Healthcheck": {"Test": ["CMD", "own"]}}
    )
    async with engine_and_client() as (engine, connect), connect() as client:
        engine.images.known = [image]
        await client.request("POST", "/v1.50/containers/create?name=sound", {"Image": "host"})
        assert engine.containers.find("sound").config.health == HealthCheck(("CMD", "own"))


async def test_filters_by_health(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "plain")
        for status in ("starting", "healthy", "unhealthy"):
            add(engine, status, health=Health(status))
        for status in ("starting", "healthy", "unhealthy", "none"):
            query = "/v1.50/containers/json?filters=" + quote(json.dumps({"health": [status]}))
            names = [one["Names"] for one in (await client.request("GET", query)).json]
            assert names == [[f"/{status}" if status != "none" else "/plain"]]
