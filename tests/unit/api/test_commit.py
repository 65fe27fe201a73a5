"""POST /commit: what of a request, a container and its image becomes the new image's."""

import dataclasses
from types import SimpleNamespace

import anyio
import pytest

from supervisor.api.commit_config import inherited
from supervisor.container import HealthCheck
from supervisor.errors import BadParameter, Unsupported
from supervisor.mount_points import Mounts
from supervisor.registry import Registry
from tests.unit.api.fakes import HOST
from tests.unit.api.test_containers import add

pytestmark = pytest.mark.anyio


async def test_what_is_handed_on(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "bird", config={"env": ("A=1", "GONE")})
        path = "/v1.50/commit?container=bird&repo=nest:0&tag=1&author=me&comment=c%20d"
        answer = await client.request("POST", f"{path}&changes=ENV+B=2&changes=USER+x&pause=0")
        assert (answer.status, answer.json) == (201, {"Id": HOST.id})
        (_, name, asked), *_ = engine.calls
        assert (name, asked.name, asked.author, asked.comment) == ("bird", "nest:1", "me", "c d")
        assert not asked.pause
        assert asked.inherited == {"Cmd": ["top", "-b x"], "Env": ["A=1", "B=2"], "User": "x"}


@pytest.mark.parametrize(
    ("query", "pause"), [("", True), ("&pause=", True), ("&pause=1", True), ("&pause=false", False)]
)
@pytest.mark.parametrize("body", [None, b"null", b"{}"])
async def test_the_pause_and_an_empty_body(engine_and_client, query, pause, body):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "bird")
        answer = await client.request("POST", f"/commit?container=bird{query}", body)
        assert answer.status == 201
        assert engine.calls[0][2].pause == pause
        assert engine.calls[0][2].name == ""


@pytest.mark.parametrize(
    ("query", "body", "status", "words"),
    [
        ("", None, 400, 'invalid name or ID supplied: ""'),
        ("container=nosuch", None, 404, "No such container: nosuch"),
        ("container=bird&repo=Bad", None, 400, "must be lowercase"),
        ("container=bird&repo=a&tag=b%20c", None, 400, "invalid tag format"),
        ("container=bird&changes=FROM+x", None, 400, "FROM is not a valid change command"),
        ("container=bird&changes=USER+a+b", None, 400, "USER requires exactly one argument"),
        ("container=bird", b"[]", 400, "the body must be an object"),
        ("container=bird", {"Cmd": 3}, 400, "invalid request: "),
        ("container=bird", {"Env": ["A"]}, 400, "invalid environment variable: A"),
        ("container=bird", {"Healthcheck": {"Retries": "x"}}, 400, "invalid request: "),
        ("container=bird", {"Cmdline": ["x"]}, 501, "Config.Cmdline"),
    ],
)
async def test_refused(engine_and_client, query, body, status, words):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "bird")
        answer = await client.request("POST", f"/commit?{query}", body)
        assert (answer.status, words in answer.message) == (status, True), answer.body
        assert engine.calls == []


async def test_a_client_that_goes_away_ends_it(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "bird")
        begun, ended = anyio.Event(), anyio.Event()

        async def commit(container, asked):
            begun.set()
            try:
                await anyio.sleep_forever()
            finally:
                ended.set()

        engine.commit = commit
        await client.begin("POST", "/commit?container=bird")
        await begun.wait()
        await client.hang_up()
        with anyio.fail_after(5):
            await ended.wait()


@pytest.fixture
def bird():
    """A container with a value for everything."""
    config = {
        "entrypoint": ("/init",),
        "cmd": ("a", "b"),
        "env": ("A=1", "B=2", "GONE"),
        "labels": {"a": "1"},
        "user": "bird",
        "working_dir": "/w",
        "stop_signal": "SIGINT",
        "hostname": "h",
        "tty": True,
        "mounts": Mounts(volumes=("/data",)),
        "health": HealthCheck(("CMD", "true"), retries=2),
    }
    return add(SimpleNamespace(containers=Registry()), "bird", config=config)


def made(bird, changes=(), body=None, **config):
    """The new image's configuration; that of the container's image by its keys."""
    return inherited(bird, dataclasses.replace(HOST, config=config), body or {}, changes)


OWN = {
    "Entrypoint": ["/init"],
    "Cmd": ["a", "b"],
    "Env": ["A=1", "B=2"],
    "Labels": {"a": "1"},
    "User": "bird",
    "WorkingDir": "/w",
    "StopSignal": "SIGINT",
    "Volumes": {"/data": {}},
    "Healthcheck": {"Test": ["CMD", "true"], "Retries": 2},
}


def test_all_that_a_container_has(bird):
    assert made(bird) == OWN
    more = {"ExposedPorts": {"80/tcp": {}}, "Shell": ["/bin/bash", "-c"]}
    assert made(bird, **more, OnBuild=["RUN x"], Env=["C=3"]) == OWN | more


def test_changes(bird):
    assert made(bird, ["CMD x"])["Entrypoint"] == ["/init"]
    assert made(bird, ["CMD x"], Shell=["/s"])["Cmd"] == ["/s", "x"]
    changed = made(bird, ['ENTRYPOINT ["/new"]', "EXPOSE 1", "LABEL b=2", "ONBUILD RUN x"])
    assert changed["Entrypoint"] == ["/new"] and "Cmd" not in changed
    assert changed["ExposedPorts"] == {"1/tcp": {}}
    assert changed["Labels"] == {"a": "1", "b": "2"}
    assert changed["OnBuild"] == ["RUN x"]
    # As in Docker: what is emptied is filled from the container again, but for the entrypoint.
    emptied = made(bird, ["ENTRYPOINT []", "CMD []"])
    assert "Entrypoint" not in emptied and emptied["Cmd"] == ["a", "b"]
    check = made(bird, ["HEALTHCHECK --interval=3s CMD ok"])["Healthcheck"]
    assert check == {"Test": ["CMD-SHELL", "ok"], "Interval": 3 * 10**9, "Retries": 2}
    with pytest.raises(BadParameter, match="SIGNOSUCH"):
        made(bird, ["STOPSIGNAL SIGNOSUCH"])


def test_a_body_stands_in_for_the_container(bird):
    body = {"Cmd": "x y", "Env": ["A=9"], "Labels": {"a": "2"}, "Hostname": "other", "Tty": True}
    found = made(bird, ["ENV C=$A$B"], body)
    assert (found["Cmd"], found["Entrypoint"]) == (["x", "y"], ["/init"])
    assert found["Env"] == ["A=9", "C=9", "B=2"]
    assert found["Labels"] == {"a": "2"}
    found = made(bird, (), {"Entrypoint": "/e"})
    assert found["Entrypoint"] == ["/e"] and "Cmd" not in found
    with pytest.raises(Unsupported, match=r"Config\.Commands 'x'"):
        made(bird, (), {"Commands": "x"})
