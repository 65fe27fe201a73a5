"""stats over HTTP: Docker's shapes, streams, and what ends them."""

import json

import anyio
import pytest

from runtime.usage import Memory, Transfer, Usage
from supervisor.api.stats import shown
from supervisor.states import State
from tests.unit.api.test_containers import add

pytestmark = pytest.mark.anyio
ZERO = "0001-01-01T00:00:00Z"


def used(cpu_ns, **more):
    fields = {
        "at_ns": 1_700_000_000 * 10**9 + cpu_ns,
        "machine_cpu_ns": 1000 + cpu_ns,
        "cpu_ns": cpu_ns,
        "user_ns": 1,
        "system_ns": 2,
        "periods": 3,
        "throttled_periods": 4,
        "throttled_ns": 5,
        "memory": Memory(4096, details={"anon": 4096}),
        "pids": 6,
        "pids_limit": 7,
        "transfers": None,
    }
    return Usage(**(fields | more))


@pytest.fixture
def samples(engine_and_client, monkeypatch):
    """Makes an engine use a container more at each reading."""

    def feed(engine):
        readings = []

        async def read(containers):
            await anyio.lowlevel.checkpoint()
            readings.append([one.name for one in containers])
            alive = [one for one in containers if one.state is State.RUNNING]
            return {one.id: used(len(readings)) for one in alive}

        monkeypatch.setattr("supervisor.stats.INTERVAL_S", 0.01)
        monkeypatch.setattr("supervisor.stats.FRESH_S", 0.005)
        engine.stats._read = read
        return readings

    return feed


async def test_a_sample_and_the_one_before_it(engine_and_client, samples):
    async with engine_and_client() as (engine, connect), connect() as client:
        container = add(engine, "c1")
        samples(engine)
        answer = await client.request("GET", "/v1.50/containers/c1/stats?stream=0")
        told = answer.json
        assert (told["name"], told["id"]) == ("/c1", container.id)
        assert (told["preread"], told["read"]) == (
            "2023-11-14T22:13:20.000000001Z",
            "2023-11-14T22:13:20.000000002Z",
        )
        assert told["cpu_stats"] == {
            "cpu_usage": {"total_usage": 2, "usage_in_kernelmode": 2, "usage_in_usermode": 1},
            "system_cpu_usage": 1002,
            "online_cpus": told["precpu_stats"]["online_cpus"],
            "throttling_data": {"periods": 3, "throttled_periods": 4, "throttled_time": 5},
        }
        assert told["precpu_stats"]["cpu_usage"]["total_usage"] == 1
        assert told["pids_stats"] == {"current": 6, "limit": 7}
        assert told["memory_stats"]["usage"] == 4096
        assert told["memory_stats"]["stats"] == {"anon": 4096}
        assert told["memory_stats"]["limit"] > 1 << 25
        assert set(told["blkio_stats"].values()) == {None}
        assert "networks" not in told
        answer = await client.request("GET", "/containers/c1/stats?stream=0&one-shot=1")
        assert answer.json["preread"] == ZERO
        assert answer.json["precpu_stats"]["cpu_usage"]["total_usage"] == 0
        assert "system_cpu_usage" not in answer.json["precpu_stats"]


async def test_what_does_not_run_gives_the_zero_sample(engine_and_client, samples):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1", State.EXITED)
        readings = samples(engine)
        for query in ("stream=false", "stream=0&one-shot=1"):
            told = (await client.request("GET", f"/containers/c1/stats?{query}")).json
            assert (told["read"], told["memory_stats"], told["pids_stats"]) == (ZERO, {}, {})
            assert told["cpu_stats"] == told["precpu_stats"]
        assert readings == []
        answer = await client.request("GET", "/containers/c1/stats?one-shot=1")
        assert (answer.status, answer.message) == (
            400,
            "cannot have stream=true and one-shot=true",
        )
        assert (await client.request("GET", "/containers/nosuch/stats")).status == 404


async def test_a_stream_goes_on_over_an_end_until_the_removal(engine_and_client, samples):
    async with engine_and_client() as (engine, connect), connect() as client:
        container = add(engine, "c1")
        samples(engine)
        await client.begin("GET", "/v1.50/containers/c1/stats")
        assert (await client.head()).status_code == 200
        first, second = [json.loads(await client.piece()) for _ in range(2)]
        assert (first["preread"], second["preread"]) == (ZERO, first["read"])
        container.life.state = State.EXITED
        while json.loads(await client.piece())["read"] != ZERO:
            continue
        container.life.state = State.GONE
        while await client.piece() is not None:
            continue


async def test_all_of_them_at_once(engine_and_client, samples):
    async with engine_and_client() as (engine, connect), connect() as client:
        for name in ("c1", "c2"):
            add(engine, name)
        add(engine, "c3", State.EXITED)
        readings = samples(engine)

        async def asked(query):
            answer = await client.request("GET", f"/mdocker/stats?stream=0{query}")
            return [(one["name"], one["State"]) for one in answer.json]

        assert await asked("") == [("/c2", "running"), ("/c1", "running")]
        assert readings == [["c2", "c1"]] * 2
        assert (await asked("&all=1"))[0] == ("/c3", "exited")
        assert await asked("&names=c3,c1") == [("/c3", "exited"), ("/c1", "running")]
        answer = await client.request("GET", "/mdocker/stats?names=c1,nosuch")
        assert (answer.status, answer.message) == (404, "No such container: nosuch")


async def test_a_client_that_hangs_up_ends_the_reading(engine_and_client, samples):
    async with engine_and_client() as (engine, connect):
        add(engine, "c1")
        readings = samples(engine)
        over = anyio.Event()

        async def until_over(work):
            await work()
            over.set()

        engine.stats._begin = lambda work: engine.tasks.start_soon(until_over, work)
        async with connect() as client:
            await client.begin("GET", "/mdocker/stats")
            await client.head()
            await client.piece()
        await over.wait()
        assert readings


def test_what_controllers_count(engine_and_client):
    from runtime.usage import Machine
    from supervisor.container import Container, ContainerConfig

    container = Container("c" * 64, "c1", ContainerConfig(image="x", image_id="y"), 1)
    memory = Memory(5, limit=9, peak=7, failures=2, details={"cache": 1})
    transfers = (Transfer(8, 16, 1, 2, 3, 4),)
    told = shown(
        container, used(1, memory=memory, transfers=transfers), None, Machine(1, 4, 1 << 30)
    )
    assert told["memory_stats"] == {
        "usage": 5,
        "max_usage": 7,
        "stats": {"cache": 1},
        "failcnt": 2,
        "limit": 9,
    }
    assert told["blkio_stats"]["io_service_bytes_recursive"] == [
        {"major": 8, "minor": 16, "op": "read", "value": 1},
        {"major": 8, "minor": 16, "op": "write", "value": 2},
    ]
    assert [one["value"] for one in told["blkio_stats"]["io_serviced_recursive"]] == [3, 4]
