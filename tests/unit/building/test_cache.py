"""What counts as the same step."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from runtime.images.errors import ImageNotFound
from runtime.images.model import Image
from supervisor.building import cache
from supervisor.building.cache_sources import CacheSources, _goes_on


def image(name, parent="", steps=(), created=1, **more):
    history = tuple({"created_by": step} for step in steps)
    fields = {"author": "", "config": {}, "diff_ids": (), "tags": ()} | more
    return Image(
        id=name, parent=parent, created_ns=created, history=history,
        size=0, architecture="amd64", os="linux", **fields,
    )  # fmt: skip


def engine(*images):
    def resolve(name):
        for one in images:
            if one.id == name:
                return one
        raise ImageNotFound(name)

    return SimpleNamespace(images=SimpleNamespace(images=lambda: list(images), resolve=resolve))


BASE = image("base", steps=["", "CMD x"])


@pytest.mark.parametrize(
    ("child", "hit"),
    [
        (image("c", "base", ["", "CMD x", "RUN y"]), True),
        (image("c", "base", ["", "CMD x", "RUN z"]), False),
        (image("c", "other", ["", "CMD x", "RUN y"]), False),
        (image("c", "base", ["", "CMD x", "RUN y", "RUN y"]), False),
        (image("c", "base", ["", "CMD x", "RUN y"], config={"User": "x"}), False),
        (image("c", "base", ["", "CMD x", "RUN y"], author="Ann"), False),
        (image("c", "base", ["", "CMD x", "RUN y"], container_command=("RUN", "y")), False),
    ],
)
def test_a_step_is_its_words_on_its_parent(child, hit):
    found = cache.find(engine(BASE, child), BASE, "RUN y", {"User": "", "Cmd": None}, "")
    assert (found is child) is hit


def test_the_newest_of_several_and_words_of_commands():
    old = image("old", "base", ["", "CMD x", "a b"], 1, container_command=("a b",))
    new = image("new", "base", ["", "CMD x", "a b"], 2, container_command=("a b",))
    other = image("other", "base", ["", "CMD x", "a b"], 3, container_command=("a", "b"))
    known = engine(new, old, other, BASE)
    assert cache.find(known, BASE, "a b", {}, "", ("a b",)) is new
    assert cache.find(known, BASE, "a b", {}, "", ("a", "b")) is other


def test_from_scratch():
    first = image("first", "", ["COPY x"])
    pulled = image("pulled", "", ["COPY x", "CMD y"])
    built_in = image("host", "", ["COPY x"], built_in=True)
    assert cache.find(engine(built_in, pulled, first), None, "COPY x", {}, "") is first


@pytest.mark.parametrize(
    ("steps", "layers", "goes_on"),
    [
        (["", "CMD x", "RUN y"], (), True),
        (["", "CMD x", "RUN y", "RUN z"], ("sha256:a",), True),
        (["", "CMD x"], (), False),
        (["", "CMD w", "RUN y"], (), False),
        (["", "CMD x", "RUN z"], (), False),
    ],
)
def test_an_image_from_elsewhere(steps, layers, goes_on):
    assert _goes_on(image("e", steps=steps, diff_ids=layers), BASE, "RUN y") is goes_on
    assert not _goes_on(image("e", steps=steps), image("b", steps=[""], diff_ids=("s",)), "CMD x")


def test_sources_that_are_not_here_or_not_whole():
    known = engine(BASE, image("host", built_in=True), image("mine", base="host"))
    assert CacheSources(known, ["nosuch", "host", "mine", "base"])._images == [BASE]
