"""The relay between TLS and the server: which end of what ends what, on both backends."""

import socket
import ssl
import subprocess

import anyio
import pytest

from supervisor.access import TlsFiles
from supervisor.api import server, tls
from supervisor.api.peers import Peer
from supervisor.api.sockets import ByteSocket
from supervisor.listening import CannotListen
from tests.certificates import Authority
from tests.unit.api.fakes import FakeEngine

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.files = made.engine(names="DNS:engine")
    made.ada = made.client("ada")
    return made


def files_of(place):
    return TlsFiles(*(str(place / name) for name in ("ca.pem", "cert.pem", "key.pem")))


class Client:
    """A client's side in memory: what it has to send and what it was sent are bytes."""

    def __init__(self, authority, connected):
        context = ssl.create_default_context(cafile=authority.certificate)
        context.load_cert_chain(authority.ada / "cert.pem", authority.ada / "key.pem")
        self.socket = ByteSocket(connected)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="engine")

    async def do(self, step):
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                await self.flush()
                data = await self.socket.receive()
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
            finally:
                await self.flush()

    async def flush(self):
        if data := self._out.read():
            await self.socket.send(data)

    async def send(self, data):
        while data:
            data = data[self.tls.write(data) :]
        await self.flush()

    async def receive(self):
        try:
            return await self.do(lambda: self.tls.read(65536))
        except ssl.SSLZeroReturnError:
            return b""

    async def end_sending(self):
        with pytest.raises(ssl.SSLWantReadError):  # the other side has not ended yet
            self.tls.unwrap()
        await self.flush()


class Relayed:
    """A client, the server's end, and the relay between them."""

    def __init__(self, authority):
        listener = socket.create_server(("127.0.0.1", 0))
        theirs = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        listener.close()
        self._stream = ByteSocket(accepted)
        context = tls.context(files_of(authority.files))
        self.channel = tls.Channel(self._stream, accepted, context)
        self.client = Client(authority, theirs)
        server, inner = socket.socketpair()
        self.server, self._inner = ByteSocket(server), ByteSocket(inner)
        self.over = anyio.Event()
        self.peer = None

    async def __aenter__(self):
        self._group = await anyio.create_task_group().__aenter__()
        self._group.start_soon(self._relay)
        await self.client.do(self.client.tls.do_handshake)
        return self

    async def _relay(self):
        self.peer = await self.channel.handshake(anyio.CapacityLimiter(1))
        await tls.relay(self.channel, self._inner)
        self._inner.close()
        self._stream.close()
        self.over.set()

    async def __aexit__(self, *error):
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(*error)
        for one in (self.client.socket, self._stream, self.server, self._inner):
            one.close()


async def test_both_directions_at_once_whoever_does_not_read(authority):
    """More than any buffer holds each way: neither waits for the other."""
    much = bytes(range(256)) * 40_000
    async with Relayed(authority) as relayed, anyio.create_task_group() as group:
        group.start_soon(relayed.server.send, much)
        with anyio.move_on_after(0.1):
            await relayed.client.send(much[:1000])
        got = b""
        while len(got) < 1000:
            got += await relayed.server.receive()
        assert got == much[:1000]  # though the client has read nothing yet
        group.start_soon(relayed.client.send, much)
        got = {"server": b"", "client": b""}

        async def take(name, receive):
            while len(got[name]) < len(much):
                got[name] += await receive()

        with anyio.fail_after(30):
            async with anyio.create_task_group() as takers:
                takers.start_soon(take, "server", relayed.server.receive)
                takers.start_soon(take, "client", relayed.client.receive)
        assert got == {"server": much, "client": much}


async def test_the_end_of_input_ends_that_direction_alone(authority):
    async with Relayed(authority) as relayed:
        await relayed.client.send(b"last words")
        await relayed.client.end_sending()
        assert await relayed.server.receive() == b"last words"
        assert await relayed.server.receive() == b""
        assert relayed.peer == Peer(subject="ada", address=relayed.channel.address)
        await relayed.server.send(b"an answer")
        assert await relayed.client.receive() == b"an answer"
        await relayed.server.send(b"and another")
        assert await relayed.client.receive() == b"and another"
        assert not relayed.over.is_set()


