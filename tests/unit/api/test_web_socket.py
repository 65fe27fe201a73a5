"""Attaching by WebSocket: handshakes, messages both ways, pings, closes, and broken frames."""

from __future__ import annotations

import contextlib
import os
import socket
from types import SimpleNamespace

import anyio
import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    Request,
    TextMessage,
)

from logs.drivers import Stream
from supervisor.states import State
from supervisor.stdin import Stdin
from tests.unit.api.test_containers import add
from tests.unit.api.test_streams import UPGRADE, hangup_is_seen, with_log

pytestmark = pytest.mark.anyio

PATH = "/v1.50/containers/c1/attach/ws?stream=1&stdin=1&stdout=1&stderr=1"
ASKING = {
    "Connection": "keep-alive, Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


class Speaker:
    """A client that speaks the protocol by wsproto."""

    def __init__(self, client, path, protocols=()):
        self.client = client
        self.protocol = WSConnection(ConnectionType.CLIENT)
        self._asking = Request(host="d", target=path, subprotocols=list(protocols))
        self._events = iter(())

    async def begin(self):
        await self.say(self._asking)
        accepted = await self.hear()
        assert isinstance(accepted, AcceptConnection), accepted
        return accepted

    async def say(self, *events):
        await self.client.send(b"".join(self.protocol.send(event) for event in events))

    async def hear(self):
        """The next event; None once the connection has ended."""
        while (event := next(self._events, None)) is None:
            data = await self.client.receive()
            if not data:
                return None
            self.protocol.receive_data(data)
            self._events = self.protocol.events()
        return event


@pytest.fixture
def speaking(engine_and_client):
    """A client that has attached, by default to what runs; gives (engine, container, speaker)."""

    @contextlib.asynccontextmanager
    async def begin(path=PATH, **config):
        async with engine_and_client() as (engine, connect), connect() as client:
            container = add(engine, "c1", State.RUNNING, config=config)
            speaker = Speaker(client, path)
            await speaker.begin()
            yield engine, container, speaker

    return begin


@pytest.fixture
def pipe():
    """An input that is read by nobody but the test."""
    reader, writer = os.pipe2(os.O_NONBLOCK)
    stdin = Stdin(writer, lambda: None)
    yield stdin, reader
    os.close(reader)


@contextlib.contextmanager
def typed_into(engine, container, pipe):
    """The container has begun to run with this input."""
    container.run = SimpleNamespace(stdin=pipe[0])
    engine.attachments[0].begun.set()
    yield
    pipe[0].close()


async def read(pipe):
    await anyio.wait_readable(pipe[1])
    return os.read(pipe[1], 1 << 20)


async def test_both_outputs_come_as_binary_messages_and_their_end_as_a_close(speaking):
    async with speaking() as (engine, _, one):
        (attachment,) = engine.attachments
        attachment.send.send_nowait((1, b"out\n"))
        assert await one.hear() == BytesMessage(b"out\n")
        attachment.send.send_nowait((2, b"\xff\0err"))
        assert await one.hear() == BytesMessage(b"\xff\0err")
        attachment.send.close()
        assert await one.hear() == CloseConnection(1000, "")
        assert await one.hear() is None
        assert engine.calls[-1] == ("detach", "c1")


async def test_a_protocol_that_a_client_names_is_chosen(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1")
        accepted = await Speaker(client, PATH, ["tty", "raw"]).begin()
        assert accepted.subprotocol == "tty"
        assert accepted.extensions == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Connection": None, "Upgrade": None}, "Connection: Upgrade"),
        ({"Upgrade": "tcp"}, "Upgrade: websocket"),
        ({"Sec-WebSocket-Key": None}, "Sec-WebSocket-Key"),
        ({"Sec-WebSocket-Version": None}, "Sec-WebSocket-Version"),
        ({"Sec-WebSocket-Version": "12"}, "Sec-WebSocket-Version"),
        ({"Host": "\xff..x"}, ""),
    ],
)
async def test_what_is_no_handshake(engine_and_client, change, words):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1")
        headers = {"Host": "d", **ASKING} | change
        lines = [f"{name}: {value}\r\n" for name, value in headers.items() if value is not None]
        await client.send(f"GET {PATH} HTTP/1.1\r\n{''.join(lines)}\r\n".encode("latin-1"))
        client.has_sent()
        answer = await client.answer()
        assert (answer.status, answer.headers["sec-websocket-version"]) == (400, "13")
        assert "no WebSocket handshake" in answer.message
        assert words in answer.message
        assert engine.attachments == []


