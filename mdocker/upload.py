"""Sending a tar to the engine, and showing how far it is."""

from __future__ import annotations

import json
import os
import select
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

import h11

from mdocker.client import Connection, Engine, target
from mdocker.errors import EngineRefused, EngineUnreachable, UsageError
from mdocker.output import is_terminal

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
            _send(connection, file, size, source)
            answer = connection.rest(connection.head()).check()
        except OSError as error:
            raise EngineUnreachable(f"the engine went away: {error.strerror}") from error
        finally:
            connection.close()
    return _result(answer.body)


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


def _send(connection: Connection, file: BinaryIO, size: int | None, source: str) -> None:
    """Send the body in chunks; stop early if the engine has answered already (a refusal)."""
    poller = select.poll()
    poller.register(connection.socket, select.POLLIN)
    bar = None
    if is_terminal(2):
        from mdocker.progress import Bar

        bar = Bar("Importing", size, size=True)
    try:
        while piece := _read(file, source):
            if poller.poll(0):
                return
            try:
                _send_piece(connection, piece)
            except (BrokenPipeError, ConnectionResetError):
                # It refused and hung up; its answer may be waiting for us all the same.
                return
            if bar is not None:
                bar.advance(len(piece))
        try:
            connection.socket.sendall(connection.protocol.send(h11.EndOfMessage()) or b"")
        except (BrokenPipeError, ConnectionResetError):
            return
    finally:
        if bar is not None:
            bar.close()


def _read(file: BinaryIO, source: str) -> bytes:
    try:
        return file.read(_PIECE)
    except OSError as error:
        raise UsageError(f"unable to read {source}: {error.strerror}") from error


def _send_piece(connection: Connection, piece: bytes) -> None:
    for part in connection.protocol.send_with_data_passthrough(h11.Data(data=piece)) or ():
        connection.socket.sendall(part)


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
        status = news.get("status") or status
    return status
