"""Limits in an update: what follows from what was, and what Docker refuses in which words."""

import pytest

from supervisor.api import wire
from supervisor.api.update import updated_resources
from supervisor.container import Resources
from supervisor.errors import BadParameter, Conflict, EngineError
from tests.unit.api.test_containers import add

MIB = 1 << 20


def updated(before, **asked):
    return updated_resources("id", wire.AskedUpdate(**asked), Resources(**before))


@pytest.mark.parametrize(
    ("before", "asked", "after"),
    [
        ({}, {}, {}),
        ({"memory": 9 * MIB, "pids": 5}, {}, {"memory": 9 * MIB, "pids": 5}),
        ({}, {"Memory": 9 * MIB}, {"memory": 9 * MIB}),
        # A swap that nobody asked for is twice the memory, and follows it.
        ({"memory": 9 * MIB}, {"Memory": 90 * MIB}, {"memory": 90 * MIB}),
        (
            {"memory": 9 * MIB, "memory_swap": 10 * MIB},
            {"Memory": 90 * MIB, "MemorySwap": -1},
            {"memory": 90 * MIB, "memory_swap": -1},
        ),
        ({"memory": 9 * MIB, "memory_swap": 10 * MIB}, {"Memory": -1}, {}),
        ({"nano_cpus": 10**9}, {"NanoCpus": 5 * 10**8}, {"nano_cpus": 5 * 10**8}),
        ({"nano_cpus": 10**9}, {"NanoCpus": -1}, {}),
        ({"nano_cpus": 10**9}, {"NanoCpus": -1, "CpuQuota": 5000}, {"cpu_quota": 5000}),
        ({"cpu_quota": 5000, "cpu_shares": 2}, {"CpuQuota": -1}, {"cpu_shares": 2}),
        ({"nano_cpus": 10**9}, {"NanoCpus": -(10**9)}, {}),
        ({}, {"MemoryReservation": 9 * MIB}, {"memory_reservation": 9 * MIB}),
        ({"memory_reservation": 9 * MIB}, {"MemoryReservation": -1}, {}),
        (
            {"cpuset_cpus": "0", "blkio_weight": 10},
            {"CpusetMems": "0"},
            {"cpuset_cpus": "0", "cpuset_mems": "0", "blkio_weight": 10},
        ),
        ({"blkio_weight": 10}, {"BlkioWeight": 20}, {"blkio_weight": 20}),
        ({"pids": 5}, {"PidsLimit": -1}, {}),
        ({"pids": 5}, {"PidsLimit": 0}, {}),
        ({"pids": 5}, {"PidsLimit": 7}, {"pids": 7}),
    ],
)
def test_what_is_not_named_stays(before, asked, after):
    assert updated(before, **asked) == Resources(**after)


CONFLICTS = "Cannot update container id: Conflicting options: "


@pytest.mark.parametrize(
    ("before", "asked", "kind", "text"),
    [
        (
            {"cpu_period": 2000},
            {"NanoCpus": 10**9},
            Conflict,
            CONFLICTS + "Nano CPUs cannot be updated as CPU Period has already been set",
        ),
        (
            {"cpu_quota": 2000},
            {"NanoCpus": 10**9},
            Conflict,
            CONFLICTS + "Nano CPUs cannot be updated as CPU Quota has already been set",
        ),
        (
            {"nano_cpus": 10**9},
            {"CpuPeriod": 2000},
            Conflict,
            CONFLICTS + "CPU Period cannot be updated as NanoCPUs has already been set",
        ),
        (
            {"nano_cpus": 10**9},
            {"CpuQuota": 2000},
            Conflict,
            CONFLICTS + "CPU Quota cannot be updated as NanoCPUs has already been set",
        ),
        (
            {},
            {"CpuQuota": 2000, "NanoCpus": 10**9},
            BadParameter,
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set.",
        ),
        (
            {"memory": 9 * MIB, "memory_swap": 10 * MIB},
            {"Memory": 11 * MIB},
            Conflict,
            "Cannot update container id: Memory limit should be smaller than already set "
            "memoryswap limit, update the memoryswap at the same time",
        ),
        (
            {"memory": 9 * MIB},
            {"MemorySwap": 8 * MIB},
            BadParameter,
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        ({}, {"Memory": 5 * MIB}, BadParameter, "Minimum memory limit allowed is 6MB"),
        ({}, {"NanoCpus": 10**15}, BadParameter, "range of CPUs is from 0.01 to"),
        ({}, {"CpuShares": -5}, BadParameter, "invalid CPU shares"),
        ({}, {"PidsLimit": -2}, BadParameter, "invalid PidsLimit"),
        ({}, {"BlkioWeight": 9}, BadParameter, "Range of blkio weight is from 10 to 1000"),
        (
            {},
            {"MemoryReservation": 5 * MIB},
            BadParameter,
            "Minimum memory reservation allowed is 6MB",
        ),
        (
            {"memory": 9 * MIB},
            {"MemoryReservation": 10 * MIB},
            BadParameter,
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        (
            {},
            {"CpusetCpus": "8000"},
            BadParameter,
            "Requested CPUs are not available - requested 8000, available: 0",
        ),
        (
            {},
            {"CpusetMems": "1023"},
            BadParameter,
            "Requested memory nodes are not available - requested 1023, available: 0",
        ),
        (
            {},
            {"CpusetCpus": "1-0"},
            BadParameter,
            "Invalid value 1-0 for cpuset cpus: invalid format: 1-0; give a list such as 0-2,5",
        ),
    ],
)
def test_what_can_not_be_is_refused(before, asked, kind, text):
    with pytest.raises(EngineError) as caught:
        updated(before, **asked)
    assert isinstance(caught.value, kind)
    assert str(caught.value).startswith(text)


@pytest.mark.anyio
async def test_an_update_hands_limits_and_warnings_on(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1")
        engine.warnings_of_updates = ["only what comes counts"]
        # As the docker client sends it.
        body = {
            "CpuShares": 0,
            "Memory": 64 * MIB,
            "NanoCpus": 0,
            "BlkioWeight": 0,
            "MemorySwappiness": None,
            "PidsLimit": None,
            "OomKillDisable": None,
            "RestartPolicy": {"Name": "", "MaximumRetryCount": 0},
        }
        answer = await client.request("POST", "/v1.50/containers/c1/update", body)
        assert (answer.status, answer.json) == (200, {"Warnings": ["only what comes counts"]})
        assert engine.calls == [("limits", "c1", Resources(memory=64 * MIB))]
        for wrong, status in (({"Memory": "much"}, 400), ({"Memory": 1}, 400), ({"X": 1}, 501)):
            answer = await client.request("POST", "/containers/c1/update", wrong)
            assert answer.status == status, answer.body
