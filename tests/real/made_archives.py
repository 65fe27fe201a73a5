"""Archives of images as `docker save` before version 25 writes them, made in the test."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

from tests.real.image_store import archive, entry

TAR = {"Content-Type": "application/x-tar"}


def digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(name, content=b"x"):
    """A layer of one file."""
    return archive((entry(name), content))


def configured(*layers, diff_ids=None, **more):
    """The configuration of an image of these layers."""
    rootfs = {"type": "layers", "diff_ids": diff_ids or [digest(one) for one in layers]}
    told = {"os": "linux", "architecture": "amd64", "config": {"Cmd": ["/bin/sh"]}}
    return json.dumps({**told, "rootfs": rootfs, **more}).encode()


def docker_archive(*layers, tags=("made:1",), config=None, pack=bytes, extra=()):
    """An archive of one image, its layers packed by `pack`."""
    config = config or configured(*layers)
    listed = {
        "Config": f"{digest(config)[7:]}.json",
        "RepoTags": list(tags) or None,
        "Layers": [f"{number}/layer.tar" for number in range(len(layers))],
    }
    return archive(
        *((entry(f"{number}/layer.tar"), pack(one)) for number, one in enumerate(layers)),
        (entry(listed["Config"]), config),
        *extra,
        (entry("manifest.json"), json.dumps([listed]).encode()),
    )


def members(data):
    """The files of an archive by their names."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {one.name: tar.extractfile(one).read() for one in tar.getmembers() if one.isreg()}


def load(engine, data, query=""):
    """Load; the lines of the answer."""
    answer = engine.request("POST", f"/images/load?{query}", data, TAR)
    assert answer.status == 200, answer
    return [json.loads(line) for line in answer.body.splitlines()]


def loaded(engine, data, query=""):
    """Load; what the engine says that it has loaded."""
    lines = load(engine, data, query)
    assert not any("error" in line for line in lines), lines
    return [line["stream"].rstrip("\n") for line in lines if "stream" in line]


def inventory(engine):
    """All files of the store but for unpacked ones, and the images as they are listed."""
    images = engine.root / "images"
    found = {
        str(path)
        for pattern in ("blobs/sha256/*", "layers/*", "staging/*")
        for path in images.glob(pattern)
    }
    return found, engine.get("/images/json").json
