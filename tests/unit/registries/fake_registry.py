"""A registry in the test's own event loop, over a real socket, that says what the test has it say.

A test gives it a function from a request to an answer. Unlike `tests/real/hostile_registry.py` it
takes uploads, speaks TLS where it is told to, and runs on both backends.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import anyio
import anyio.abc
import h11
from anyio.streams.tls import TLSListener

from runtime.images import references
from supervisor.config import Settings
from supervisor.registries.backoff import Backoff
from supervisor.registries.client import Registries
from supervisor.registries.configuration import RegistryOptions
from supervisor.registries.connections import Patience

QUICK = Backoff(first_s=0.001, most_s=0.002)


@dataclass(frozen=True)
class Asked:
    method: str
    target: str
    headers: dict
    body: bytes = b""

    @property
    def path(self):
        return urlsplit(self.target).path

    @property
    def query(self):
        return {key: values[0] for key, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def offset(self):
        return int(self.headers.get("range", "bytes=0-")[len("bytes=") :].rstrip("-"))


@dataclass(frozen=True)
class Told:
    """An answer, and how it is sent.

    Attributes:
        length: The announced one: True for the body's own, None for none (chunks), or a number.
        cut: The connection breaks behind so many bytes.
        stall: Nothing more comes behind so many bytes.
    """

    status: int = 200
    headers: dict = field(default_factory=dict)
    body: bytes = b""
    length: object = True
    cut: int | None = None
    stall: int | None = None


def digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def refused(status, code, message="", headers=None):
    errors = {"errors": [{"code": code, "message": message}]}
    return Told(status, headers or {}, json.dumps(errors).encode())


def part(asked, data):
    """What a good registry says to a range."""
    if not asked.offset:
        return Told(body=data)
    where = f"bytes {asked.offset}-{len(data) - 1}/{len(data)}"
    return Told(206, {"Content-Range": where}, data[asked.offset :])


class FakeRegistry:
    """One that runs.

    Attributes:
        asked: All requests so far.
        answer: From `Asked` to `Told`.
        left: Set once a client has closed a connection.
    """

    def __init__(self, answer):
        self.answer = answer
        self.asked = []
        self.address = ""
        self.left = anyio.Event()

    def paths(self):
        return [(one.method, one.target) for one in self.asked]

    async def serve(self, stream):
        async with stream:
            with contextlib.suppress(anyio.BrokenResourceError, anyio.EndOfStream):
                connection = h11.Connection(h11.SERVER)
                try:
                    while await self._one(stream, connection):
                        connection.start_next_cycle()
                except h11.RemoteProtocolError:
                    await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def _one(self, stream, connection):
        head, body = None, b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                try:
                    connection.receive_data(await stream.receive())
                except anyio.EndOfStream:
                    self.left.set()
                    return False
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        headers = {name.decode(): value.decode() for name, value in head.headers}
        asked = Asked(head.method.decode(), head.target.decode(), headers, body)
        self.asked.append(asked)
        return await self._tell(stream, connection, asked, self.answer(asked))

    async def _tell(self, stream, connection, asked, told):
        headers = list(told.headers.items())
        if told.length is True:
            headers.append(("Content-Length", str(len(told.body))))
        elif told.length is not None:
            headers.append(("Content-Length", str(told.length)))
        out = connection.send(h11.Response(status_code=told.status, headers=headers))
        end = told.cut if told.cut is not None else told.stall
        if asked.method != "HEAD":
            out += connection.send(h11.Data(told.body[:end]))
        await stream.send(out)
        if told.stall is not None:
            await anyio.sleep_forever()
        if told.cut is not None:
            return False
        try:
            await stream.send(connection.send(h11.EndOfMessage()))
        except h11.LocalProtocolError:
            return False  # the announced length was a lie
        return connection.our_state is h11.DONE


@contextlib.asynccontextmanager
async def serving(answer, tls=None):
    """A fake registry for as long as the block runs."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    fake = FakeRegistry(answer)
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    fake.address = f"127.0.0.1:{port}"
    if tls is not None:
        listener = TLSListener(listener, tls, standard_compatible=False)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, fake.serve)
        yield fake
        tasks.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def client(
    begin=None, *, certificates=Path("/nonexistent"), patience=None, backoff=QUICK, **options
):
    """A client of registries; `options` are those of the daemon."""
    settings = Settings(Path("/r"), Path("/d"), registries=RegistryOptions(**options))
    registries = Registries(
        settings,
        begin,
        patience=patience or Patience(30.0, 30.0),
        backoff=backoff,
        certificates=certificates,
    )
    try:
        yield registries
    finally:
        with anyio.CancelScope(shield=True):
            await registries.aclose()


@contextlib.asynccontextmanager
async def repository(answer, path="bird/nest", *, credentials=None, push=False, **more):
    """A fake registry, and one repository of it."""
    async with serving(answer) as fake, client(**more) as registries:
        name = references.parse(f"{fake.address}/{path}")
        yield fake, registries.repository(name, credentials, push=push)


async def read(repository, wanted, size, **more):
    """A blob, whole."""
    async with repository.blob(wanted, size, **more) as pieces:
        return b"".join([piece async for piece in pieces])
