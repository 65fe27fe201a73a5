"""Images of as many layers as anybody makes, and as many as the kernel stacks."""

from __future__ import annotations

import io
import os
import tarfile

import pytest

from runtime.images.short_names import MOST_LAYERS
from tests.real.engine_process import EngineProcess
from tests.real.many_layers import put_image, put_layers

SCRIPT = "ls -d /from* | wc -l; cat /newest; rm /from5; rmdir /only6; echo mine >/from7"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """One whose paths are long, with images that an older engine has left."""
    base = tmp_path_factory.mktemp("engine")
    process = EngineProcess(base, root=base / ("a: long, name " * 8))
    images = process.root / "images"
    layers = put_layers(images, MOST_LAYERS + 2)
    put_image(images, "small:1", [layers[0], *layers[-2:]])
    put_image(images, "deep:127", layers[:127])
    put_image(images, "deepest:1", layers[:-2])
    process.start()
    yield process
    process.close()


def finished(engine, image, script):
    """Run a script to its end; the container's id, and what it printed."""
    container = engine.run("sh", "-c", script, image=image)
    assert engine.wait(container) == 0
    output, _ = engine.output(container)
    return container, output.split()


@pytest.mark.parametrize(("image", "count"), [("deep:127", 127), ("deepest:1", MOST_LAYERS)])
def test_starts_looks_and_commits(engine, image, count):
    container, output = finished(engine, image, SCRIPT)
    assert output == [b"%d" % (count - 1)] * 2
    changes = engine.get(f"/containers/{container}/changes").json
    assert {one["Path"]: one["Kind"] for one in changes} == {
        "/from5": 2, "/only6": 2, "/from7": 0,
    }  # fmt: skip
    packed = engine.get(f"/containers/{container}/archive?path=/newest").body
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert tar.extractfile("newest").read() == b"%d\n" % (count - 1)
    with tarfile.open(
        fileobj=io.BytesIO(engine.get(f"/containers/{container}/export").body)
    ) as tar:
        assert {"from1", f"from{count - 1}"} <= set(tar.getnames())
        assert "from5" not in tar.getnames()
    answer = engine.post(f"/commit?container={container}&repo=more&tag={count}")
    if count == MOST_LAYERS:
        assert answer.status == 400
        assert f"the kernel stacks no more than {MOST_LAYERS}" in answer.message
        return
    script = "cat /from7 /newest; test ! -e /from5"
    _, output = finished(engine, f"more:{count}", script)
    assert output == [b"mine", b"126"]


def test_the_short_names_are_there_and_go_with_the_layers(engine):
    short = engine.root / "images/short"
    everything = {path.stat().st_ino for path in short.iterdir()}
    assert everything == {path.stat().st_ino for path in short.parent.glob("layers/*/fs")}
    before = len(os.listdir(short))
    assert len(engine.delete("/images/small:1").json) == 2 + 2
    assert len(os.listdir(short)) == before - 2
    assert all(path.is_dir() for path in short.iterdir())
