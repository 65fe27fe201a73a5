"""What an image was made of, step by step."""

from dataclasses import replace

import pytest

from tests.unit.api.fakes import HOST

pytestmark = pytest.mark.anyio

BASE = replace(
    HOST,
    id="sha256:" + "b" * 64,
    tags=("base:1", "base:2"),
    diff_ids=("sha256:1", "sha256:2"),
    built_in=False,
    history=(
        {"created": "2024-01-02T03:04:05.6Z", "created_by": "ADD one /"},
        {"created": "2024-01-02T03:04:06Z", "created_by": 'CMD ["sh"]', "empty_layer": True},
        {"created": "no time", "created_by": "ADD two /", "comment": "by hand"},
    ),
)
CHILD = replace(
    BASE,
    id="sha256:" + "c" * 64,
    tags=(),
    diff_ids=(*BASE.diff_ids, "sha256:3"),
    history=(*BASE.history, {"created_by": "sh"}),
    parent=BASE.id,
)


async def history(engine_and_client, image, name):
    async with engine_and_client() as (engine, connect), connect() as client:
        engine.images.known += image
        answer = await client.request("GET", f"/images/{name}/history")
        assert answer.status == 200, answer.message
        return answer.json


async def test_the_newest_step_comes_first_and_what_has_no_files_weighs_nothing(engine_and_client):
    told = await history(engine_and_client, [BASE], "base:1")
    assert [step["CreatedBy"] for step in told] == ["ADD two /", 'CMD ["sh"]', "ADD one /"]
    assert [step["Size"] for step in told] == [20, 0, 10]
    assert [step["Created"] for step in told] == [0, 1704164646, 1704164645]
    assert [step["Comment"] for step in told] == ["by hand", "", ""]
    assert [step["Id"] for step in told] == [BASE.id, "<missing>", "<missing>"]
    assert [step["Tags"] for step in told] == [["base:1", "base:2"], None, None]


async def test_steps_that_are_images_here_have_their_ids(engine_and_client):
    told = await history(engine_and_client, [BASE, CHILD], CHILD.id)
    assert [step["Id"][:8] for step in told] == ["sha256:c", "sha256:b", "<missing", "<missing"]
    assert [step["Tags"] for step in told] == [None, ["base:1", "base:2"], None, None]
    assert [step["Size"] for step in told] == [30, 20, 0, 10]


async def test_the_built_in_image(engine_and_client):
    (step,) = await history(engine_and_client, [], "host")
    assert (step["Id"], step["Size"], step["Tags"]) == (HOST.id, 1234, ["host:latest"])


async def test_an_image_that_is_not_there(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        answer = await client.request("GET", "/images/nosuch/history")
        assert (answer.status, answer.message) == (404, "No such image: nosuch:latest")
