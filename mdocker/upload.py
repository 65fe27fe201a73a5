"""Sending a tar to the engine, and showing how far it is."""

from __future__ import annotations

import os
import select
import socket
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import BinaryIO

from mdocker.client import Engine
from mdocker.connection import Connection, each_line
from mdocker.errors import FAILED, EngineCut, UsageError
from mdocker.messages import (
    WENT_AWAY,
    Body,
    Reply,
    ReplyReader,
    Request,
    read_head,
    read_news,
)
from mdocker.output import is_terminal, warn
from mdocker.paths import repeated, target

_PIECE = 1024 * 1024


def import_image(
    engine: Engine, source: str, name: str, message: str, changes: Sequence[str]
) -> str:
    """Send a tar, or have the engine fetch it; return the new image's id.

    Args:
        engine: Where to.
        source: A file's name, - for standard input, or a URL.
        name: NAME[:TAG], or empty.
        message: The image's comment.
        changes: Dockerfile instructions.

    Raises:
        UsageError: The file can't be read.
        EngineRefused: The engine refuses the tar; the text says why.
        EngineUnreachable: The engine went away.
    """
    is_url = source.startswith(("http://", "https://"))
    query = {"fromSrc": source if is_url else "-", "repo": name, "message": message or None}
    path = repeated(target("/images/create", query), "changes", changes)
    if is_url:
        return _fetched(engine, path)
    with opened(source) as (file, size):
        connection = engine.connection()
        try:
            connection.send(Request("POST", path, chunked="application/x-tar"))
            with progress("Importing", size) as advance:
                answer = exchange(connection, lambda: read_piece(file, source), advance)
        finally:
            connection.close()
    return _result(answer.check().body)


def _fetched(engine: Engine, path: str) -> str:
    """Make the request for an import from a URL, show how far it is; return the image's id."""
    said: list[bytes] = []
    done = 0
    with engine.stream("POST", path) as stream, ExitStack() as shown:
        advance: Callable[[int], None] | None = None

        def take(line: bytes) -> bool:
            nonlocal advance, done
            if line.strip():
                said.append(line)
                if detail := read_news(line).get("progressDetail"):
                    said.pop()
                    advance = advance or shown.enter_context(
                        progress("Importing", detail.get("total"))
                    )
                    advance(detail["current"] - done)
                    done = detail["current"]
            return True

        each_line(stream, take)
    return _result(b"\n".join(said))


