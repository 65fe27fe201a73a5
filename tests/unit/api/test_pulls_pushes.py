"""What of a request for a pull or a push reaches the work, and what is refused before it."""

import base64
import json

import anyio
import pytest

from supervisor.api import pulls, pushes
from supervisor.registries.errors import ManifestUnknown

pytestmark = pytest.mark.anyio

SOMEBODY = {"username": "bird", "password": "nest"}


@pytest.fixture
def seen(monkeypatch):
    """What was to be done, each with what was asked."""
    seen = []

    def working(what):
        async def work(engine, asked, progress):
            seen.append((what, asked))
            await anyio.lowlevel.checkpoint()
            if asked.reference.path.endswith("/no"):
                raise ManifestUnknown(asked.reference.familiar)
            progress.say("done")

        return work

    monkeypatch.setattr(pulls, "pull_one", working("pull"))
    monkeypatch.setattr(pulls, "pull_all_tags", working("all tags"))
    monkeypatch.setattr(pushes, "push_it", working("push"))
    return seen


def auth(value):
    return [("X-Registry-Auth", base64.urlsafe_b64encode(json.dumps(value).encode()).decode())]


@pytest.mark.parametrize(
    ("query", "what", "name", "platform"),
    [
        ("fromImage=box&tag=1", "pull", "box:1", ""),
        ("fromImage=docker.io%2Flibrary%2Fbox&tag=latest", "pull", "box:latest", ""),
        ("fromImage=box:2", "pull", "box:2", ""),
        ("fromImage=box:2&tag=3", "pull", "box:3", ""),
        (f"fromImage=box&tag=sha256:{'a' * 64}", "pull", f"box@sha256:{'a' * 64}", ""),
        (f"fromImage=box@sha256:{'a' * 64}", "pull", f"box@sha256:{'a' * 64}", ""),
        ("fromImage=localhost:5000/box", "all tags", "localhost:5000/box", ""),
        ("fromImage=box&tag=1&platform=linux/arm64", "pull", "box:1", "linux/arm64"),
    ],
)
async def test_a_pull(engine_and_client, seen, query, what, name, platform):
    async with engine_and_client() as (_, connect), connect() as client:
        answer = await client.request("POST", f"/images/create?{query}", headers=auth(SOMEBODY))
        assert (answer.status, answer.body) == (200, b'{"status":"done"}\r\n')
        ((did, asked),) = seen
        assert (did, asked.reference.familiar, asked.platform) == (what, name, platform)
        assert (asked.credentials.username, asked.credentials.password) == ("bird", "nest")


@pytest.mark.parametrize(
    ("path", "name", "all_tags"),
    [
        ("reg.io/box/push?tag=1", "reg.io/box:1", False),
        ("reg.io/box:2/push", "reg.io/box:2", False),
        ("reg.io/box:2/push?tag=1", "reg.io/box:1", False),
        ("box/push", "box", True),
        ("a/b/c/push?tag=", "a/b/c", True),
    ],
)
async def test_a_push(engine_and_client, seen, path, name, all_tags):
    async with engine_and_client() as (_, connect), connect() as client:
        answer = await client.request("POST", f"/images/{path}", headers=auth({}))
        assert (answer.status, answer.body) == (200, b'{"status":"done"}\r\n')
        ((did, asked),) = seen
        assert (did, asked.reference.familiar, asked.all_tags) == ("push", name, all_tags)
        assert asked.credentials is None


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("create?fromImage=Box&tag=1", 400, "must be lowercase"),
        ("create?fromImage=box&tag=a%20b", 400, "invalid tag format"),
        ("create?fromImage=box%401.0", 400, "invalid reference format"),
        ("create?fromImage=box&tag=sha256:12", 400, "invalid reference format"),
        ("create?fromImage=box&platform=foobar", 400, '"foobar": unknown operating system'),
        ("create?fromImage=box&platform=a/b/c/d", 400, '"a/b/c/d": cannot parse platform'),
        ("create?fromImage=a/no&tag=1", 404, "manifest for a/no:1 not found"),
        ("Box/push", 400, "must be lowercase"),
        (f"box@sha256:{'a' * 64}/push", 400, "cannot push a digest reference"),
        ("box/push?tag=1&platform=linux", 501, "push it without naming one"),
        ("a/no/push?tag=1", 404, "manifest for a/no:1 not found"),
    ],
)
async def test_refused(engine_and_client, seen, path, status, words):
    async with engine_and_client() as (_, connect), connect() as client:
        answer = await client.request("POST", f"/images/{path}")
        assert (answer.status, words in answer.message) == (status, True), answer.body


@pytest.mark.parametrize("path", ["create?fromImage=box&tag=1", "box/push?tag=1"])
async def test_credentials_that_are_none(engine_and_client, seen, path):
    async with engine_and_client() as (_, connect), connect() as client:
        headers = [("X-Registry-Auth", "!")]
        answer = await client.request("POST", f"/images/{path}", headers=headers)
        assert (answer.status, "X-Registry-Auth" in answer.message) == (400, True)
        assert seen == []
