"""The images resource and imports, with a scripted store."""

import json
from dataclasses import replace
from urllib.parse import quote

import anyio
import pytest

from supervisor.api import imports
from supervisor.states import State
from tests.unit.api.fakes import HOST
from tests.unit.api.test_containers import add, quoted
from tests.unit.api.test_streams import hangup_is_seen as gone
from tests.unit.supervisor.file_server import file_server

pytestmark = pytest.mark.anyio

IMPORT = "/v1.50/images/create?fromSrc=-&repo=box"


def chunked(*pieces):
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces)


def head(path, *lines):
    return f"POST {path} HTTP/1.1\r\nHost: d\r\n".encode() + b"".join(
        line + b"\r\n" for line in (*lines, b"")
    )


async def test_list_and_inspect(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1")
        (image,) = (await client.request("GET", "/images/json")).json
        assert image["Id"] == "sha256:" + "a" * 64
        assert image["RepoTags"] == ["host:latest"]
        assert (image["Size"], image["Containers"], image["Created"]) == (1234, 1, 1_700_000_000)
        shown = (await client.request("GET", "/v1.50/images/host/json")).json
        assert shown["Created"] == "2023-11-14T22:13:20Z"
        assert shown["Config"]["Cmd"] == ["/bin/sh"]
        assert shown["RootFS"] == {"Type": "layers", "Layers": []}
        assert "VirtualSize" not in shown
        # docker-compose 1.29, which asks in the newest version, can't do without.
        assert shown["ContainerConfig"] == shown["Config"]
        older = (await client.request("GET", "/v1.43/images/host/json")).json
        assert older["VirtualSize"] == 1234
        missing = await client.request("GET", "/images/nosuch/json")
        assert (missing.status, missing.message) == (404, "No such image: nosuch:latest")


async def test_an_image_of_a_container_tells_of_it_as_old_clients_ask(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        engine.images.known = [replace(HOST, container="c1", container_image="box:1")]
        shown = (await client.request("GET", "/images/host/json")).json
        assert shown["Container"] == "c1"
        assert shown["ContainerConfig"] == {**shown["Config"], "Image": "box:1"}


async def test_disk_usage_says_what_is_shared(engine_and_client):
    """Found by hand: with -1 there, docker calls the image in use reclaimable."""
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1")
        (image,) = (await client.request("GET", "/system/df?type=image")).json["Images"]
        assert (image["Size"], image["SharedSize"], image["Containers"]) == (1234, 0, 1)


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"dangling": ["true"]}, 0), ({"dangling": {"false": True}}, 1),
        ({"label": ["made-by=mdocker"]}, 1), ({"label": ["x"]}, 0),
        ({"reference": ["ho*"]}, 1), ({"reference": ["box"]}, 0),
        ({"before": ["host"]}, 0), ({"since": ["host"]}, 0),
    ],
)  # fmt: skip
async def test_image_filters(engine_and_client, filters, count):
    async with engine_and_client() as (_, connect), connect() as client:
        answer = await client.request("GET", f"/images/json?filters={quoted(filters)}")
        assert len(answer.json) == count