@contextmanager
def opened(source: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """Have a local file, and its size if it has one, while the block runs; - is standard input.

    Raises:
        UsageError: It can't be opened, or is a terminal.
    """
    if source == "-":
        if is_terminal(0):
            raise UsageError("standard input is a terminal: a tar must come from a file or pipe")
        yield sys.stdin.buffer, None
        return
    try:
        file = open(source, "rb")  # noqa: SIM115
    except OSError as error:
        raise UsageError(f"unable to read {source}: {error.strerror}", FAILED) from error
    with file:
        status = os.fstat(file.fileno())
        yield file, status.st_size if stat.S_ISREG(status.st_mode) else None


def exchange(
    connection: Connection, read: Callable[[], bytes], advance: Callable[[int], None]
) -> Reply:
    """Send a body, read the answer, both at once: the engine reports progress meanwhile.

    It may also have said all that it has to say (a refusal) before it has read everything; then
    the rest is not sent.

    Args:
        connection: It has sent the head, with a body to follow in chunks.
        read: Gives the next piece, b"" at the end.
        advance: Told how much was read.

    Raises:
        EngineCut: The engine went away.
    """
    reader = ReplyReader()
    for data in talk(connection, read, advance):
        if (reply := reader.feed(data)) is not None:
            return reply
        if _is_refusal(reader):
            break
    while not _is_told(reader):
        if (reply := reader.feed(connection.receive())) is not None:
            return reply
    assert reader.head is not None
    return Reply(reader.head.status, reader.head.headers, reader.body)


def talk(
    connection: Connection, read: Callable[[], bytes], advance: Callable[[int], None]
) -> Iterator[bytes]:
    """Send a body, and give what the engine says meanwhile and afterwards, as it comes.

    Endless, with b"" once the engine has hung up: who takes it knows where the answer ends, and
    what has not been sent by then is not.

    Args:
        connection: It has sent the head, with a body to follow in chunks.
        read: Gives the next piece, b"" at the end.
        advance: Told how much was read.

    Raises:
        EngineCut: The connection broke.
    """
    sock = connection.socket
    poller = select.poll()
    poller.register(sock, select.POLLIN | select.POLLOUT)
    pending: deque[memoryview] = deque()
    sending = True
    while True:
        if sending and not pending:
            piece = read()
            pending.extend(_chunk(piece))
            advance(len(piece))
            sending = bool(piece)
        # A hung-up socket is readable, too: what the engine said last is still there.
        if not pending or any(event & ~select.POLLOUT for _, event in poller.poll()):
            yield connection.receive()
            continue
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            sent = sock.send(pending[0], socket.MSG_DONTWAIT)
            pending[0] = pending[0][sent:]
            if not pending[0]:
                pending.popleft()


def answer_lines(
    connection: Connection, read: Callable[[], bytes], advance: Callable[[int], None]
) -> Iterator[bytes]:
    """Send a body like `talk`, and give the answer's lines, those that say nothing left out.

    Raises:
        EngineRefused: The answer is 400 or above.
        EngineCut: The engine went away in the middle.
        EngineUnreachable: It speaks no HTTP.
    """
    data = rest = b""
    body: Body | None = None
    for piece in talk(connection, read, advance):
        if body is None:
            data += piece
            if not piece:
                raise EngineCut(WENT_AWAY)
            if (begun := read_head(data)) is None:
                continue
            head, piece = begun
            if head.status >= 400:
                connection.reply(data).check()
            body = Body(head)
        elif not piece:
            body.end()
        rest += b"".join(bytes(view) for view in body.feed(memoryview(piece)))
        *lines, rest = rest.split(b"\n")
        if body.done:
            lines.append(rest)
        yield from (line for line in lines if line.strip())
        if body.done:
            return


def _is_refusal(reader: ReplyReader) -> bool:
    """Whether the engine has refused, so that it does not matter what else is sent."""
    return reader.head is not None and (reader.head.status >= 400 or _is_told(reader))


def _is_told(reader: ReplyReader) -> bool:
    """Whether an error stands among the progress: the last line there is, ended or not."""
    return b'"error"' in reader.body and reader.body.endswith(b"\n")


def _chunk(piece: bytes) -> list[memoryview]:
    """Put a piece of the body into a chunk; the empty piece is its end."""
    end = memoryview(b"\r\n")
    head = memoryview(b"%x\r\n" % len(piece))
    return [head, memoryview(piece), end] if piece else [head, end]


@contextmanager
def progress(title: str, size: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, if that is a terminal; tell it how many bytes were moved."""
    if not is_terminal(2):
        yield lambda step: None
        return
    from mdocker.progress import Bar

    bar = Bar(title, size, size=True)
    try:
        yield bar.advance
    finally:
        bar.close()


def read_piece(file: BinaryIO, source: str) -> bytes:
    """Read a piece of a body, b"" at its end.

    Raises:
        UsageError: The file can't be read.
    """
    try:
        return file.read(_PIECE)
    except OSError as error:
        raise UsageError(f"unable to read {source}: {error.strerror}", FAILED) from error


def _result(body: bytes) -> str:
    """Read the engine's progress lines: the last status is the id; an error may come late."""
    status = ""
    for line in filter(bytes.strip, body.splitlines()):
        said = str(read_news(line).get("status") or "")
        if said.startswith("warning: "):
            warn(said.removeprefix("warning: "))
        else:
            status = said or status
    return status
