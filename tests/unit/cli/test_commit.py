"""`commit`: what is asked of the engine."""

import pytest


@pytest.mark.parametrize(
    ("words", "query"),
    [
        (("bird",), {"container": "bird"}),
        (("/bird", "nest:1"), {"container": "bird", "repo": "nest:1"}),
        (
            ("-a", "me", "--message", "a b", "bird"),
            {"container": "bird", "author": "me", "comment": "a b"},
        ),
        (("-p=false", "bird"), {"container": "bird", "pause": "0"}),
        (("--no-pause", "bird"), {"container": "bird", "pause": "0"}),
        (("-p", "bird"), {"container": "bird"}),
    ],
)
def test_asked(engine, mdocker, words, query):
    engine.json("POST", "/commit", {"Id": "sha256:1"}, 201)
    assert mdocker("commit", *words) == (0, "sha256:1\n", "")
    assert engine.requests[-1][2] == query


def test_changes_are_asked_one_by_one(engine, mdocker):
    seen = []

    def answer(call):
        seen.append(call.path)
        call.answer(201, {"Id": "sha256:1"})

    engine.on("POST", "/commit", answer)
    assert mdocker("commit", "-c", "ENV A=b c&d", "--change", "CMD x", "bird").code == 0
    assert seen[0].endswith("?container=bird&changes=ENV%20A%3Db%20c%26d&changes=CMD%20x")


def test_refused(engine, mdocker):
    engine.refuse("POST", "/commit", 404, "No such container: bird")
    assert mdocker("commit", "bird") == (1, "", "mdocker: No such container: bird\n")
    assert mdocker("commit").code == 1
    assert "Container name cannot be empty" in mdocker("commit", "").err
    assert "-c" in mdocker("commit", "--help").out