@pytest.mark.parametrize(
    ("query", "state", "status", "words"),
    [
        ("stream=1", State.PAUSED, 409, "is paused"),
        ("stream=1&detachKeys=nosuch", State.RUNNING, 400, "invalid detach keys"),
    ],
)
async def test_refused_as_any_attachment(engine_and_client, query, state, status, words):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1", state)
        path = f"/containers/c1/attach/ws?{query}"
        answer = await client.request("GET", path, None, list(ASKING.items()))
        assert (answer.status, words in answer.message) == (status, True)


@pytest.mark.parametrize(
    ("version", "query", "streams"),
    [
        ("v1.41", "stream=1", (True, True)),  # the choice is no part of it yet
        ("v1.42", "stream=1&stderr=1", (False, True)),
        ("v1.50", "stream=1", (False, False)),
    ],
)
async def test_which_streams_are_shown(speaking, version, query, streams):
    async with speaking(f"/{version}/containers/c1/attach/ws?{query}") as (engine, _, _):
        assert engine.calls == [("attach", "c1", *streams)]


async def test_logs_alone_and_then_the_end(engine_and_client, tmp_path):
    async with engine_and_client() as (engine, connect), connect() as client:
        with_log(engine, tmp_path, (Stream.STDOUT, b"a\n"), (Stream.STDERR, b"b\n"), running=False)
        one = Speaker(client, "/containers/c1/attach/ws?logs=1&stdout=1&stderr=1")
        await one.begin()
        assert await one.hear() == BytesMessage(b"a\nb\n")
        assert await one.hear() == CloseConnection(1000, "")


async def test_output_that_was_lost_is_the_reason_of_the_close(speaking):
    async with speaking() as (engine, _, one):
        engine.attachments[0].lost = "output was lost: No space left on device"
        engine.attachments[0].send.close()
        assert (await one.hear()).data == b"output was lost: No space left on device"
        assert await one.hear() == CloseConnection(1011, "output was lost: No space left on device")


async def test_messages_of_any_kind_and_cut_are_the_input(speaking, pipe):
    async with speaking(open_stdin=True) as (engine, container, one):
        early = BytesMessage(b"early\n")
        await one.say(early)
        with typed_into(engine, container, pipe):
            assert await read(pipe) == b"early\n"
            await one.say(
                TextMessage("gr", message_finished=False),
                Ping(b"between"),
                TextMessage("ü\n"),
                BytesMessage(b""),
                BytesMessage(b"\xff\0"),
            )
            assert await one.hear() == Pong(b"between")
            got = b""
            while len(got) < 7:
                got += await read(pipe)
            assert got == "grü\n".encode() + b"\xff\0"


async def test_pings_are_answered_though_nobody_takes_the_input(speaking, pipe):
    """Before the start, while the payload reads nothing, and for who types into nothing."""
    async with speaking(open_stdin=True) as (engine, container, one):
        await one.say(BytesMessage(b"x" * 100_000), Ping(b"1"))
        assert await one.hear() == Pong(b"1")
        with typed_into(engine, container, pipe):
            await one.say(BytesMessage(b"x" * 100_000), Ping(b"2"))
            assert await one.hear() == Pong(b"2")
    async with speaking() as (_, _, one):
        await one.say(*[BytesMessage(b"to nobody")] * 100, Ping(b"3"))
        assert await one.hear() == Pong(b"3")