@pytest.mark.parametrize("politely", [True, False])
async def test_a_client_that_closes_has_gone(authority, politely):
    async with Relayed(authority) as relayed:
        await relayed.client.send(b"last words")
        if politely:
            await relayed.client.end_sending()
        relayed.client.socket.close()
        with anyio.fail_after(10):
            await relayed.over.wait()
            assert await relayed.server.receive() == b"last words"
            assert await relayed.server.receive() == b""


async def test_what_the_server_says_last_arrives_before_its_end(authority):
    async with Relayed(authority) as relayed:
        await relayed.server.send(b"x" * 100_000)
        relayed.server.close()
        got = b""
        with anyio.fail_after(10):
            while piece := await relayed.client.receive():
                got += piece
        assert got == b"x" * 100_000
        relayed.client.socket.close()
        with anyio.fail_after(10):
            await relayed.over.wait()


async def test_garbage_within_ends_the_connection(authority):
    async with Relayed(authority) as relayed:
        await relayed.client.send(b"good")
        assert await relayed.server.receive() == b"good"
        await relayed.client.socket.send(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        with anyio.fail_after(10):
            await relayed.over.wait()


async def test_of_too_many_handshakes_the_oldest_goes(authority, monkeypatch, tmp_path):
    monkeypatch.setattr(server, "MOST_HANDSHAKES", 4)
    monkeypatch.setattr(server, "PATIENCE_SECONDS", 0.05)
    engine = FakeEngine(tmp_path)
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    context = tls.context(files_of(authority.files))
    async with anyio.create_task_group() as group:
        engine.tasks = group
        await group.start(server.serve, engine, [listener], context)
        silent = [socket.create_connection(listener.getsockname()) for _ in range(20)]
        client = Client(authority, socket.create_connection(listener.getsockname()))
        with anyio.fail_after(server.PATIENCE_SECONDS + tls.HANDSHAKE_SECONDS / 2):
            await client.do(client.tls.do_handshake)
            await client.send(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
            assert (await client.receive()).startswith(b"HTTP/1.1 200")
        client.socket.close()
        for one in silent:
            one.close()
        group.cancel_scope.cancel()
    listener.close()


async def test_one_certificates_crowd_is_told(authority, monkeypatch, tmp_path):
    monkeypatch.setattr(server, "most_connections", lambda: 4)
    engine = FakeEngine(tmp_path)
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    context = tls.context(files_of(authority.files))
    async with anyio.create_task_group() as group:
        engine.tasks = group
        await group.start(server.serve, engine, [listener], context)
        clients = []
        for expected in (b"HTTP/1.1 200", b"HTTP/1.1 200", b"HTTP/1.1 503"):
            client = Client(authority, socket.create_connection(listener.getsockname()))
            clients.append(client)
            with anyio.fail_after(10):
                await client.do(client.tls.do_handshake)
                if expected.endswith(b"200"):
                    await client.send(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
                answer = await client.receive()
            assert answer.startswith(expected)
        assert b"certificate ada has 2 connections open" in answer
        for client in clients:
            client.socket.close()
        group.cancel_scope.cancel()
    listener.close()


@pytest.mark.parametrize(
    ("name", "words"),
    [("ca.pem", "--tlscacert"), ("cert.pem", "--tlscert"), ("key.pem", "--tlskey")],
)
@pytest.mark.parametrize("damage", ["missing", "no certificate", ""])
def test_files_that_cant_be_used_are_told_by_their_options(
    authority, tmp_path, name, words, damage
):
    for file in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / file).write_bytes((authority.files / file).read_bytes())
    if damage == "missing":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(damage)
    with pytest.raises(CannotListen, match=f"cannot use .*{words}"):
        tls.context(files_of(tmp_path))


def test_a_key_with_a_password_is_refused_and_not_asked_for(authority, tmp_path):
    words = ("openssl", "ec", "-aes256", "-passout", "pass:x", "-in", authority.files / "key.pem")
    subprocess.run([*words, "-out", tmp_path / "key.pem"], check=True, capture_output=True)
    files = files_of(authority.files)
    locked = TlsFiles(files.authority, files.certificate, str(tmp_path / "key.pem"))
    with pytest.raises(CannotListen, match="the key has a password"):
        tls.context(locked)
