"""`--restart` with its delays, and `update`: what is typed, what is asked, what is refused."""

import json

import pytest

from mdocker.errors import UsageError
from mdocker.restart_option import restart_policy


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        (("",), {}),
        (("always",), {"Name": "always"}),
        (("always:",), {"Name": "always"}),
        (("on-failure:3",), {"Name": "on-failure", "MaximumRetryCount": 3}),
        (("on-failure:-3",), {"Name": "on-failure", "MaximumRetryCount": -3}),
        (("no", "", "1m30s"), {"Name": "no", "MaxDelayMs": 90_000}),
        (("", "1.5s", "1h"), {"DelayMs": 1500, "MaxDelayMs": 3_600_000}),
    ],
)
def test_what_is_typed_becomes_what_is_asked(typed, asked):
    assert restart_policy(*typed) == asked


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ((":3",), "invalid restart policy format: no policy provided before colon"),
        (("on-failure:x",), "maximum retry count must be an integer"),
        (("on-failure:1.5",), "maximum retry count must be an integer"),
        (("on-failure:٣",), "maximum retry count must be an integer"),
        (("always", "5"), 'invalid argument "5" for "--restart-delay"'),
        (("always", "-1s"), 'invalid argument "-1s" for "--restart-delay"'),
        (("always", "", "10us"), 'invalid argument "10us" for "--restart-max-delay"'),
    ],
)
def test_what_makes_no_sense_is_refused(typed, text):
    with pytest.raises(UsageError) as caught:
        restart_policy(*typed)
    assert text in str(caught.value)


def test_run_asks_for_a_policy(engine, mdocker):
    engine.json("POST", "/containers/create", {"Id": "1" * 64, "Warnings": []}, 201)
    words = ("--restart", "on-failure:2", "--restart-delay=1s", "host", "true")
    assert mdocker("create", *words).code == 0
    body = json.loads(engine.requests[-1][3])
    assert body["HostConfig"]["RestartPolicy"] == {
        "Name": "on-failure",
        "MaximumRetryCount": 2,
        "DelayMs": 1000,
    }


def test_update_asks_for_each_container(engine, mdocker):
    engine.json("POST", "/containers/[ab]/update", {"Warnings": []})
    assert mdocker("update", "--restart=always", "a", "b") == (0, "a\nb\n", "")
    bodies = [json.loads(request[3]) for request in engine.requests]
    assert bodies == [{"RestartPolicy": {"Name": "always"}}] * 2


def test_update_asks_for_limits_and_hands_warnings_on(engine, mdocker):
    engine.json("POST", "/containers/a/update", {"Warnings": ["only what comes counts"]})
    words = ("-m", "64m", "--memory-swap", "-1", "--cpus", "0.5", "--pids-limit", "-1")
    result = mdocker("update", *words, "a")
    assert result == (0, "a\n", "WARNING: only what comes counts\n")
    words = ("--memory-reservation", "32m", "--cpuset-cpus", "0-1", "--cpuset-mems", "0")
    assert mdocker("update", *words, "--blkio-weight", "300", "a").code == 0
    words = ("--cpu-quota", "-1", "--cpu-period=2000", "-c", "512", "-m=-1", "--cpus", "-1")
    assert mdocker("update", *words, "a").code == 0
    assert [json.loads(request[3]) for request in engine.requests] == [
        {"Memory": 64 << 20, "MemorySwap": -1, "NanoCpus": 5 * 10**8, "PidsLimit": -1},
        {
            "MemoryReservation": 32 << 20,
            "CpusetCpus": "0-1",
            "CpusetMems": "0",
            "BlkioWeight": 300,
        },
        {"Memory": -1, "NanoCpus": -1, "CpuQuota": -1, "CpuPeriod": 2000, "CpuShares": 512},
    ]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("-m", "much", "a"), 'invalid argument "much" for "-m, --memory": not a size'),
        (("--cpus", "-2", "a"), 'invalid argument "-2" for "--cpus": not a number of CPUs'),
    ],
)
def test_a_limit_that_is_none(engine, mdocker, words, text):
    result = mdocker("update", *words)
    assert (result.code, text in result.err) == (125, True), result.err
    assert not engine.requests


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--cpu-rt-period", "9", "a"), "--cpu-rt-period is not supported yet: cgroups v2"),
        (("--ulimit", "core=0", "a"), "--ulimit is not supported yet: what runs keeps"),
        (("--device-read-bps", "/dev/a", "a"), "it is /dev/NAME:RATE"),
        (("a",), "nothing to update: give --restart"),
        (("--restart", ":1", "a"), "no policy provided before colon"),
        (("--restart-delay", "soon", "a"), "not a duration such as 500ms"),
    ],
)
def test_an_update_that_makes_no_sense(engine, mdocker, words, text):
    result = mdocker("update", *words)
    assert (result.code, text in result.err) == (1, True), result.err
    assert not engine.requests


def test_one_that_removes_itself_has_no_policy(engine, mdocker):
    result = mdocker("run", "--rm", "--restart=always", "host")
    assert result.code == 125
    assert "conflicting options: cannot specify both --restart and --rm" in result.err
    assert not engine.requests