async def test_a_close_of_the_clients_leaves_and_its_last_words_arrive(speaking, pipe):
    async with speaking(open_stdin=True, stdin_once=True) as (engine, container, one):
        with typed_into(engine, container, pipe):
            await one.say(BytesMessage(b"last words"), CloseConnection(1001, "bye"))
            assert await one.hear() == CloseConnection(1001, "bye")
            assert await read(pipe) == b"last words"
            assert await one.hear() is None
            await hangup_is_seen(lambda: not engine.attachments[0].closed)
            assert await read(pipe) == b""
        actions = [event.action for event in engine.events.past()]
        assert actions[-1] == "detach"


async def test_who_shuts_its_side_down_has_typed_all_and_is_shown_the_rest(speaking, pipe):
    async with speaking(open_stdin=True, stdin_once=True) as (engine, container, one):
        with typed_into(engine, container, pipe):
            await one.say(BytesMessage(b"x"))
            one.client.half_close()
            assert await read(pipe) == b"x"
            assert await read(pipe) == b""
            engine.attachments[0].send.send_nowait((1, b"answer"))
            assert await one.hear() == BytesMessage(b"answer")
            engine.attachments[0].send.close()
            assert isinstance(await one.hear(), CloseConnection)


async def test_who_hangs_up_without_a_word_is_let_go(speaking):
    async with speaking() as (engine, _, one):
        await one.client.hang_up()
        await hangup_is_seen(lambda: not engine.attachments[0].closed)


async def test_who_leaves_while_it_is_shown_something_has_typed_all(engine_and_client, pipe):
    """Of an attachment without messages: its end is found by whoever sends, not by the watch."""
    async with engine_and_client() as (engine, connect), connect() as client:
        config = {"open_stdin": True, "stdin_once": True}
        container = add(engine, "c1", State.RUNNING, config=config)
        path = "/containers/c1/attach?stream=1&stdin=1&stdout=1"
        await client.begin("POST", path, None, UPGRADE)
        await client.receive()
        with typed_into(engine, container, pipe), anyio.fail_after(20):
            await anyio.wait_all_tasks_blocked()
            client.half_close(socket.SHUT_RDWR)
            engine.attachments[0].send.send_nowait((1, b"said meanwhile"))
            assert await read(pipe) == b""


async def test_detach_keys_close(speaking, pipe):
    path = f"{PATH}&detachKeys=ctrl-a,d"
    async with speaking(path, open_stdin=True, tty=True) as (engine, container, one):
        with typed_into(engine, container, pipe):
            await one.say(BytesMessage(b"ls\x01"), BytesMessage(b"dnever"))
            assert await one.hear() == CloseConnection(1000, "")
            assert await read(pipe) == b"ls"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x82\x01x", 1002),  # not masked
        (b"\xf2\x81\0\0\0\0x", 1002),  # reserved bits
        (b"\x83\x81\0\0\0\0x", 1002),  # no such opcode
        (b"\x80\x81\0\0\0\0x", 1002),  # goes on with nothing
        (b"\x81\x81\0\0\0\0\xff", 1007),  # text that is none
        (b"\x89\xfe\x01\0\0\0\0\0" + b"x" * 256, 1002),  # a ping beyond 125 bytes
    ],
)
async def test_broken_frames_close_with_their_code(speaking, data, code):
    async with speaking() as (engine, _, one):
        await one.client.send(data)
        closed = await one.hear()
        assert (type(closed), closed.code) == (CloseConnection, code)
        assert await one.hear() is None
        await hangup_is_seen(lambda: not engine.attachments[0].closed)


async def test_a_close_within_a_message_that_its_client_does_not_read(speaking, pipe):
    """A frame must not begin in another: what can't be closed in words is just ended."""
    async with speaking(f"{PATH}&detachKeys=ctrl-a", open_stdin=True, tty=True) as (
        engine,
        container,
        one,
    ):
        with typed_into(engine, container, pipe):
            engine.attachments[0].send.send_nowait((1, b"x" * 4_000_000))
            await one.say(BytesMessage(b"\x01"))
            await hangup_is_seen(lambda: not engine.attachments[0].closed)
            heard = b""
            while event := await one.hear():
                assert isinstance(event, BytesMessage), event
                heard += event.data
            assert heard.strip(b"x") == b""
            assert len(heard) < 4_000_000
