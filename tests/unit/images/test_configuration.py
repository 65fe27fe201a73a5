"""The image configuration blob."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.images import configuration
from runtime.images.configuration import Step


def test_the_same_input_gives_the_same_bytes():
    made = [configuration.encode({"Cmd": ["/ä"]}, 5, ("sha256:1",), Step("c")) for _ in range(2)]
    assert made[0] == made[1]
    document = json.loads(made[0])
    assert document["rootfs"] == {"type": "layers", "diff_ids": ["sha256:1"]}
    assert document["created"] == "1970-01-01T00:00:00.000000005Z"
    assert document["history"] == [{"created": document["created"], "comment": "c"}]


def test_read_back():
    blob = configuration.encode(
        {"Env": ["A=1"], "User": ""}, 7, ("sha256:1", "sha256:2"), Step("hi")
    )
    image = configuration.decode("sha256:ff", json.loads(blob), ("a:1",), 9)
    assert (image.created_ns, image.size, image.comment) == (7, 9, "hi")
    assert image.diff_ids == ("sha256:1", "sha256:2")
    assert image.config == {"Env": ["A=1"]}
    assert image.os == "linux"


def test_what_a_container_made_tells_of_it():
    step = Step("", container="c1", container_image="box:1")
    blob = configuration.encode({}, 7, (), step)
    image = configuration.decode("sha256:ff", json.loads(blob), (), 9)
    assert (image.container, image.container_image) == ("c1", "box:1")


def test_a_child():
    steps = (Step("one"), Step("two", "me", "sh -c x"), Step("", created_by="y", empty_layer=True))
    parent, layers = None, ()
    for number, step in enumerate(steps):
        layers += () if step.empty_layer else (f"sha256:{number}",)
        blob = configuration.encode({"Cmd": [str(number)]}, number, layers, step, parent)
        image_id = f"sha256:{number}"
        up = parent.id if parent else ""
        parent = configuration.decode(image_id, json.loads(blob), (), 1, parent=up)
    assert (parent.author, parent.comment, parent.parent, parent.base) == ("", "", "sha256:1", "")
    assert parent.diff_ids == ("sha256:0", "sha256:1")
    told = [{k: v for k, v in one.items() if k != "created"} for one in parent.history]
    assert told == [
        {"comment": "one"},
        {"comment": "two", "author": "me", "created_by": "sh -c x"},
        {"comment": "", "created_by": "y", "empty_layer": True},
    ]


def test_what_lies_on_this_machine_says_so():
    host = configuration.decode(
        "sha256:1", json.loads(configuration.encode({}, 1, (), Step(""))), (), 1, built_in=True
    )
    child = host
    for number in range(2):
        blob = configuration.encode({}, 1, ("sha256:2",), Step(str(number)), child)
        child = configuration.decode("sha256:3", json.loads(blob), (), 1)
        assert (child.base, child.built_in) == ("host", False)


@given(st.integers(0, 4_000_000_000_000_000_000))
def test_times_keep_their_nanoseconds(ns):
    assert configuration.parse_time(configuration.format_time(ns)) == ns


def test_times_of_other_tools():
    assert configuration.parse_time("2020-01-02T03:04:05Z") == 1577934245000000000
    assert configuration.parse_time("2020-01-02T04:04:05.5+01:00") == 1577934245500000000
    with pytest.raises(ValueError, match="not an RFC 3339 time"):
        configuration.parse_time("yesterday")
