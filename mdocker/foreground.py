"""A container in the foreground: its output here, our signals there, its exit code ours."""

from __future__ import annotations

import select
from contextlib import ExitStack

from mdocker.client import Engine, Stream, container_path
from mdocker.errors import EngineRefused, EngineUnreachable
from mdocker.frames import Demultiplexer
from mdocker.output import complain, reader_left, write_all, write_streams
from mdocker.signals import SignalInbox

_RAW = "application/vnd.docker.raw-stream"


def start_attached(engine: Engine, container: str, *, sig_proxy: bool, until_removed: bool) -> int:
    """Start a container, show its output until it ends, return its exit code.

    The order is Docker's: attach and wait are with the engine before the container starts, so
    not a byte and not the shortest life is missed.

    Args:
        engine: Where it is.
        container: Its id.
        sig_proxy: Hand SIGINT, SIGTERM and the like on to it.
        until_removed: Wait until --rm has removed it, too.

    Raises:
        EngineRefused: It could not be started; the text says why.
        EngineUnreachable: The engine went away.
        BrokenPipeError: Who read our stdout has gone; the container goes on.
        KeyboardInterrupt: Ctrl-C, without sig_proxy; the container goes on.
    """
    with ExitStack() as stack:
        output = stack.enter_context(
            engine.hijack(
                container_path(container, "attach"), {"stream": 1, "stdout": 1, "stderr": 1}
            )
        )
        condition = "removed" if until_removed else "next-exit"
        end = stack.enter_context(
            engine.stream("POST", container_path(container, "wait"), {"condition": condition})
        )
        inbox = stack.enter_context(SignalInbox()) if sig_proxy else None
        engine.call("POST", container_path(container, "start"))
        _show(engine, container, output, inbox)
        return exit_code(end)


def exit_code(end: Stream) -> int:
    """Read the answer of a wait.

    Raises:
        EngineRefused: The engine could not wait to the end.
    """
    body = b""
    while not end.ended:
        body += b"".join(bytes(piece) for piece in end.read())
    import json

    try:
        answer = json.loads(body)
        code = int(answer["StatusCode"])
    except (ValueError, KeyError, TypeError) as error:
        raise EngineUnreachable(
            f"the engine did not say how the container ended: {body[:80]!r}"
        ) from error
    problem = (answer.get("Error") or {}).get("Message")
    if problem:
        raise EngineRefused(500, problem)
    return code


def _show(engine: Engine, container: str, output: Stream, inbox: SignalInbox | None) -> None:
    frames = None if output.headers.get("content-type") == _RAW else Demultiplexer()
    poller = select.poll()
    poller.register(output, select.POLLIN)
    reader_left(poller)
    if inbox is not None:
        poller.register(inbox.descriptor, select.POLLIN)
    while not output.ended:
        ready = dict(poller.poll()) if not output.pending else {output.fileno(): 0}
        if inbox is not None and inbox.descriptor in ready:
            for name in inbox.take():
                _forward(engine, container, name)
        if output.fileno() in ready:
            pieces = output.read()
            if frames is None:
                write_all(1, pieces)
                continue
            for piece in pieces:
                write_streams(frames.feed(piece))
        elif 1 in ready:
            raise BrokenPipeError


def _forward(engine: Engine, container: str, name: str) -> None:
    try:
        engine.call("POST", container_path(container, "kill"), {"signal": name})
    except EngineRefused as error:
        # It has just ended by itself, which the output's end will tell.
        if error.status not in (404, 409):
            complain(f"{name} could not be handed on: {error}")
