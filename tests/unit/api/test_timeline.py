"""GET /containers/{id}/timeline."""

import msgspec
import pytest

from supervisor.api.durations import NEVER
from supervisor.api.timeline import shown
from supervisor.generations import Generation, Generations, process_began_ns
from supervisor.phases import Phase, Timeline
from tests.unit.api.fakes import FakeEngine
from tests.unit.api.test_containers import add

SECOND = 10**9
BORN = 1_700_000_000 * SECOND


def life_of(engine, name="bird"):
    timeline = Timeline().add(
        Phase("start.spawn", BORN + 2, BORN + 5),
        Phase("start", BORN + 2, BORN + 9),
        Phase("create", BORN, BORN + 1),
    )
    return add(engine, name, timeline=timeline.open("run", BORN + 10))


@pytest.mark.anyio
async def test_phases_come_in_order_each_before_its_parts(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        container = life_of(engine)
        told = (await client.request("GET", "/v1.50/containers/bird/timeline")).json
    assert (told["Id"], told["Name"], told["State"]) == (container.id, "/bird", "running")
    assert [phase["Name"] for phase in told["Phases"]] == ["create", "start", "start.spawn", "run"]
    assert told["Phases"][1] == {
        "Name": "start",
        "Began": "2023-11-14T22:13:20.000000002Z",
        "Ended": "2023-11-14T22:13:20.000000009Z",
        "DurationNs": 7,
        "Note": "",
        "Count": 1,
    }


@pytest.mark.anyio
async def test_of_nobody(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        answer = await client.request("GET", "/containers/nosuch/timeline")
        assert (answer.status, answer.message) == (404, "No such container: nosuch")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_goes_on_has_no_end_and_its_duration_so_far(tmp_path):
    told = shown(life_of(FakeEngine(tmp_path)), [], BORN + 10 + 3 * SECOND)
    assert told.Phases[-1].Ended == NEVER
    assert told.Phases[-1].DurationNs == 3 * SECOND


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_supervisor_that_came_when_nothing_was_under_way_is_not_of_its_life(tmp_path):
    container = life_of(FakeEngine(tmp_path))
    coming = [
        Generation(1, BORN - 20, BORN - 10),
        Generation(2, BORN + 100, BORN + 200, adopted=7),
        Generation(3, BORN + 5 * SECOND, BORN + 6 * SECOND),
    ]
    container.life = msgspec.structs.replace(
        container.life, timeline=container.life.timeline.end(BORN + 4 * SECOND)
    )
    told = shown(container, coming, BORN + 9 * SECOND)
    assert [(one.Pid, one.Adopted, one.DurationNs) for one in told.Supervisors] == [(2, 7, 100)]


def test_supervisors_are_remembered_by_the_next_one(tmp_path):
    first = Generations(tmp_path).ready(main_ns=5, adopted=2)
    assert first.began_ns == pytest.approx(process_began_ns(), abs=50_000_000)
    assert first.ready_ns >= first.began_ns
    assert Generations(tmp_path).since(0) == [first]
    assert Generations(tmp_path).since(first.began_ns + 1) == []


def test_one_that_executed_its_successor_began_when_that_one_did(tmp_path):
    first = Generations(tmp_path).ready(main_ns=5, adopted=2)
    later = first.ready_ns - 1
    assert Generations(tmp_path).ready(main_ns=later, adopted=2).began_ns == later
