"""What the shim still keeps of an end that is on record already changes nothing."""

import msgspec
import pytest

from supervisor.container import Container, ContainerConfig, Life
from supervisor.recovery import is_on_record
from supervisor.shim_answers import Adopted
from supervisor.states import State


def test_a_short_run_does_not_end_before_it_begins(engine):
    for _ in range(30):
        container = engine.run("true")
        engine.wait(container)
        state = engine.inspect(container)["State"]
        assert state["StartedAt"] <= state["FinishedAt"]
        assert engine.delete(f"/containers/{container}").status == 204


@pytest.mark.parametrize(
    ("state", "finished_ns", "ended_ns", "expected"),
    [
        (State.EXITED, 50, 50, True),
        (State.EXITED, 51, 50, True),  # it had ended before its start was noted
        (State.EXITED, 50, 90, False),  # a later run, whose start was not written
        (State.EXITED, 50, 0, False),  # a later run that lives
        (State.RUNNING, 50, 90, False),
        (State.CREATED, 0, 90, False),
    ],
)
def test_which_ends_are_on_record(state, finished_ns, ended_ns, expected):
    config = ContainerConfig(image="host", image_id="sha256:0")
    life = Life(state=state, finished_ns=finished_ns)
    container = Container("c" * 64, "name", config, 1, life)
    held = Adopted("c" * 64, 1, -1, -1, -1, ended_ns=ended_ns)
    assert is_on_record(container, held) is expected


def test_one_to_be_removed_at_its_end_is_removed_though_nobody_saw_the_end(fresh_engine):
    engine = fresh_engine
    container = engine.create("true", name="over", HostConfig={"AutoRemove": True})
    engine.kill()
    config = engine.root / "containers" / container / "config.json"
    record = msgspec.json.decode(config.read_bytes())
    record["life"] = {"state": "exited", "started_ns": 1, "finished_ns": 2}
    config.write_bytes(msgspec.json.encode(record))
    engine.start()
    answer = engine.post("/containers/over/wait?condition=removed")
    assert answer.status in (200, 404)
    assert not config.parent.exists()
