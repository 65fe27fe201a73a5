"""A container in the foreground: its output here, our signals there, its exit code ours."""

from __future__ import annotations

import json
from contextlib import ExitStack

from mdocker.client import Engine
from mdocker.connection import Stream
from mdocker.errors import EngineRefused, EngineUnreachable
from mdocker.output import complain
from mdocker.paths import container_path
from mdocker.pump import show
from mdocker.signals import SignalInbox


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
        if inbox is None:
            show(output)
        else:

            def forward(inbox: SignalInbox = inbox) -> None:
                for name in inbox.take():
                    _forward(engine, container, name)

            show(output, (inbox.descriptor, forward))
        return exit_code(end)


def exit_code(end: Stream) -> int:
    """Read the answer of a wait.

    Raises:
        EngineRefused: The engine could not wait to the end.
    """
    body = b""
    while not end.ended:
        body += b"".join(bytes(piece) for piece in end.read())
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


def _forward(engine: Engine, container: str, name: str) -> None:
    try:
        engine.call("POST", container_path(container, "kill"), {"signal": name})
    except EngineRefused as error:
        # It has just ended by itself, which the output's end will tell.
        if error.status not in (404, 409):
            complain(f"{name} could not be handed on: {error}")
