"""Many clients at one container: every answer is one that Docker could give, and nothing hangs."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.real.engine_process import cgroups_of

ALLOWED = {
    "start": {204, 304, 404, 409},
    "stop?t=0": {204, 304, 404},
    "kill": {204, 404, 409},
    "restart?t=0": {204, 404, 409},
    "rename": {204, 404, 409},
    "remove": {204, 404, 409},
    "force": {204, 404, 409},
}


def ask(engine, container, what, number=0):
    if what in ("remove", "force"):
        return engine.delete(f"/containers/{container}" + ("?force=1" if what == "force" else ""))
    if what == "rename":
        return engine.post(f"/containers/{container}/rename?name=renamed-{number}")
    return engine.post(f"/containers/{container}/{what}")


def nothing_left(engine, container):
    engine.delete(f"/containers/{container}?force=1")
    assert engine.get(f"/containers/{container}/json").status == 404
    assert not list((engine.root / "containers").glob(f"{container}*"))
    assert not cgroups_of(container)


@pytest.mark.parametrize("pair", list(itertools.combinations_with_replacement(ALLOWED, 2)), ids=str)
@pytest.mark.parametrize("running", [False, True], ids=["created", "running"])
def test_two_at_once(engine, pair, running):
    container = engine.create("sleep", "1000")
    if running:
        assert engine.post(f"/containers/{container}/start").status == 204
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda n: ask(engine, container, pair[n], n), range(2)))
    for what, answer in zip(pair, answers, strict=True):
        assert answer.status in ALLOWED[what], (what, answer)
    nothing_left(engine, container)


@pytest.mark.parametrize("removes_itself", [False, True])
def test_a_restart_under_way_does_not_bring_back_what_is_removed_by_force(engine, removes_itself):
    """Its first process ignores SIGTERM, so the restart waits for its end: that of the removal."""
    container = engine.run("sleep", "1000", HostConfig={"AutoRemove": removes_itself})
    filters = json.dumps({"container": [container], "event": ["kill"]})
    with (
        ThreadPoolExecutor(1) as pool,
        engine.stream("GET", f"/events?since=1&filters={filters.replace(' ', '')}") as events,
    ):
        restarted = pool.submit(ask, engine, container, "restart?t=60")
        assert json.loads(events.readline())["Actor"]["Attributes"]["signal"] == "15"
        assert ask(engine, container, "force").status == 204
        assert restarted.result(30).status in (404, 409)
    nothing_left(engine, container)


def test_twenty_removals_of_one_remove_it_once(engine):
    container = engine.create("true")
    with ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(lambda _: ask(engine, container, "remove").status, range(20)))
    assert codes.count(204) == 1
    assert set(codes) <= {204, 404, 409}


def test_ten_creates_with_one_name_make_one(engine):
    body = {"Image": "host", "Cmd": ["true"]}
    with ThreadPoolExecutor(10) as pool:
        codes = list(
            pool.map(lambda _: engine.post("/containers/create?name=only", body).status, range(10))
        )
    assert sorted(codes) == [201] + [409] * 9
    assert engine.delete("/containers/only").status == 204


def test_a_burst_of_everything_at_one(engine):
    container = engine.create("sleep", "1000")
    asked = [what for what in ALLOWED if what not in ("remove", "force")] * 8
    with ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(lambda pair: ask(engine, container, pair[1], pair[0]), enumerate(asked))
        )
    for what, answer in zip(asked, answers, strict=True):
        assert answer.status in ALLOWED[what], (what, answer)
    nothing_left(engine, container)


def test_removal_by_itself_and_by_hand_at_once_keep_the_exit_code(engine):
    for _ in range(10):
        container = engine.create("sh", "-c", "exit 5", HostConfig={"AutoRemove": True})
        with ThreadPoolExecutor(2) as pool:
            waiting = pool.submit(engine.post, f"/containers/{container}/wait?condition=next-exit")
            engine.post(f"/containers/{container}/start")
            assert ask(engine, container, "force").status in (204, 404, 409)
            answer = waiting.result()
        assert answer.status in (200, 404)
        if answer.status == 200:
            assert answer.json["StatusCode"] in (5, 137, 0)
        nothing_left(engine, container)