async def test_delete_tells_the_store_who_uses_the_image(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        running, ended = add(engine, "c1"), add(engine, "c2", State.EXITED)
        answer = await client.request("DELETE", "/images/host?force=1")
        assert answer.json == [{"Untagged": "host"}, {"Deleted": "sha256:" + "a" * 64}]
        reference, force, users = engine.images.deleted_with
        assert (reference, force) == ("host", True)
        assert [tuple(user) for user in users] == [(running.id, True), (ended.id, False)]


async def test_a_name_more(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        answer = await client.request("POST", "/images/host/tag?repo=docker.io%2Fmine&tag=1.0")
        assert (answer.status, answer.body) == (201, b"")
        assert engine.images.tagged_with == ("host", "mine:1.0")
        event = engine.events.past()[-1]
        assert (event.type, event.action, event.id) == ("image", "tag", "sha256:" + "a" * 64)
        assert event.attributes == {"made-by": "mdocker", "name": "mine:1.0"}
        answer = await client.request("POST", "/images/host/tag")
        assert (answer.status, answer.message[:17]) == (400, "a name is missing")


@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_an_import_streams_the_body_into_the_store(engine_and_client, framing):
    data = [b"tar" * 10_000] * 20
    async with engine_and_client() as (engine, connect), connect() as client:
        path = f"{IMPORT}&message=hello&changes=CMD+ls&changes=ENV+A%3Db"
        if framing == "chunked":
            await client.send(head(path, b"Transfer-Encoding: chunked"))
            for piece in data:
                await client.send(chunked(piece))
            await client.send(b"0\r\n\r\n")
        else:
            await client.send(head(path, b"Content-Length: 600000"))
            for piece in data:
                await client.send(piece)
        client.has_sent()
        answer = await client.answer()
        assert answer.status == 200
        assert [json.loads(line) for line in answer.body.splitlines()] == [
            {"status": "warning: device nodes are left out (2)"},
            {"status": "sha256:" + "b" * 64},
        ]
        (job,) = engine.images.jobs
        assert job.data == b"".join(data)
        assert job.asked == ("box", "hello", ["CMD ls", "ENV A=b"])
        assert (await client.request("GET", "/_ping")).status == 200


async def test_a_refused_archive_is_an_http_error(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        answer = await client.request("POST", IMPORT, b"BAD")
        assert (answer.status, answer.message) == (
            400,
            "the archive is truncated at entry bin/sh",
        )
        assert engine.images.jobs[0].finished


async def test_a_refusal_after_progress_is_the_last_line(engine_and_client, monkeypatch):
    monkeypatch.setattr(imports, "PROGRESS_EVERY", 1000)
    async with engine_and_client() as (_, connect), connect() as client:
        answer = await client.request("POST", IMPORT, b"BAD" + b"x" * 5000)
        lines = [json.loads(line) for line in answer.body.splitlines()]
        assert answer.status == 200
        assert lines[0]["status"] == "Importing"
        assert lines[0]["progressDetail"]["total"] == 5003
        text = "the archive is truncated at entry bin/sh"
        assert lines[-1] == {"errorDetail": {"message": text}, "error": text}


async def test_a_refusal_in_the_middle_reaches_a_client_that_still_sends(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        await client.send(head(IMPORT, b"Content-Length: 40000000"))
        async with anyio.create_task_group() as group:
            group.start_soon(client.send, b"BAD" + b"x" * 39_999_997)
            answer = await client.everything()
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"truncated at entry bin/sh" in answer


async def test_a_client_that_hangs_up_half_way_leaves_no_image(engine_and_client):
    async with engine_and_client() as (engine, connect):
        async with connect() as client:
            await client.send(head(IMPORT, b"Transfer-Encoding: chunked") + chunked(b"tar" * 9))
            await gone(lambda: not engine.images.jobs)
        await gone(lambda: not engine.images.jobs[0].aborted)
        assert len(engine.images.known) == 1


async def test_an_archive_from_a_url(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        with file_server() as server:
            server.answers["/y.tar"] = (200, {}, b"tar" * 9)
            source = quote(f"{server.url}/y.tar", safe="")
            answer = await client.request("POST", f"/images/create?fromSrc={source}&repo=box")
            said = [json.loads(line)["status"] for line in answer.body.splitlines()]
            (job,) = engine.images.jobs
            assert said[0] == f"Downloading from {server.url}/y.tar"
            assert (said[1], said[-1]) == ("Importing", "sha256:" + "b" * 64)
            assert job.data == b"tar" * 9
            # As in Docker a source without a scheme is a host's.
            source = quote(server.url.removeprefix("http://") + "/none", safe="")
            answer = await client.request("POST", f"/images/create?fromSrc={source}")
            assert answer.status == 404
            assert "with status 404 Not Found" in answer.message
            await engine.registries.aclose()


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("fromSrc=ftp%3A%2F%2Fx%2Fy.tar", 400, 'unsupported protocol scheme "ftp"'),
        ("fromSrc=http%3A%2F%2Fx&repo=A", 400, "invalid reference format: repository name"),
        ("fromSrc=-&changes=STOPSIGNAL+SIGFOO", 400, "Invalid signal: SIGFOO"),
        ("fromSrc=http%3A%2F%2Fx&changes=RUN+x", 400, "RUN is not a valid change command"),
        ("", 400, "nothing to create an image from"),
        ("fromSrc=-&platform=linux%2Fs390x", 400, "invalid platform 'linux/s390x'"),
    ],
)
async def test_images_that_can_not_be_created(engine_and_client, query, status, text):
    async with engine_and_client() as (engine, connect), connect() as client:
        answer = await client.request("POST", f"/images/create?{query}")
        assert (answer.status, answer.message[: len(text)]) == (status, text)
        assert engine.images.jobs == []
