"""The exec resource: commands in running containers, created, started, watched."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import anyio
import msgspec

from supervisor import escape_keys, exec_sessions
from supervisor.api import exec_options, hijacked, typed
from supervisor.api.console_size import console_size
from supervisor.api.containers import found
from supervisor.api.messages import Reply, Request
from supervisor.api.parameters import flag, json_object, terminal_size
from supervisor.engine import Engine
from supervisor.exec_sessions import Session
from supervisor.stdin import Stdin

_encode = msgspec.json.Encoder().encode
_frame_head = struct.Struct(">BxxxL").pack


class _Created(msgspec.Struct):
    Id: str


class _ProcessConfig(msgspec.Struct):
    tty: bool
    entrypoint: str
    arguments: list[str]
    privileged: bool
    user: str


class _Inspection(msgspec.Struct):
    """`GET /exec/{id}/json`."""

    ID: str
    Running: bool
    ExitCode: int | None
    ProcessConfig: _ProcessConfig
    OpenStdin: bool
    OpenStderr: bool
    OpenStdout: bool
    CanRemove: bool
    ContainerID: str
    DetachKeys: str
    Pid: int


async def create(engine: Engine, request: Request) -> Reply:
    """POST /containers/{id}/exec"""
    asked = exec_options.read_create(await json_object(request))
    container = found(engine, request)
    if request.version < exec_options.CONSOLE_SIZE_SINCE:
        asked.ConsoleSize = None
    command, keys = exec_options.command(asked)
    session = exec_sessions.create(engine, container, command, keys)
    return Reply(201, _encode(_Created(session.id)))


async def inspect(engine: Engine, request: Request) -> Reply:
    """GET /exec/{id}/json"""
    session = _found(engine, request)
    if session.began:
        await session.started()  # its client may have the answer's head already
    command = session.command
    entrypoint, *arguments = command.args
    process = _ProcessConfig(
        tty=command.terminal is not None,
        entrypoint=entrypoint,
        arguments=arguments,
        privileged=command.privileged,
        user=command.user or session.container.config.user,
    )
    inspection = _Inspection(
        ID=session.id,
        Running=session.is_running,
        ExitCode=session.exit_code,
        ProcessConfig=process,
        OpenStdin=command.stdin,
        OpenStderr=command.stderr,
        OpenStdout=command.stdout,
        CanRemove=session.exit_code is not None,
        ContainerID=session.container.id,
        DetachKeys=session.detach_keys,
        Pid=session.pid,
    )
    return Reply(body=_encode(inspection))


async def resize(engine: Engine, request: Request) -> Reply:
    """POST /exec/{id}/resize"""
    session = _found(engine, request)
    await exec_sessions.resize(session, *terminal_size(request))
    return Reply()


async def start(engine: Engine, request: Request) -> Reply | None:
    """POST /exec/{id}/start: with Detach an answer after its execve, else the streams themselves.

    As in Docker, words about a command that can't be executed are part of its output where the
    client is attached. Beyond Docker: with `refusing=1` they are a refusal there too.
    """
    _found(engine, request)
    asked = exec_options.read_start(await json_object(request, optional=True))
    session = _found(engine, request)  # its container may have ended while the body came
    size = (0, 0)
    if request.version >= exec_options.CONSOLE_SIZE_SINCE:
        size = console_size(asked.ConsoleSize)
    attached = not asked.Detach
    exec_sessions.begin(engine, session, attached=attached, size=size)
    if not attached:
        await session.ready.wait()
        if session.refusal is not None:
            raise session.refusal
        return Reply()
    try:
        await _attend(engine, request, session, raw=bool(asked.Tty))
    finally:
        session.leave()
    return None


def _found(engine: Engine, request: Request) -> Session:
    return engine.exec_sessions.find(request.names[0])


async def _attend(engine: Engine, request: Request, session: Session, *, raw: bool) -> None:
    """Be the command's streams until it ends or the client leaves."""
    connection = request.connection
    sending = anyio.Lock(fast_acquire=True)

    async def take(number: int, piece: bytes) -> None:
        pieces: Sequence[bytes] = (piece,) if raw else (_frame_head(number, len(piece)), piece)
        async with sending:  # a frame must not begin within another
            await connection.stream.send_all(pieces)

    async def show() -> None:
        await session.show(take)

    async def opened() -> Stdin | None:
        await session.ready.wait()
        return session.stdin

    def end() -> None:
        if session.command.terminal is None and session.stdin is not None:
            session.stdin.end()

    keys = escape_keys.parse(session.detach_keys)
    target = typed.Target(opened, keys if session.command.terminal is not None else None, end)
    refusing = flag(request, "refusing")
    head = hijacked.head(request, raw=raw)
    with connection.hangups.cancelling(connection.stream) as scope:
        if refusing:
            await session.ready.wait()
            if session.refusal is not None:
                raise session.refusal
            await connection.hijack(head)
        else:
            # As in Docker before it runs; and while the client reads it, the command gets ready.
            await connection.hijack(head, session.ready.wait)
        if session.refusal is not None:
            await take(1, f"{session.refusal}\r\n".encode())
        elif not session.command.stdin:
            await show()
        elif await typed.beside(show, hijacked.typed(connection), target):
            exec_sessions.detached(engine, session)
    if scope.cancelled_caught:
        connection.abandon()
