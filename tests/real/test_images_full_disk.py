"""Images on a full disk: each way of making one fails by these words, and the store stays clean."""

from __future__ import annotations

import json
import random
import subprocess

import pytest

from tests.clients.root_trees import busybox_tar
from tests.real.archives import packed
from tests.real.engine_process import EngineProcess
from tests.real.image_store import archive, entry
from tests.real.oci_layout import OciLayout

TAR = {"Content-Type": "application/x-tar"}
WORDS = "no space left on device"

SIZE = 40 << 20
"""Of the disk: the root file system of busybox fits several times, what is too big does not."""

BIG = random.Random(1).randbytes(30 << 20)
"""In a layer, which is kept unpacked and as it came: too much."""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """An engine whose root is on a small disk, with the image `box` and as much room again."""
    base = tmp_path_factory.mktemp("small")
    root = base / "disk"
    root.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "small", str(root)]
    subprocess.run(command, check=True)
    engine = EngineProcess(base / "engine", root=root / "root").start()
    told = posted(engine, "/images/create?fromSrc=-&repo=box&tag=1", busybox_tar())
    assert "error" not in told[-1], told
    yield engine
    engine.close()
    subprocess.run(["umount", str(root)], check=True)


def posted(engine, path, body=None, headers=TAR):
    """The lines of an answer; a refusal is one of them."""
    answer = engine.post(path, body, headers)
    lines = [json.loads(line) for line in answer.body.splitlines() if line.strip()]
    return lines or [{"status": answer.status}]


def stored(engine):
    """All that is in the store, by path."""
    images = engine.root / "images"
    places = [*(images / "layers").iterdir(), *(images / "blobs/sha256").iterdir()]
    return sorted(str(path) for path in [*places, *(images / "staging").iterdir()])


@pytest.fixture
def as_before(small):
    """Afterwards the store is what it was, whole, and there is room for something that fits."""
    before = stored(small)
    yield
    assert stored(small) == before
    lines = posted_check(small)
    assert not [line for line in lines if "Finding" in line], lines
    assert "Summary" in lines[-1]
    told = posted(small, "/images/create?fromSrc=-&repo=fits&tag=1", packed({"a": b"b" * 100_000}))
    assert "error" not in told[-1], told
    assert small.delete("/images/fits:1").status == 200


def posted_check(engine):
    return [json.loads(line) for line in engine.get("/mdocker/check").body.splitlines()]


def said(told):
    return str(told[-1].get("error") or told[-1].get("message") or told[-1])


def test_an_import(small, as_before):
    tar = packed({"big": BIG})
    assert WORDS in said(posted(small, "/images/create?fromSrc=-&repo=big&tag=1", tar))


def test_a_pull(small, as_before, registry, layout):
    image = layout.add_image(
        [layout.add_layer(busybox_tar()), layout.add_layer(archive((entry("big"), BIG)))]
    )
    name = layout.upload(image, registry, "full/disk:1").removesuffix(":1")
    told = posted(small, f"/images/create?fromImage={name}&tag=1", None, {})
    assert WORDS in said(told)
    assert small.get(f"/images/{name}:1/json").status == 404


def test_a_load(small, as_before, tmp_path):
    layout = OciLayout(tmp_path / "layout")
    layout.tag(layout.add_image([layout.add_layer(archive((entry("big"), BIG)))]), "big:1")
    tar = tmp_path / "load.tar"
    subprocess.run(["tar", "-C", str(layout.path), "-cf", str(tar), "."], check=True)
    assert WORDS in said(posted(small, "/images/load", tar.read_bytes()))


def test_a_commit(small, as_before):
    script = "head -c 14000000 /dev/urandom > /big; echo made"
    container = small.run("sh", "-c", script, image="box:1")
    assert small.wait(container) == 0
    try:
        path = f"/commit?container={container}&repo=big&tag=1"
        told = posted(small, path, b"{}", {"Content-Type": "application/json"})
        assert WORDS in said(told)
    finally:
        assert small.delete(f"/containers/{container}?force=1").status == 204


@pytest.mark.parametrize(
    "step", ["COPY big /big", "ADD big /big", "RUN head -c 30000000 /dev/urandom > /big"]
)
def test_a_build(small, as_before, step):
    context = packed({"Dockerfile": f"FROM box:1\n{step}\n".encode(), "big": BIG})
    if step.startswith("RUN"):
        context = packed({"Dockerfile": f"FROM box:1\n{step}\n".encode()})
    told = posted(small, "/build?t=big:1&rm=1&forcerm=1", context)
    output = "".join(str(line.get("stream", "")) for line in told)
    assert WORDS in f"{output}{said(told)}".lower(), told
    assert "error" in told[-1] or "message" in told[-1]
    assert small.get("/containers/json?all=1").json == []


@pytest.fixture
def full(small, as_before):
    """Three images more, one without a name, and then not a byte more on the disk."""
    for number, name in enumerate(("&repo=one&tag=1", "&repo=two&tag=1", "")):
        tar = packed({"file": bytes([number]) * 50_000})
        told = posted(small, f"/images/create?fromSrc=-{name}", tar)
        assert "error" not in told[-1], told
    assert small.post("/images/one:1/tag?repo=more&tag=1").status == 201
    filler = small.root.parent / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    yield small
    filler.unlink()


def test_removals_give_room_back(full):
    refused = full.post("/images/one:1/tag?repo=another&tag=1")
    assert (refused.status, WORDS in refused.json["message"]) == (500, True), refused
    assert "mdocker image prune" in refused.json["message"]
    assert full.delete("/images/more:1").status == 200  # which frees nothing
    pruned = full.post("/images/prune")
    assert (pruned.status, len(pruned.json["ImagesDeleted"])) == (200, 2), pruned
    for name in ("one:1", "two:1"):
        assert full.delete(f"/images/{name}").status == 200
