"""GET /images/json and /images/{name}/json beyond their plain cases."""

import dataclasses
from urllib.parse import quote

import pytest

from runtime.images.model import Image
from supervisor.api import views
from tests.unit.api.fakes import HOST
from tests.unit.api.test_containers import add, quoted

pytestmark = pytest.mark.anyio

DIGEST = "sha256:" + "d" * 64
NOW = 1_700_000_000


def image(letter, *tags, age=0, layers=(), **more):
    return Image(
        id="sha256:" + letter * 64,
        tags=tags,
        created_ns=(NOW - age) * 10**9,
        size=sum(range(10, 10 * len(layers) + 1, 10)),
        config=more.pop("config", {}),
        architecture="amd64",
        os="linux",
        diff_ids=tuple(layers),
        **more,
    )


def letters(answer):
    return "".join(one["Id"][7] for one in answer.json)


FAMILY = [
    image("1", "base:1", age=4),
    image("2", age=3, parent="sha256:" + "1" * 64),
    image("3", age=2, parent="sha256:" + "2" * 64),
    image("4", age=1, digests=(f"reg.example:5000/a/b@{DIGEST}",), parent="sha256:" + "3" * 64),
    image("5", "reg.example:5000/a/b:2", "top:1", digests=(f"reg.example:5000/a/b@{DIGEST}",),
          config={"Labels": {"a": "1"}}, parent="sha256:" + "4" * 64, tagged_ns=NOW * 10**9),
    image("6", age=9),
]  # fmt: skip


@pytest.fixture
def family(engine_and_client, monkeypatch):
    async def ask(path):
        async with engine_and_client() as (engine, connect), connect() as client:
            monkeypatch.setattr(views, "now", lambda: NOW * 10**9)
            engine.images.known = sorted(FAMILY, key=lambda one: -one.created_ns)
            add(engine, "c1")
            return await client.request("GET", path)

    return ask


async def test_intermediate_images_are_shown_by_all_alone(family):
    assert letters(await family("/images/json")) == "5416"
    assert letters(await family("/images/json?all=1")) == "543216"


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"dangling": ["true"]}, "46"), ({"dangling": ["false"]}, "541"),
        ({"before": ["base:1"]}, "6"), ({"since": ["base:1"]}, "54"),
        ({"before": ["top:1"], "since": ["base:1"]}, "4"),
        ({"until": ["3s"]}, "16"), ({"label": ["a=1"]}, "5"),
        ({"reference": ["top"]}, "5"), ({"reference": ["top:*", "base"]}, "51"),
        ({"reference": ["*"]}, "51"), ({"reference": ["*/*"]}, ""),
        ({"reference": ["*/a/b"]}, "54"), ({"reference": ["reg.example:5000/*/b:[0-9]"]}, "5"),
        ({"reference": [f"*/*/b@{DIGEST}"]}, "54"), ({"reference": ["docker.io/library/top"]}, ""),
    ],
)  # fmt: skip
async def test_filters(family, filters, found):
    assert letters(await family(f"/images/json?filters={quoted(filters)}")) == found


async def test_a_pattern_leaves_the_other_names_out(family):
    (line,) = (await family(f"/images/json?filters={quoted({'reference': ['top']})}")).json
    assert (line["RepoTags"], line["RepoDigests"]) == (["top:1"], [])


@pytest.mark.parametrize(
    ("filters", "status", "text"),
    [
        ({"nosuch": ["a"]}, 400, "invalid filter 'nosuch'"),
        ({"reference": ["[a"]}, 400, "syntax error in pattern"),
        ({"before": ["nosuch"]}, 404, "No such image: nosuch:latest"),
        ({"until": ["soon"]}, 400, "failed to parse value as time"),
    ],
)
async def test_filters_that_can_not_be(family, filters, status, text):
    answer = await family(f"/images/json?filters={quoted(filters)}")
    assert (answer.status, answer.message[: len(text)]) == (status, text)


async def test_names_in_the_older_way(family):
    lines = {one["Id"][7]: one for one in (await family("/v1.42/images/json")).json}
    assert (lines["6"]["RepoTags"], lines["6"]["RepoDigests"]) == (
        ["<none>:<none>"], ["<none>@<none>"],
    )  # fmt: skip
    assert (lines["4"]["RepoTags"], len(lines["4"]["RepoDigests"])) == ([], 1)
    lines = {one["Id"][7]: one for one in (await family("/v1.43/images/json")).json}
    assert lines["6"]["RepoTags"] == lines["6"]["RepoDigests"] == []


