"""Images get names, and tell what they weigh layer by layer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.images.configuration import Step
from runtime.images.errors import BuiltInImage, ImageNotFound, InvalidReference
from runtime.images.model import Deleted, ImageUser, Untagged
from runtime.images.store import ImageStore
from tests.real.image_store import archive, clean_store, entry


@pytest.fixture
def store(tmp_path):
    with clean_store(tmp_path / "store") as store:
        yield store


@pytest.fixture
def image(store, tmp_path):
    """What is called `x:1`."""
    path = tmp_path / "archive"
    path.write_bytes(archive((entry("file"), b"12345")))
    return store.import_file(path, "x:1")


def test_a_name_more_is_kept_and_goes_alone(store, image):
    assert store.tag("x:1", "docker.io/library/y").tags == ("x:1", "y:latest")
    assert store.tag(image.id[:20], "z:1").tags == ("x:1", "y:latest", "z:1")
    again = ImageStore(store.root)
    assert again.resolve("y").tags == ("x:1", "y:latest", "z:1")
    assert again.resolve("z:1").id == image.id
    assert store.delete("x:1") == [Untagged("x:1")]
    assert store.delete("y") == [Untagged("y:latest")]
    layer = Deleted(image.diff_ids[0])
    assert store.delete("z:1") == [Untagged("z:1"), Deleted(image.id), layer]


def test_when_it_was_last_given_one_is_kept(store, image):
    given = image.tagged_ns
    assert given == image.created_ns
    tagged = store.tag("x:1", "y").tagged_ns
    assert tagged > given
    assert ImageStore(store.root).resolve("x:1").tagged_ns == tagged
    assert store.host().tagged_ns == 0


def test_what_a_container_needs_stays_when_its_image_is_removed(store, image):
    lower = Path(store.layers(image).lower[0])

    def users(image_id):
        return [ImageUser("1" * 64, running=False)]

    assert store.delete("x:1", True, users) == [Untagged("x:1"), Deleted(image.id)]
    with pytest.raises(ImageNotFound):
        store.resolve(image.id)
    assert store.images() == [store.host()]
    for opened in (store, ImageStore(store.root)):
        assert opened.sweep() == []
        assert opened.of_container(image.id).diff_ids == image.diff_ids
        opened.release({image.id})
        assert list(opened.retired) == [image.id]
        assert (lower / "file").read_bytes() == b"12345"
    store.release(set())
    assert not lower.exists()
    assert os.listdir(store.root / "blobs/sha256") == os.listdir(store.root / "layers") == []
    with pytest.raises(ImageNotFound):
        store.of_container(image.id)


def test_what_is_retired_can_come_back(store, image, tmp_path):
    config = store.config_blob(image)
    store.delete("x:1", True, lambda _: [ImageUser("1" * 64, running=False)])
    with store.hold() as hold:
        assert hold.layer(image.diff_ids[0])
        assert hold.add_image(config, tags=["y:1"]).id == image.id
    assert list(store.retired) == []
    store.release(set())
    assert store.resolve("y:1").id == image.id


def test_a_name_moves_to_the_image_that_gets_it(store, image, tmp_path):
    path = tmp_path / "other"
    path.write_bytes(archive((entry("other"), b"1")))
    other = store.import_file(path, "y:1")
    store.tag("y:1", "x:1")
    assert store.resolve("x:1").id == other.id
    assert store.resolve(image.id).tags == ()


@pytest.mark.parametrize(
    ("reference", "name", "error", "text"),
    [
        ("nosuch", "y", ImageNotFound, "No such image: nosuch:latest"),
        ("x:1", "Y", InvalidReference, "must be lowercase"),
        ("x:1", f"y@sha256:{'a' * 64}", InvalidReference, "refusing to create a tag with a digest"),
        ("x:1", "host", BuiltInImage, "the name host:latest is taken"),
        ("host", "y", BuiltInImage, "host:latest can have no other name"),
    ],
)
def test_names_that_can_not_be(store, image, reference, name, error, text):
    with pytest.raises(error, match=text):
        store.tag(reference, name)
    assert store.resolve("x:1").tags == ("x:1",)


def test_sizes(store, image):
    assert store.layer_sizes(image) == [5]
    assert store.layer_sizes(store.host()) == [store.host().size]
    assert store.ancestors(image) == []


def test_what_an_image_was_made_of(store, image):
    made = [image, store.host()]
    for parent in made[:2]:
        job = store.begin_commit(parent, {}, Step("more", empty_layer=True))
        os.write(job.stdin_fd, archive())
        job.close_stdin()
        made.append(job.finish())
    ours, on_host = made[2:]
    assert store.ancestors(ours) == [image]
    assert store.ancestors(on_host) == [store.host()]
