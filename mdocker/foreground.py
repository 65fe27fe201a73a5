"""A container in the foreground: its output here, our signals there, its exit code ours.

The engine may die meanwhile: the container does not, and the next engine is asked for the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing

from mdocker.client import Engine
from mdocker.comeback import Answer, Output
from mdocker.errors import EngineCut, EngineRefused, EngineUnreachable
from mdocker.messages import Request
from mdocker.output import complain
from mdocker.paths import container_path
from mdocker.pump import show
from mdocker.signals import SignalInbox

_NEVER = "0001-01-01T00:00:00Z"
_LIVE = {"stream": 1, "stdout": 1, "stderr": 1, "places": 1}


def start_attached(
    engine: Engine,
    container: str,
    *,
    sig_proxy: bool,
    until_removed: bool,
    started_before: str = _NEVER,
) -> int:
    """Start a container, show its output until it ends, return its exit code.

    The order is Docker's: attach and wait are with the engine before the container starts, so
    not a byte and not the shortest life is missed.

    Args:
        engine: Where it is.
        container: Its id.
        sig_proxy: Hand SIGINT, SIGTERM and the like on to it.
        until_removed: Wait until --rm has removed it, too.
        started_before: When it was started last (StartedAt of its inspection).

    Raises:
        EngineRefused: It could not be started; the text says why.
        EngineUnreachable: The engine went away, and none came back.
        BrokenPipeError: Who read our stdout has gone; the container goes on.
        KeyboardInterrupt: Ctrl-C, without sig_proxy; the container goes on.
    """
    return _follow(
        engine,
        container,
        "removed" if until_removed else "next-exit",
        lambda: _start(engine, container, started_before),
        sig_proxy=sig_proxy,
    )


def attach(engine: Engine, container: str, *, sig_proxy: bool) -> int:
    """Show the output of a container that runs until it ends, return its exit code.

    Args:
        engine: Where it is.
        container: Its id.
        sig_proxy: Hand SIGINT, SIGTERM and the like on to it.

    Raises:
        EngineRefused: It is paused, or has gone.
        EngineUnreachable: The engine went away, and none came back.
        BrokenPipeError: Who read our stdout has gone; the container goes on.
        KeyboardInterrupt: Ctrl-C, without sig_proxy; the container goes on.
    """

    def still_runs() -> bool:
        # It may have ended before we were attached: then nothing would tell us its end.
        about = engine.json("GET", container_path(container, "json"))
        return bool(about["State"]["Running"])

    return _follow(engine, container, "not-running", still_runs, sig_proxy=sig_proxy)


def _follow(
    engine: Engine,
    container: str,
    condition: str,
    begin: Callable[[], bool],
    *,
    sig_proxy: bool,
) -> int:
    request = Request.make("POST", container_path(container, "attach"), _LIVE).upgrading()
    wait = Request.make("POST", container_path(container, "wait"), {"condition": condition})
    with ExitStack() as stack:
        output = stack.enter_context(closing(Output(engine, request, container[:12])))
        end = stack.enter_context(closing(Answer(engine, wait)))
        inbox = stack.enter_context(SignalInbox()) if sig_proxy else None
        if not begin():
            return exit_code(end.json())
        if inbox is None:
            show(output)
        else:

            def forward(inbox: SignalInbox = inbox) -> None:
                for name in inbox.take():
                    _forward(engine, container, name)

            show(output, (inbox.descriptor, forward))
        return exit_code(end.json())


def _start(engine: Engine, container: str, before: str) -> bool:
    """Start it, exactly once, even if the engine dies in the middle of that."""
    while True:
        try:
            engine.call("POST", container_path(container, "start"))
            return True
        except EngineCut:
            try:
                if _started_at(engine, container) != before:
                    return True
            except EngineRefused as error:
                if error.status != 404:
                    raise
                return True  # it has run, ended, and was removed


def exit_code(answer: dict[str, object]) -> int:
    """Read the answer of a wait.

    Raises:
        EngineRefused: The engine could not wait to the end.
    """
    problem = answer.get("Error")
    if isinstance(problem, dict) and problem.get("Message"):
        raise EngineRefused(500, str(problem["Message"]))
    code = answer.get("StatusCode")
    if not isinstance(code, int):
        raise EngineUnreachable(f"the engine did not say how the container ended: {answer}")
    return code


def _started_at(engine: Engine, container: str) -> str:
    about = engine.json("GET", container_path(container, "json"))
    return str(about["State"].get("StartedAt", _NEVER))


def _forward(engine: Engine, container: str, name: str) -> None:
    try:
        engine.call("POST", container_path(container, "kill"), {"signal": name})
    except EngineCut:
        complain(f"the engine died while it was to hand {name} on: send it again")
    except EngineRefused as error:
        # It has just ended by itself, which the output's end will tell.
        if error.status not in (404, 409):
            complain(f"{name} could not be handed on: {error}")
