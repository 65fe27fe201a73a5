"""Pruning of images: which ones, what it tells of, and what it gives back."""

import dataclasses
import json
from urllib.parse import quote

import pytest

from runtime.images.errors import ImageConflict
from runtime.images.model import Deleted, Image, Untagged
from tests.unit.api.fakes import HOST
from tests.unit.api.test_containers import add

pytestmark = pytest.mark.anyio

DAY = 24 * 3600 * 10**9


def image(letter, *tags, created=1_700_000_000 * 10**9, labels=None, layers=1):
    return Image(
        id="sha256:" + letter * 64,
        tags=tags,
        created_ns=created,
        size=10,
        config={"Labels": labels} if labels else {},
        architecture="amd64",
        os="linux",
        diff_ids=tuple(f"sha256:{letter}{number}" for number in range(layers)),
    )


class Store:
    """Deletes as the real one does: names first, the image and its layers with the last one."""

    def __init__(self, images):
        self.fake = images
        self.kept = {}

    def delete(self, reference, force, in_use, parents=True):
        found = self.fake.resolve(reference)
        if found.id in self.kept:
            raise ImageConflict("conflict: it has children")
        left = tuple(tag for tag in found.tags if tag != reference)
        place = self.fake.known.index(found)
        if left:
            self.fake.known[place] = dataclasses.replace(found, tags=left)
            return [Untagged(reference)]
        del self.fake.known[place]
        names = [Untagged(tag) for tag in found.tags]
        return [*names, Deleted(found.id), *(Deleted(layer) for layer in found.diff_ids)]


@pytest.fixture
def pruned(engine_and_client):
    async def prune(images, filters, *, using=(), kept=()):
        async with engine_and_client() as (engine, connect), connect() as client:
            engine.images.known = [HOST, *images]
            store = Store(engine.images)
            store.kept = dict.fromkeys(kept)
            engine.images.delete = store.delete
            for number, one in enumerate(using):
                add(engine, f"c{number}", config={"image_id": one.id})
            answer = await client.request("POST", f"/images/prune?filters={quote(filters)}")
            events = [
                (event.action, event.id[7:8], event.attributes)
                for event in engine.events.past()
                if event.type == "image"
            ]
            return answer, [one.id[7] for one in engine.images.known], events

    return prune


async def test_without_a_filter_those_without_a_name_go(pruned):
    images = [image("1"), image("2", "two:1"), image("3", layers=3)]
    answer, left, events = await pruned(images, "{}", using=[images[0]])
    assert left == ["a", "1", "2"]
    assert answer.json["SpaceReclaimed"] == 10 + 20 + 30 + (10 + 15)  # with the archives
    assert answer.json["ImagesDeleted"][0] == {"Deleted": images[2].id}
    assert [event[0] for event in events] == ["delete", "prune"]
    assert events[-1] == ("prune", "", {"reclaimed": "85"})


async def test_one_that_has_nothing_but_a_digest_is_dangling(pruned):
    images = [dataclasses.replace(image("1"), digests=("x@sha256:" + "d" * 64,))]
    answer, left, _ = await pruned(images, "{}")
    assert left == ["a"]
    assert {"Deleted": images[0].id} in answer.json["ImagesDeleted"]


async def test_all_that_no_container_uses(pruned):
    images = [image("1", "one:1", "uno:1"), image("2", "two:1"), image("3")]
    filters = json.dumps({"dangling": {"false": True}})
    answer, left, events = await pruned(images, filters, using=[images[1]])
    assert left == ["a", "2"]
    assert answer.json["ImagesDeleted"][:3] == [
        {"Untagged": "one:1"},
        {"Untagged": "uno:1"},
        {"Deleted": images[0].id},
    ]
    assert [event[0] for event in events] == ["untag", "untag", "delete", "delete", "prune"]
    assert events[0] == ("untag", "1", {"name": images[0].id})


async def test_what_is_needed_stays_and_nothing_is_null(pruned):
    images = [image("1")]
    answer, left, _ = await pruned(images, "{}", kept=[images[0].id])
    assert (answer.status, left) == (200, ["a", "1"])
    assert answer.json == {"ImagesDeleted": None, "SpaceReclaimed": 0}


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({"label": ["keep"]}, ["a", "2", "3"]),
        ({"label!": ["keep"]}, ["a", "1"]),
        ({"label": ["keep=yes"]}, ["a", "2", "3"]),
        ({"label": ["keep=no"]}, ["a", "1", "2", "3"]),
        ({"until": ["24h"]}, ["a", "3"]),
        ({"until": ["2001-01-01"]}, ["a", "1", "2", "3"]),
    ],
)
async def test_filters(pruned, filters, left):
    images = [
        image("1", labels={"keep": "yes"}),
        image("2"),
        image("3", created=4_000_000_000 * 10**9),
    ]
    assert (await pruned(images, json.dumps(filters)))[1] == left


@pytest.mark.parametrize(
    ("filters", "text"),
    [
        ({"name": ["x"]}, "invalid filter 'name'"),
        ({"until": ["1h", "2h"]}, "more than one until filter specified"),
        ({"until": ["soon"]}, 'failed to parse value as time or duration: "soon"'),
        ({"dangling": ["maybe"]}, "invalid filter 'dangling=[maybe]'"),
    ],
)
async def test_wrong_filters(pruned, filters, text):
    answer, left, _ = await pruned([image("1")], json.dumps(filters))
    assert (answer.status, left) == (400, ["a", "1"])
    assert answer.message.startswith(text)


async def test_there_is_no_build_cache(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        answer = await client.request("POST", '/build/prune?filters={"until":["1h"],"label":["a"]}')
        assert (answer.status, answer.json) == (200, {"CachesDeleted": None, "SpaceReclaimed": 0})
        assert (await client.request("POST", '/build/prune?filters={"x":["1"]}')).status == 400
