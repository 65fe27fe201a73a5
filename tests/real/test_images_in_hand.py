"""Layers that a pull, a load or a build has in hand before there is an image of them."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from pathlib import Path

import pytest

from runtime.images.configuration import Step
from runtime.images.errors import (
    BuiltInImage,
    ImageNotFound,
    ImportFailed,
    ImportRefused,
    InvalidReference,
)
from runtime.images.model import Deleted, Untagged
from runtime.images.store import ImageStore
from tests.real.image_store import archive, clean_store, entry

MANIFEST = b'{"schemaVersion": 2}'
DIGEST = "sha256:" + "d" * 64


@pytest.fixture
def store(tmp_path):
    with clean_store(tmp_path / "store") as store:
        yield store


def digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def tar_of(*names):
    return archive(*((entry(name), name.encode()) for name in names))


def unpacked(hold, data, expected=""):
    job = hold.begin_layer(expected)
    try:
        os.write(job.stdin_fd, data)
        return job.finish()
    finally:
        job.abort()


def config_of(*archives, **more):
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(data) for data in archives]},
    }
    return json.dumps(document | more).encode()


def layers_on_disk(store):
    return sorted(f"sha256:{path.parent.name}" for path in store.root.glob("layers/*/layer.json"))


def blobs_on_disk(store):
    return sorted(f"sha256:{path.name}" for path in (store.root / "blobs/sha256").iterdir())


def test_layers_become_an_image(store):
    lower, upper = tar_of("a"), tar_of("b")
    packed = gzip.compress(upper)
    with store.hold() as hold:
        first = unpacked(hold, lower)
        second = unpacked(hold, packed, digest(packed))
        assert (first.diff_id, first.blob.digest, first.blob.size) == (
            digest(lower),
            digest(lower),
            len(lower),
        )
        assert second.diff_id == digest(upper)
        assert second.blob.media_type == "application/vnd.oci.image.layer.v1.tar+gzip"
        image = hold.add_image(
            config_of(lower, upper),
            tags=["made:1", "docker.io/library/made"],
            digests=[f"made@{DIGEST}"],
            manifest=MANIFEST,
        )
    assert image.id == digest(config_of(lower, upper))
    assert image.tags == ("made:1", "made:latest")
    assert image.digests == (f"made@{DIGEST}",)
    assert image.size == 2
    assert store.resolve("made") == store.resolve(f"made@{DIGEST}") == image
    assert store.resolve(f"made:whatever@{DIGEST}") == image
    assert store.layers_of(image) == [first, second]
    assert store.blob_path(second.blob.digest).read_bytes() == packed
    assert store.config_blob(image) == config_of(lower, upper)
    assert store.manifest_blob(image) == MANIFEST
    shown = [sorted(path.name for path in Path(one).iterdir()) for one in store.layers(image).lower]
    assert shown == [["b"], ["a"]]
    again = ImageStore(store.root)
    assert again.resolve("made") == image
    assert again.sweep() == []
    assert len(blobs_on_disk(store)) == 4


def test_what_is_in_hand_stays_and_goes_with_the_hand(store):
    data = tar_of("a")
    with store.hold() as hold, store.hold() as other:
        unpacked(hold, data)
        assert other.layer(digest(data)) == hold.layer(digest(data))
        assert other.layer(DIGEST) is None
        image = hold.add_image(config_of(data), tags=["x"])
        assert store.delete("x") == [Untagged("x:latest"), Deleted(image.id)]
        hold.close()
        assert store.sweep() == []
        assert layers_on_disk(store) == [digest(data)]
        assert blobs_on_disk(store) == [digest(data)]
    assert layers_on_disk(store) == blobs_on_disk(store) == []


def test_an_image_outlives_the_hand(store):
    data = tar_of("a")
    with store.hold() as hold:
        unpacked(hold, data)
        image = hold.add_image(config_of(data))
    assert layers_on_disk(store) == [digest(data)]
    assert store.delete(image.id) == [Deleted(image.id), Deleted(digest(data))]
    assert layers_on_disk(store) == blobs_on_disk(store) == []


def test_one_layer_twice(store):
    """Compressed in two ways it is one layer, whose first archive is kept."""
    data = tar_of("a")
    packed = gzip.compress(data)
    with store.hold() as hold:
        first = unpacked(hold, packed)
        assert unpacked(hold, data) == first
        assert blobs_on_disk(store) == [digest(packed)]
    assert layers_on_disk(store) == blobs_on_disk(store) == []


def test_a_layer_that_an_older_engine_kept_no_archive_of(store):
    data = tar_of("a")
    with store.hold() as hold:
        unpacked(hold, data)
        record = store.root / "layers" / digest(data)[7:] / "layer.json"
        document = json.loads(record.read_bytes())
        del document["blob"]
        record.write_text(json.dumps(document))
        store.blob_path(digest(data)).unlink()
        assert hold.layer(digest(data)).blob is None
        assert unpacked(hold, data).blob.digest == digest(data)
        assert hold.layer(digest(data)).blob.digest == digest(data)
        assert blobs_on_disk(store) == [digest(data)]


def test_another_digest_than_was_said(store):
    with store.hold() as hold, pytest.raises(ImportRefused, match="layer verification failed"):
        unpacked(hold, tar_of("a"), DIGEST)
    assert layers_on_disk(store) == blobs_on_disk(store) == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (b"", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "it is no object"),
        (b"{}", "rootfs is no object"),
        (config_of(os="windows"), "the image is for windows, not for linux"),
        (config_of(architecture=None), "it names no architecture"),
        (config_of(architecture=5), "architecture is no text"),
        (config_of(config={"Env": "A=b"}), "config.Env is no list"),
        (config_of(config={"Env": [1]}), "a part of config.Env is no text"),
        (config_of(config={"Labels": {"a": {}}}), "a part of config.Labels is no text"),
        (config_of(config={"Healthcheck": {"Retries": True}}), "Retries is no number"),
        (config_of(history=["x"]), "a part of history is no object"),
        (config_of(created="yesterday"), "created is no time"),
        (config_of(created="9999-12-31T23:59:59-23:59"), "created is no time"),
        (config_of(rootfs={"diff_ids": ["../../etc"]}), "by something else than sha256"),
        (config_of(b"elsewhere"), "a layer that it did not come with"),
    ],
)
def test_configurations_that_are_refused(store, config, words):
    with store.hold() as hold, pytest.raises(ImportRefused, match=words):
        hold.add_image(config, tags=["x"])
    with pytest.raises(ImageNotFound):
        store.resolve("x")
    assert blobs_on_disk(store) == []


def test_names_that_are_refused(store):
    with store.hold() as hold:
        with pytest.raises(BuiltInImage):
            hold.add_image(config_of(), tags=["host"])
        with pytest.raises(InvalidReference):
            hold.add_image(config_of(), tags=["x@" + DIGEST])
    assert blobs_on_disk(store) == []


def test_a_newer_manifest_replaces_the_older(store):
    with store.hold() as hold:
        hold.add_image(config_of(), tags=["x"], manifest=MANIFEST)
        image = hold.add_image(config_of(), digests=[f"y@{DIGEST}"], manifest=MANIFEST + b" ")
    assert image.tags == ("x:latest",)
    assert store.manifest_blob(image) == MANIFEST + b" "
    assert blobs_on_disk(store) == sorted([digest(config_of()), digest(MANIFEST + b" ")])


def test_a_full_disk_at_each_step_of_adding(store, monkeypatch):
    data = tar_of("a")
    with store.hold() as hold:
        unpacked(hold, data)
        before = blobs_on_disk(store)

        def full(*_arguments):
            raise OSError(28, "No space left on device")

        for module in ("blobs", "catalogue"):
            with monkeypatch.context() as patch:
                patch.setattr(f"runtime.images.{module}.write_durably", full)
                with pytest.raises(ImportFailed, match="no space left on device"):
                    hold.add_image(config_of(data), tags=["x"], manifest=MANIFEST)
            assert blobs_on_disk(store) == before
        assert hold.add_image(config_of(data), tags=["x"]).tags == ("x:latest",)


def test_a_layer_that_cannot_be_made_durable_is_taken_back(store, monkeypatch):
    """Found by reading: it stayed, without its archive."""
    data = tar_of("a")
    with store.hold() as hold:

        def fails(*_arguments):
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr("runtime.images.layers.sync_directory", fails)
            with pytest.raises(ImportFailed):
                unpacked(hold, data)
        assert layers_on_disk(store) == blobs_on_disk(store) == []
        assert list((store.root / "short").iterdir()) == []
        assert unpacked(hold, data).diff_id == digest(data)


def test_steps_without_a_layer_and_from_scratch(store):
    scratch = store.add_step(None, {"Env": ["A=b"]}, Step("", created_by="ENV A=b"))
    assert (scratch.diff_ids, scratch.config) == ((), {"Env": ["A=b"]})
    job = store.begin_commit(scratch, {"Cmd": ["x"]}, Step("", created_by="COPY"), "made")
    os.write(job.stdin_fd, tar_of("a"))
    made = job.finish()
    assert made.diff_ids == (digest(tar_of("a")),)
    assert [step.get("empty_layer", False) for step in made.history] == [True, False]
    job = store.begin_commit(None, {}, Step(""), "first")
    os.write(job.stdin_fd, tar_of("a"))
    first = job.finish()
    assert first.diff_ids == made.diff_ids
    job = store.begin_commit(None, {}, Step(""), "empty")
    os.write(job.stdin_fd, archive())
    assert job.finish().diff_ids == ()


def test_names_by_digest_go_with_their_repository(store):
    with store.hold() as hold:
        image = hold.add_image(
            config_of(), tags=["a:1", "a:2", "b:1"], digests=[f"a@{DIGEST}", f"b@{DIGEST}"]
        )
    assert store.delete("a:1") == [Untagged("a:1")]
    assert store.delete("a:2") == [Untagged("a:2"), Untagged(f"a@{DIGEST}")]
    assert store.resolve("b:1").digests == (f"b@{DIGEST}",)
    assert store.delete(f"b@{DIGEST}") == [Untagged(f"b@{DIGEST}")]
    assert store.delete("b:1") == [Untagged("b:1"), Deleted(image.id)]


def test_a_digest_alone_is_a_name(store):
    with store.hold() as hold:
        image = hold.add_image(config_of(), digests=[f"a@{DIGEST}"])
    assert store.delete(f"a@{DIGEST}") == [Untagged(f"a@{DIGEST}"), Deleted(image.id)]


def test_an_import_of_a_layers_archive_is_that_layer(store, tmp_path):
    """Found: it left out what the layer hides, and an image above others had the same files."""
    data = tar_of("c", ".wh.a")
    (tmp_path / "layer.tar").write_bytes(data)
    (imported,) = store.import_file(tmp_path / "layer.tar", "mine").diff_ids
    with store.hold() as hold:
        below, known = unpacked(hold, tar_of("a")), hold.layer(imported)
        assert known is not None and known.diff_id == digest(data)
        image = hold.add_image(config_of(tar_of("a"), data), tags=["theirs"])
    assert image.diff_ids == (below.diff_id, imported)
    (whiteout,) = (one for one in Path(store.layers(image).lower[0]).iterdir() if one.name == "a")
    assert whiteout.is_char_device() and whiteout.lstat().st_rdev == 0