async def test_what_is_shared(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        engine.images.known = [image("1", layers=["a", "b"]), image("2", layers=["a", "c"])]
        lines = (await client.request("GET", "/images/json")).json
        assert [line["SharedSize"] for line in lines] == [-1, -1]
        lines = (await client.request("GET", "/images/json?shared-size=1")).json
        assert [(line["SharedSize"], line["Size"]) for line in lines] == [(10, 30), (10, 30)]
        told = (await client.request("GET", "/system/df")).json
        assert told["LayersSize"] == 10 + (20 + 10) * 2
        assert told["LayersReclaimable"] == told["LayersSize"]
        assert [(one["SharedSize"], one["Size"]) for one in told["Images"]] == [(10, 40)] * 2


async def test_the_platforms(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        pulled = image("1", "x:1", layers=["a", "b"], manifest=DIGEST)
        engine.images.known = [HOST, pulled, image("2", "y:1", layers=["a"])]
        container = add(engine, "c1")
        lines = (await client.request("GET", "/images/json?manifests=1")).json
        host, first, second = (line["Manifests"][0] for line in lines)
        assert host["ImageData"]["Containers"] == [container.id]
        assert host["Size"] == {"Content": 0, "Total": 1234}
        assert first["ID"] == first["Descriptor"]["digest"] == DIGEST
        assert first["Size"] == {"Content": 10 + 2 + 19, "Total": 30 + 10 + 2 + 19}
        assert first["ImageData"]["Platform"] == {"architecture": "amd64", "os": "linux"}
        assert first["ImageData"]["Size"] == {"Unpacked": 30}
        assert second["ID"] == "sha256:" + "2" * 64  # it has no manifest yet
        shown = (await client.request("GET", "/images/x:1/json?manifests=1")).json
        assert shown["Manifests"] == [first]
        assert "Manifests" not in (await client.request("GET", "/images/x:1/json")).json


async def test_older_versions_have_more_fields(family):
    (line, *_) = (await family("/v1.43/images/json")).json
    assert line["VirtualSize"] == line["Size"]
    (line, *_) = (await family("/v1.44/images/json")).json
    assert "VirtualSize" not in line
    (line, *_) = (await family("/v1.41/system/df?type=image")).json["Images"]
    assert line["VirtualSize"] == line["Size"]
    older = (await family("/v1.49/images/top:1/json")).json["Config"]
    assert (older["User"], older["Entrypoint"], older["Tty"]) == ("", None, False)
    assert older["Labels"] == {"a": "1"}
    newer = (await family("/v1.50/images/top:1/json")).json["Config"]
    assert newer == {
        **dict.fromkeys(("Cmd", "Entrypoint", "Env", "OnBuild", "Volumes")),
        **dict.fromkeys(("User", "WorkingDir"), ""),
        "Labels": {"a": "1"},
    }


async def test_inspect_tells_all_names(family):
    shown = (await family("/images/top:1/json")).json
    assert shown["RepoTags"] == ["reg.example:5000/a/b:2", "top:1"]
    assert shown["RepoDigests"] == [f"reg.example:5000/a/b@{DIGEST}"]
    assert shown["Metadata"] == {"LastTagTime": "2023-11-14T22:13:20Z"}
    assert shown["GraphDriver"]["Data"] == {
        "UpperDir": "/layers/top", "LowerDir": "/layers/bottom",
    }  # fmt: skip
    assert (await family("/images/base:1/json")).json["Metadata"] == {
        "LastTagTime": "0001-01-01T00:00:00Z"
    }


@pytest.mark.parametrize("path", ["json", "history"])
async def test_an_image_for_another_platform(engine_and_client, path):
    async with engine_and_client() as (engine, connect), connect() as client:
        engine.images.known = [dataclasses.replace(image("1", "x:1", layers=["a"]), variant="")]
        for platform in ('{"os":"linux","architecture":"amd64"}', "linux/amd64"):
            answer = await client.request("GET", f"/images/x:1/{path}?platform={quote(platform)}")
            assert answer.status == 200
        wanted = quote('{"os":"linux","architecture":"arm64","variant":"v8"}')
        answer = await client.request("GET", f"/images/x:1/{path}?platform={wanted}")
        assert (answer.status, answer.message) == (
            404,
            "image x:1 was found but does not provide the specified platform (linux/arm64): "
            "it is for linux/amd64",
        )
        answer = await client.request("GET", f"/images/x:1/{path}?platform=%7B")
        assert answer.status == 400
