"""`pause`, `unpause` and `top`: what is asked of the engine, and what is shown."""

import pytest


@pytest.mark.parametrize(("verb", "chosen"), [("pause", ["a", "b"]), ("unpause", ["c"])])
def test_all_of_those_that_can_be(engine, mdocker, verb, chosen):
    states = {"a": "running", "b": "running", "c": "paused", "d": "restarting", "e": "exited"}
    listed = [
        {"Id": name * 64, "Names": [f"/{name}"], "State": state} for name, state in states.items()
    ]
    engine.json("GET", "/containers/json", listed)
    engine.on("POST", f"/containers/[a-e]/{verb}", lambda call: call.answer(204))
    assert mdocker(verb, "--all") == (0, "".join(f"{name}\n" for name in chosen), "")
    assert sorted(path for _, path, *_ in engine.seen("POST", ".*")) == [
        f"/containers/{name}/{verb}" for name in chosen
    ]
    assert mdocker(verb, "e") == (0, "e\n", "")
    for words in ((), ("--all", "a")):
        assert mdocker(verb, *words).code == 1


def test_one_that_is_refused_keeps_no_other(engine, mdocker):
    engine.on("POST", "/containers/b/pause", lambda call: call.answer(204))
    engine.refuse("POST", "/containers/a/pause", 409, "Container a is already paused")
    result = mdocker("pause", "a", "b")
    assert result == (1, "b\n", "mdocker: Container a is already paused\n")


def test_top_hands_the_options_of_ps_on(engine, mdocker):
    listing = {"Titles": ["PID", "CMD"], "Processes": [["7", "sh -c x"]]}
    engine.json("GET", "/containers/a/top", listing)
    assert mdocker("top", "a", "-o", "pid,cmd", "--sort=pid").out == (
        "PID       CMD\n7         sh -c x\n"
    )
    assert engine.requests[-1][2] == {"ps_args": "-o pid,cmd --sort=pid"}
    mdocker("top", "a")
    assert engine.requests[-1][2] == {}
    engine.json("GET", "/containers/a/top", {"Titles": ["PID"], "Processes": None})
    assert mdocker("top", "a").out == "PID\n"
