"""RestartPolicy in requests: Docker's words, and delays of our own."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.api import create, wire
from supervisor.api.restart_options import checked_policy
from supervisor.container import RestartPolicy
from supervisor.errors import BadParameter, EngineError
from supervisor.states import State
from tests.unit.api.fakes import HOST
from tests.unit.api.test_containers import add


def asked(**fields):
    return checked_policy(wire.AskedRestartPolicy(**fields))


@pytest.mark.parametrize(
    ("fields", "policy"),
    [
        ({}, RestartPolicy()),
        ({"Name": ""}, RestartPolicy()),
        ({"Name": "", "MaximumRetryCount": 4}, RestartPolicy()),
        ({"Name": "no"}, RestartPolicy()),
        ({"Name": "always"}, RestartPolicy("always")),
        ({"Name": "on-failure", "MaximumRetryCount": 3}, RestartPolicy("on-failure", 3)),
        ({"Name": "always", "DelayMs": 5}, RestartPolicy("always", 0, 5, 60_000)),
        ({"Name": "always", "DelayMs": 60_000}, RestartPolicy("always", 0, 60_000, 60_000)),
        ({"Name": "always", "MaxDelayMs": 100}, RestartPolicy("always", 0, 100, 100)),
        ({"Name": "always", "DelayMs": 7, "MaxDelayMs": 7}, RestartPolicy("always", 0, 7, 7)),
    ],
)
def test_what_is_taken(fields, policy):
    assert asked(**fields) == policy


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"Name": "ever"},
            "invalid restart policy: unknown policy 'ever'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        ),
        (
            {"Name": "always", "MaximumRetryCount": 1},
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ),
        (
            {"Name": "no", "MaximumRetryCount": -1},
            "invalid restart policy: maximum retry count can only be used with 'on-failure' "
            "and cannot be negative",
        ),
        (
            {"Name": "on-failure", "MaximumRetryCount": -1},
            "invalid restart policy: maximum retry count cannot be negative",
        ),
        ({"Name": "on-failure", "MaximumRetryCount": 2**31}, "is too large"),
        (
            {"Name": "always", "DelayMs": -1},
            "DelayMs -1 (--restart-delay): give 1 to 86400000 milliseconds",
        ),
        (
            {"Name": "always", "MaxDelayMs": 86_400_001},
            "MaxDelayMs 86400001 (--restart-max-delay): give",
        ),
        (
            {"Name": "always", "DelayMs": 20, "MaxDelayMs": 10},
            "the first delay (DelayMs 20, --restart-delay) is longer than the longest one "
            "(MaxDelayMs 10, --restart-max-delay)",
        ),
        (
            {"Name": "always", "DelayMs": 18_000_000},
            "(DelayMs 18000000, --restart-delay) is longer than the longest one "
            "(MaxDelayMs 60000, --restart-max-delay): give both",
        ),
        (
            {"Name": "always", "MaxDelayMs": 50},
            "(DelayMs 100, --restart-delay) is longer than",
        ),
        ({"DelayMs": 20}, "MaxDelayMs (--restart-delay, --restart-max-delay) need a policy that"),
    ],
)
def test_what_is_refused_in_words(fields, text):
    with pytest.raises(BadParameter) as caught:
        asked(**fields)
    assert text in str(caught.value)


@given(
    st.builds(
        wire.AskedRestartPolicy,
        st.none() | st.sampled_from(["", "no", "always", "on-failure", "unless-stopped", "x"]),
        *[st.none() | st.integers(-(2**40), 2**40) | st.integers(0, 1000) for _ in range(3)],
    ),
    st.sampled_from([RestartPolicy(), RestartPolicy("on-failure", 3, 500, 700)]),
)
def test_whatever_is_taken_makes_sense(fields, before):
    try:
        policy = checked_policy(fields, before)
    except BadParameter:
        return
    assert 1 <= policy.delay_ms <= policy.max_delay_ms
    assert policy.max_retries >= 0
    if policy.name != "on-failure":
        assert policy.max_retries == 0
    if fields.DelayMs and policy.name != "no":
        assert policy.delay_ms == fields.DelayMs
    if fields.MaxDelayMs and policy.name != "no":
        assert policy.max_delay_ms == fields.MaxDelayMs


def test_an_update_keeps_what_it_does_not_name():
    before = RestartPolicy("on-failure", 3, 500, 700)
    delay = wire.AskedRestartPolicy(Name="", DelayMs=600)
    assert checked_policy(delay, before) == RestartPolicy("on-failure", 3, 600, 700)
    name = wire.AskedRestartPolicy(Name="always")
    assert checked_policy(name, before) == RestartPolicy("always", 0, 500, 700)
    assert checked_policy(None, before) == before


@pytest.mark.parametrize("fields", [{"DelayMs": 701}, {"MaxDelayMs": 499}])
def test_an_update_moves_no_limit_that_it_does_not_name(fields):
    """One that was drawn along stayed: a delay of 5h once, and the back-off grew to 5h for ever."""
    before = RestartPolicy("on-failure", 3, 500, 700)
    with pytest.raises(BadParameter, match="is longer than the longest one"):
        checked_policy(wire.AskedRestartPolicy(**fields), before)
    both = wire.AskedRestartPolicy(**{"DelayMs": 400, "MaxDelayMs": 800} | fields)
    assert checked_policy(both, before).delay_ms == both.DelayMs


@pytest.mark.parametrize("name", ["always", "on-failure", "unless-stopped"])
def test_one_that_removes_itself_has_no_policy(name):
    body = {"Image": "host", "HostConfig": {"AutoRemove": True, "RestartPolicy": {"Name": name}}}
    with pytest.raises(EngineError, match="can't create 'AutoRemove' container with restart"):
        create.merge(create.read(body), HOST)


@pytest.mark.anyio
async def test_inspect_shows_policy_count_and_the_next_attempts_time(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        container = add(engine, "c1", config={"restart": RestartPolicy("on-failure", 3)})
        container.life = msgspec.structs.replace(
            container.life,
            state=State.RESTARTING,
            exit_code=1,
            restart_count=2,
            restart_at_ns=1_700_000_002_000_000_000,
            pid=0,
        )
        shown = (await client.request("GET", "/containers/c1/json")).json
        assert shown["RestartCount"] == 2
        assert shown["HostConfig"]["RestartPolicy"] == {
            "Name": "on-failure",
            "MaximumRetryCount": 3,
            "DelayMs": 100,
            "MaxDelayMs": 60_000,
        }
        state = shown["State"]
        assert (state["Status"], state["Running"], state["Restarting"]) == (
            "restarting",
            True,
            True,
        )
        assert state["NextRestartAt"] == "2023-11-14T22:13:22Z"
        (line,) = (await client.request("GET", "/containers/json")).json
        assert line["State"] == "restarting"
        assert line["Status"].startswith("Restarting (1) ")


@pytest.mark.anyio
async def test_update_takes_a_policy_and_refuses_the_rest_by_name(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1")
        body = {"Memory": 0, "CpusetCpus": "", "RestartPolicy": {"Name": "always"}}
        answer = await client.request("POST", "/containers/c1/update", body)
        assert (answer.status, answer.json) == (200, {"Warnings": []})
        assert engine.calls[-1] == ("update", "c1", RestartPolicy("always"))
        answer = await client.request(
            "POST", "/containers/c1/update", {"Ulimits": [{"Name": "core"}]}
        )
        assert (answer.status, answer.message) == (
            501,
            "mdocker does not support Update.Ulimits yet: "
            "what runs keeps those it was started with",
        )
        answer = await client.request("POST", "/containers/c1/update", {"RestartPolicy": 5})
        assert answer.status == 400
        answer = await client.request("POST", "/containers/nosuch/update", {})
        assert answer.status == 404
