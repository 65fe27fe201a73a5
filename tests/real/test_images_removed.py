"""Images that are removed while containers have them: no container loses its files."""

from __future__ import annotations

import os

import pytest

from tests.real.archives import TAR


def kept(engine):
    """How many layers and blobs the store has."""
    images = engine.root / "images"
    return [len(os.listdir(images / name)) for name in ("layers", "short", "blobs/sha256")]


@pytest.fixture
def box(fresh_engine, busybox_tar):
    """A container that has ended, of an image that is gone since."""
    engine = fresh_engine
    body = busybox_tar.read_bytes()
    assert engine.request("POST", "/images/create?fromSrc=-&repo=box", body, TAR).status == 200
    container = engine.run("sh", "-c", "cat /mine; echo 1 >>/mine", image="box", name="box")
    assert engine.wait(container) == 0
    answer = engine.delete("/images/box")
    assert (answer.status, "must force" in answer.message) == (409, True)
    image = engine.inspect(container)["Image"]
    assert engine.delete("/images/box?force=1").json == [
        {"Untagged": "box:latest"}, {"Deleted": image},
    ]  # fmt: skip
    assert engine.get(f"/images/{image}/json").status == 404
    return container


def test_its_container_goes_on_also_with_the_next_engine(fresh_engine, box):
    engine = fresh_engine
    assert kept(engine) == [1, 1, 2]  # configuration and archive
    assert engine.post(f"/containers/{box}/start").status == 204
    assert engine.wait(box) == 0
    engine.kill()
    engine.start()
    assert kept(engine) == [1, 1, 2]
    assert engine.post(f"/containers/{box}/start").status == 204
    assert engine.wait(box) == 0
    assert engine.output(box)[0] == b"1\n1\n1\n"
    assert [one["Path"] for one in engine.get(f"/containers/{box}/changes").json] == ["/mine"]
    committed = engine.post(f"/commit?container={box}&repo=again").json["Id"]
    assert engine.delete(f"/containers/{box}").status == 204
    assert engine.get("/images/again/json").json["Parent"] == ""
    assert kept(engine) == [2, 2, 3]
    assert engine.result("cat", "/mine", image="again")[1] == "1\n1\n1\n"
    assert len(engine.delete(f"/images/{committed}").json) == 4
    assert kept(engine) == [0, 0, 0]


def test_its_files_go_with_its_last_container(fresh_engine, box):
    engine = fresh_engine
    engine.kill()
    record = engine.root / "containers" / box
    record.rename(record.with_name(f"{box}.removed"))  # as if killed in its removal
    engine.start()
    assert kept(engine) == [0, 0, 0]
