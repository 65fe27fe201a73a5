"""Sending a tar to the engine, and showing how far it is."""

from __future__ import annotations

import json
import os
import select
import socket
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO

import h11

from mdocker.client import Engine
from mdocker.connection import Connection, Reply
from mdocker.errors import EngineRefused, EngineUnreachable, UsageError
from mdocker.output import is_terminal, warn
from mdocker.paths import target

_PIECE = 1024 * 1024


def import_image(
    engine: Engine, source: str, name: str, message: str, changes: Sequence[str]
) -> str:
    """Send a tar, return the new image's id.

    Args:
        engine: Where to.
        source: A file's name, or - for standard input.
        name: NAME[:TAG], or empty.
        message: The image's comment.
        changes: Dockerfile instructions.

    Raises:
        UsageError: The file can't be read.
        EngineRefused: The engine refuses the tar; the text says why.
        EngineUnreachable: The engine went away.
    """
    path = target("/images/create", {"fromSrc": "-", "repo": name, "message": message or None})
    for change in changes:
        path += "&" + target("", {"changes": change}).removeprefix("?")
    with _opened(source) as (file, size):
        connection = engine.connection()
        try:
            connection.send("POST", path, headers=_HEADERS, chunked=True)
            answer = _exchange(connection, file, size, source)
        except OSError as error:
            raise EngineUnreachable(f"the engine went away: {error.strerror}") from error
        finally:
            connection.close()
    return _result(answer.check().body)


_HEADERS = [("Content-Type", "application/x-tar")]


@contextmanager
def _opened(source: str) -> Iterator[tuple[BinaryIO, int | None]]:
    if source == "-":
        if is_terminal(0):
            raise UsageError("standard input is a terminal: a tar must come from a file or pipe")
        yield sys.stdin.buffer, None
        return
    if "://" in source:
        raise UsageError(f"unable to import from {source}: download it first, then import the file")
    try:
        file = open(source, "rb")  # noqa: SIM115
    except OSError as error:
        raise UsageError(f"unable to read {source}: {error.strerror}") from error
    with file:
        status = os.fstat(file.fileno())
        yield file, status.st_size if stat.S_ISREG(status.st_mode) else None


def _exchange(connection: Connection, file: BinaryIO, size: int | None, source: str) -> Reply:
    """Send the body, read the answer, both at once: the engine reports progress meanwhile.

    It may also have said all that it has to say (a refusal) before it has read everything; then
    the rest is not sent.
    """
    sock = connection.socket
    poller = select.poll()
    poller.register(sock, select.POLLIN | select.POLLOUT)
    answer = _Answer(connection)
    with _progress(size) as advance:
        pending: deque[memoryview] = deque()
        sending = True
        while not answer.over:
            if sending and not pending:
                piece = _read(file, source)
                pending.extend(_coded(connection, piece))
                advance(len(piece))
                sending = bool(piece)
            if not sending and not pending:
                answer.take()
                continue
            # A hung-up socket is readable, too: what the engine said last is still there.
            if any(event & ~select.POLLOUT for _, event in poller.poll()):
                answer.take()
                continue
            with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                sent = sock.send(pending[0], socket.MSG_DONTWAIT)
                pending[0] = pending[0][sent:]
                if not pending[0]:
                    pending.popleft()
    return answer.reply()


class _Answer:
    """The engine's answer, as far as it has come.

    Attributes:
        over: It is complete, or a refusal, so that the rest of the body does not matter.
    """

    def __init__(self, connection: Connection) -> None:
        self.over = False
        self._connection = connection
        self._response: h11.Response | None = None
        self._body = b""

    def take(self) -> None:
        """Wait for more of it."""
        protocol = self._connection.protocol
        protocol.receive_data(self._connection.socket.recv(65536))
        try:
            while (event := protocol.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Response):
                    self._response = event
                elif isinstance(event, h11.Data):
                    self._body += bytes(event.data)
                elif not isinstance(event, h11.InformationalResponse):
                    self.over = True
                    break
        except h11.RemoteProtocolError as error:
            raise EngineUnreachable(f"the engine went away during the import ({error})") from error
        # An error is the last line there is, whether or not the stream is ended after it.
        if b'"error"' in self._body and self._body.endswith(b"\n"):
            self.over = True

    def reply(self) -> Reply:
        """Return it."""
        if self._response is None:
            raise EngineUnreachable("the engine went away during the import; see its log")
        headers = {name.decode(): value.decode("latin-1") for name, value in self._response.headers}
        return Reply(self._response.status_code, headers, self._body)


def _coded(connection: Connection, piece: bytes) -> list[memoryview]:
    """Put a piece of the body into a chunk; the empty piece is its end."""
    event = h11.Data(data=piece) if piece else h11.EndOfMessage()
    parts = connection.protocol.send_with_data_passthrough(event) or []
    return [memoryview(part) for part in parts if part]


@contextmanager
def _progress(size: int | None) -> Iterator[Callable[[int], None]]:
    if not is_terminal(2):
        yield lambda step: None
        return
    from mdocker.progress import Bar

    bar = Bar("Importing", size, size=True)
    try:
        yield bar.advance
    finally:
        bar.close()


def _read(file: BinaryIO, source: str) -> bytes:
    try:
        return file.read(_PIECE)
    except OSError as error:
        raise UsageError(f"unable to read {source}: {error.strerror}") from error


def _result(body: bytes) -> str:
    """Read the engine's progress lines: the last status is the id; an error may come late."""
    status = ""
    for line in body.splitlines():
        if not line.strip():
            continue
        try:
            news = json.loads(line)
        except ValueError:
            raise EngineUnreachable(f"the engine's answer is no JSON: {line[:80]!r}") from None
        if news.get("error"):
            raise EngineRefused(500, str(news["error"]))
        said = str(news.get("status") or "")
        if said.startswith("warning: "):
            warn(said.removeprefix("warning: "))
        else:
            status = said or status
    return status
