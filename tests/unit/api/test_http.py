"""The HTTP layer, with clients that behave badly, on both backends over a real unix socket."""

import contextlib
import errno
import random
import socket
from typing import ClassVar

import anyio
import pytest
import structlog

from supervisor.api import http, messages, server
from tests.unit.api.fakes import serving
from tests.unit.api.test_containers import add

pytestmark = pytest.mark.anyio

PING = b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"


async def alive(connect):
    async with connect() as other:
        assert (await other.request("GET", "/_ping")).status == 200


async def test_ping_answers_with_what_clients_negotiate_by(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        answer = await client.request("GET", "/_ping")
        assert answer.body == b"OK"
        assert answer.headers["api-version"] == "1.50"
        assert answer.headers["ostype"] == "linux"
        assert answer.headers["docker-experimental"] == "false"
        assert answer.headers["builder-version"] == "1"
        assert answer.headers["swarm"] == "inactive"
        assert answer.headers["server"].startswith("Docker/")
        assert answer.headers["server"].endswith(" (linux)")
        assert answer.headers["cache-control"] == "no-cache, no-store, must-revalidate"
        head = await client.request("HEAD", "/_ping")
        assert (head.status, head.body) == (200, b"")


async def test_pipelined_requests_are_answered_in_order(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        await client.send(PING * 2 + b"GET /version HTTP/1.1\r\nHost: d\r\n"
                          b"Connection: close\r\n\r\n")  # fmt: skip
        answered = await client.everything()
        assert answered.count(b"HTTP/1.1 200 OK") == 3
        assert answered.count(b"\r\n\r\nOK") == 2
        assert answered.index(b"\r\n\r\nOK") < answered.index(b"ApiVersion")


async def test_a_request_may_come_byte_by_byte(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        for at in range(len(PING)):
            await client.send(PING[at : at + 1])
        assert (await client.receive()).startswith(b"HTTP/1.1 200")


async def test_what_is_no_request_of_a_head_is_answered_without_a_body(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        await client.send(b"HEAD /_ping HTTP/0.0\r\nHost: d\r\n\r\n")
        head, _, body = (await client.everything()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 505 ")
        assert body == b""


@pytest.mark.parametrize(
    ("garbage", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS\r\n\r\n", 400),
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /_ping HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /_ping HTTP/9.9\r\nHost: d\r\n\r\n", 505),
        (b"GET /_ping HTTP/1.1\r\nHost: d\r\nContent-Length: -5\r\n\r\n", 400),
        (b"GET /_ping HTTP/1.1\r\nHost: d\r\nbad header\r\n\r\n", 400),
        (b"GET /_ping HTTP/1.1\r\nHost: d\r\nX: " + b"a" * 300_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 300_000, 431),
    ],
)
async def test_garbage_is_answered_and_closed(engine_and_client, garbage, status):
    async with engine_and_client() as (_, connect):
        async with connect() as client:
            await client.send(garbage)
            answer = await client.everything()
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            assert b"Content-Type: application/json\r\n" in answer
            assert b'{"message": "bad request: ' in answer
            assert b"bytearray" not in answer
            assert b"Connection: close" in answer
        await alive(connect)


async def test_a_client_that_sends_nothing_is_let_go(engine_and_client, monkeypatch):
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.05)
    async with engine_and_client() as (_, connect), connect() as client:
        assert await client.everything() == b""


async def test_a_client_that_stops_within_a_head_is_let_go(engine_and_client, monkeypatch):
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.05)
    async with engine_and_client() as (_, connect), connect() as client:
        assert (await client.request("GET", "/_ping")).status == 200
        await client.send(b"GET /_pi")
        assert await client.everything() == b""


async def test_a_client_may_rest_between_two_requests(engine_and_client, monkeypatch):
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.02)
    async with engine_and_client() as (_, connect), connect() as client:
        assert (await client.request("GET", "/_ping")).status == 200
        await anyio.sleep(0.1)
        assert (await client.request("GET", "/_ping")).status == 200


async def test_a_client_that_stops_within_its_body_is_told_so(engine_and_client, monkeypatch):
    monkeypatch.setattr(messages, "BODY_SECONDS", 0.05)
    monkeypatch.setattr(http, "LINGER_SECONDS", 0.05)
    async with engine_and_client() as (_, connect), connect() as client:
        await client.send(
            b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        answer = await client.everything()
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"Connection: close" in answer


async def test_a_client_that_hangs_up_within_its_body_harms_nobody(engine_and_client):
    async with engine_and_client() as (engine, connect):
        async with connect() as client:
            await client.send(
                b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json"
                b"\r\nContent-Length: 100\r\n\r\n{"
            )
        await alive(connect)
        assert engine.calls == []


async def test_a_half_closed_client_gets_its_answer(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        await client.send(PING)
        client.half_close()
        answer = await client.everything()
        assert answer.startswith(b"HTTP/1.1 200")


async def test_too_large_a_body_is_refused_before_it_is_sent(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        await client.send(
            b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
            b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"
        )
        answer = await client.receive()
        assert answer.startswith(b"HTTP/1.1 413")


async def test_too_large_a_body_in_chunks_is_refused_while_it_is_sent(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        await client.send(
            b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        for _ in range(80):
            await client.send(chunk)
        answer = await client.receive()
        assert answer.startswith(b"HTTP/1.1 413")


async def test_a_client_that_waits_for_100_continue_is_told_to_go_on(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        await client.send(
            b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
            b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert (await client.receive()).startswith(b"HTTP/1.1 100")
        await client.send(b"{}")
        assert (await client.receive()).startswith(b"HTTP/1.1 400")


async def test_http_1_0_gets_an_answer_without_chunks(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        await client.send(b"GET /events?until=1 HTTP/1.0\r\n\r\n")
        answer = await client.everything()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"chunked" not in answer
        assert answer.endswith(b"\r\n\r\n")


async def test_an_unread_body_ends_the_connection_but_not_the_answer(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        await client.send(b"POST /nosuch HTTP/1.1\r\nHost: d\r\nContent-Length: 50000000\r\n\r\n")
        async with anyio.create_task_group() as group:
            group.start_soon(client.send, b"x" * 50_000_000)
            answer = await client.everything()
        assert answer.startswith(b"HTTP/1.1 404")
        assert b"Connection: close" in answer


async def test_a_small_unread_body_does_not_end_the_connection(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        assert (await client.request("POST", "/nosuch", {"a": 1})).status == 404
        assert (await client.request("GET", "/_ping")).status == 200


async def test_a_bug_is_a_500_and_the_connection_goes_on(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        engine.fails = RuntimeError("the flux capacitor is empty")
        await client.request("POST", "/containers/create?name=c1", {"Image": "host"})
        answer = await client.request("POST", "/containers/create?name=c1", {"Image": "host"})
        assert answer.status == 500
        assert answer.message == "internal error: RuntimeError: the flux capacitor is empty"
        assert (await client.request("GET", "/_ping")).status == 200


async def test_hundreds_of_clients_that_come_and_go_leave_nothing(engine_and_client):
    import os

    async with engine_and_client() as (_, connect):
        await alive(connect)
        before = len(os.listdir("/proc/self/fd"))

        async def come_and_go():
            async with connect() as client:
                await client.send(PING[:7])

        async with anyio.create_task_group() as group:
            for _ in range(200):
                group.start_soon(come_and_go)
        with anyio.fail_after(5):
            while len(os.listdir("/proc/self/fd")) > before:
                await alive(connect)


class HardListener(socket.socket):
    """A listening socket whose first accepts fail, as they do when descriptors run out."""

    failures: ClassVar = []

    def accept(self):
        if self.failures:
            raise OSError(self.failures.pop(0), "scripted")
        return super().accept()


@pytest.mark.parametrize(
    "numbers",
    [[errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM], [errno.ECONNABORTED, errno.EPERM]],
)
async def test_accepting_goes_on_when_the_machine_is_short(tmp_path, monkeypatch, numbers):
    monkeypatch.setattr(server, "PAUSE_SECONDS", 0.01)
    listener = HardListener(socket.AF_UNIX)
    listener.failures = list(numbers)
    async with serving(tmp_path, listener) as (_, connect):
        await alive(connect)
        assert listener.failures == []


async def test_clients_beyond_the_limit_wait_for_their_turn(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "most_connections", lambda: 2)
    async with serving(tmp_path) as (_, connect), connect() as first, connect() as second:
        for client in (first, second):
            assert (await client.request("GET", "/_ping")).status == 200
        async with connect() as third:
            await third.begin("GET", "/_ping")
            assert (await first.request("GET", "/_ping")).status == 200
            await second.hang_up()
            assert (await third.answer()).status == 200


async def test_a_flood_of_connections_lets_others_be_served(engine_and_client):
    async with (
        engine_and_client() as (_, connect),
        connect() as client,
        anyio.create_task_group() as group,
    ):
        for _ in range(100):
            group.start_soon(alive, connect)
        for _ in range(10):
            assert (await client.request("GET", "/_ping")).status == 200


async def test_the_shutdown_of_waiting_clients_is_no_failure(engine_and_client):
    with structlog.testing.capture_logs() as logged:
        async with engine_and_client() as (engine, connect):
            add(engine, "c1")
            clients = [connect() for _ in range(5)]
            async with contextlib.AsyncExitStack() as stack:
                for client in clients:
                    await stack.enter_async_context(client)
                    await client.begin("POST", "/containers/c1/wait")
                    await client.head()
                engine.serving.cancel()
                with anyio.CancelScope(shield=True):
                    for client in clients:
                        assert await client.everything() == b""
    assert logged == []


@pytest.mark.parametrize("seed", range(4))
async def test_mutilated_requests_harm_nobody(engine_and_client, monkeypatch, seed):
    monkeypatch.setattr(http, "LINGER_SECONDS", 0.2)
    dice = random.Random(seed)
    good = [
        b"POST /v1.50/containers/create?name=a HTTP/1.1\r\nHost: d\r\nContent-Type: "
        b'application/json\r\nContent-Length: 16\r\n\r\n{"Image":"host"}',
        b"GET /v1.50/containers/json?all=1&filters=%7B%22name%22%3A%5B%22x%22%5D%7D HTTP/1.1\r\n"
        b"Host: d\r\nConnection: keep-alive\r\n\r\n",
        b"POST /v1.50/images/create?fromSrc=-&repo=x HTTP/1.1\r\nHost: d\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
        b"POST /containers/c1/attach?stdout=1 HTTP/1.1\r\nHost: d\r\nUpgrade: tcp\r\n"
        b"Connection: Upgrade\r\n\r\nstdin",
    ]
    async with engine_and_client() as (engine, connect):
        add(engine, "c1")
        for _ in range(60):
            data = bytearray(dice.choice(good))
            for _ in range(dice.randrange(1, 4)):
                at = dice.randrange(len(data))
                what = dice.randrange(3)
                if what == 0:
                    data[at] = dice.randrange(256)
                elif what == 1:
                    del data[at : at + dice.randrange(1, 9)]
                else:
                    data[at:at] = dice.choice([b"\r\n", b"\0", b"%", b"{", b"99", b": "])
            async with connect() as client:
                await client.send(bytes(data))
                client.half_close()
                with anyio.fail_after(10):
                    answer = await client.everything()
                assert not answer.startswith(b"HTTP/1.1 500"), (data, answer)
        await alive(connect)
