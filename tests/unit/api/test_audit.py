"""The log of changes: one line for each, with who it was, and nobody's secrets."""

import os
import socket

import pytest
import structlog

from supervisor.api import peers
from supervisor.api.peers import Peer, shown

pytestmark = pytest.mark.anyio

SECRET = "hunter2"


def of(logs):
    return [line for line in logs if line["event"] == "api.change"]


async def test_each_change_is_one_line(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        with structlog.testing.capture_logs() as logs:
            body = {"Image": "host", "Cmd": ["true"]}
            created = await client.request("POST", "/v1.44/containers/create?name=bird", body)
            assert created.status == 201
            await client.request("GET", "/containers/json?all=1")
            await client.request("HEAD", "/_ping")
            await client.request("POST", "/containers/nobody/stop")
            await client.request("DELETE", "/containers/bird")
            await client.request("DELETE", "/images/team/wait")
            await client.request("PATCH", "/nowhere")
        own = {"pid": os.getpid(), "uid": os.geteuid(), "gid": os.getegid()}
        told = [{key: line[key] for key in own} for line in of(logs)]
        assert told == [own] * 5
        assert len({line["comm"] for line in of(logs)} - {""}) == 1
        assert [(one["method"], one["path"], one["status"]) for one in of(logs)] == [
            ("POST", "/v1.44/containers/create", 201),
            ("POST", "/containers/nobody/stop", 404),
            ("DELETE", "/containers/bird", 204),
            ("DELETE", "/images/team/wait", 404),
            ("PATCH", "/nowhere", 404),
        ]
        assert of(logs)[0]["name"] == "bird"


async def test_no_secret_is_in_it(engine_and_client):
    headers = [("X-Registry-Auth", SECRET), ("X-Registry-Config", SECRET), ("Cookie", SECRET)]
    body = {
        "Image": "host",
        "Cmd": ["true"],
        "Env": [f"PASSWORD={SECRET}"],
        "Labels": {"a": SECRET},
    }
    async with engine_and_client() as (_, connect):
        with structlog.testing.capture_logs() as logs:
            for method, path, sent in (
                ("POST", f"/containers/create?platform=&password={SECRET}", body),
                ("POST", f"/build?buildargs=%7B%22A%22%3A%22{SECRET}%22%7D&remote={SECRET}", b""),
                ("POST", f"/images/create?fromImage=https://a:{SECRET}@box/x", b""),
                ("POST", "/auth", {"username": "a", "password": SECRET, "serveraddress": "!"}),
            ):
                async with connect() as client:
                    await client.request(method, path, sent, headers)
    assert len(of(logs)) == 4
    assert SECRET not in str(of(logs))


async def test_a_hijack_is_written_down_when_it_begins(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client, connect() as attached:
        await client.request(
            "POST", "/containers/create?name=bird", {"Image": "host", "Cmd": ["true"]}
        )
        with structlog.testing.capture_logs() as logs:
            await attached.send(
                b"POST /containers/bird/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\n"
                b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
            )
            assert (await attached.receive()).startswith(b"HTTP/1.1 101")
            (line,) = of(logs)
        assert (line["path"], line["status"]) == ("/containers/bird/attach", 101)


async def test_nobody_writes_lines_of_his_own(engine_and_client, monkeypatch):
    monkeypatch.setattr(peers, "_comm", lambda pid: shown("a\nb\x1b[2J"))
    async with engine_and_client() as (_, connect), connect() as client:
        with structlog.testing.capture_logs() as logs:
            long = "x" * 10_000
            await client.request("DELETE", f'/containers/a%0A%7B"event"%1B[31m%C2%9B{long}')
            await client.request("POST", "/containers/create?name=a%0Ab", {"Image": "host"})
        first, second = of(logs)
        assert first["path"].startswith('/containers/a\\n{"event"\\x1b[31m\\x9bxxx')
        assert len(first["path"]) < 300
        assert second["name"] == "a\\nb"
        assert second["comm"] == "a\\nb\\x1b[2J"


def test_who_is_at_the_other_end():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peers.of_unix(ours)
    assert peer == Peer(os.getpid(), os.geteuid(), os.getegid())
    assert peer.who == f"uid {os.geteuid()}"
    assert Peer(0, 2**32 - 2, 5).told()["comm"] == ""  # from outside of our pid namespace
    eve = Peer(subject="eve\n", address="10.1.2.3:4")
    assert eve.told() == {"subject": "eve\\n", "address": "10.1.2.3:4"}
    assert not eve.is_root
