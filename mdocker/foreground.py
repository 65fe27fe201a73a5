"""A container in the foreground: its output here, our signals there, its exit code ours.

The engine may die meanwhile: the container does not, and the next engine is asked for the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import NamedTuple

from mdocker.client import Engine
from mdocker.comeback import Answer, Output
from mdocker.detach_keys import DetachKeys, chosen, parse
from mdocker.errors import Detached, EngineCut, EngineRefused, EngineUnreachable
from mdocker.input import Input
from mdocker.messages import ASK, Request
from mdocker.output import complain
from mdocker.paths import Query, container_path
from mdocker.pump import Meanwhile, converse, hand_over, show
from mdocker.signals import SignalInbox
from mdocker.stream_options import Attached
from mdocker.terminal import OurTerminal, size

_NEVER = "0001-01-01T00:00:00Z"


class Client(NamedTuple):
    """What this client is to a container.

    Attributes:
        streams: What it shows and feeds.
        tty: The container has a terminal.
        keys: What leaves that, as the API spells it; empty for the default.
        sig_proxy: Hand SIGINT, SIGTERM and the like on to it.
    """

    streams: Attached
    tty: bool
    keys: str
    sig_proxy: bool

    @classmethod
    def of(cls, streams: Attached, *, tty: bool, detach_keys: str, sig_proxy: bool) -> Client:
        """Decide what follows from what was typed.

        Raises:
            UsageError: The detach keys are none.
        """
        keys = chosen(detach_keys) if streams.stdin and tty else detach_keys
        parse(keys)
        # A terminal that is raw has no signals: its keys reach the container.
        return cls(streams, tty, keys, sig_proxy and not (tty and streams.stdin))


def start_attached(
    engine: Engine,
    container: str,
    client: Client,
    *,
    until_removed: bool,
    started_before: str = _NEVER,
) -> int:
    """Start a container, show its output until it ends, return its exit code.

    The order is Docker's: attach and wait are with the engine before the container starts, so
    not a byte and not the shortest life is missed.

    Args:
        engine: Where it is.
        container: Its id.
        client: What we are to it.
        until_removed: Wait until --rm has removed it, too.
        started_before: When it was started last (StartedAt of its inspection).

    Raises:
        Detached: By its keys; the container goes on.
        EngineRefused: It could not be started; the text says why.
        EngineUnreachable: The engine went away, and none came back.
        BrokenPipeError: Who read our stdout has gone; the container goes on.
        KeyboardInterrupt: Ctrl-C, without sig_proxy; the container goes on.
    """

    def begin(_output: Output) -> bool:
        started = _start(engine, container, started_before)
        _tell_size(engine, container, client)
        return started

    condition = "removed" if until_removed else "next-exit"
    return _follow(engine, container, condition, begin, client, {})


def attach(engine: Engine, container: str, client: Client) -> int:
    """Show the output of a container that runs until it ends, return its exit code.

    Args:
        engine: Where it is.
        container: Its id.
        client: What we are to it.

    Raises:
        Detached: By its keys; the container goes on.
        EngineRefused: It is paused, or has gone.
        EngineUnreachable: The engine went away, and none came back.
        BrokenPipeError: Who read our stdout has gone; the container goes on.
        KeyboardInterrupt: Ctrl-C, without sig_proxy; the container goes on.
    """

    def ends(output: Output) -> bool:
        # Docker's engine attaches us to one that does not run, too, and tells us of no end then.
        ours = output.goes_on
        try:
            about = engine.json("GET", container_path(container, "json"))
        except EngineRefused:
            if not ours:
                raise
            return True  # it has ended and was removed: its last output is on its way
        if about["State"]["Running"]:
            # It has drawn its screen for somebody else: another size has it draw it again.
            _tell_size(engine, container, client, more=1)
            _tell_size(engine, container, client)
            return True
        return ours

    return _follow(engine, container, "not-running", ends, client, {"running": 1})


def _follow(
    engine: Engine,
    container: str,
    condition: str,
    begin: Callable[[Output], bool],
    client: Client,
    more: Query,
) -> int:
    query = {**_query(client), **more}
    request = Request.make("POST", container_path(container, "attach"), query).upgrading()
    wait = Request.make("POST", container_path(container, "wait"), {"condition": condition})
    # Nothing is shown, typed or started before both have an answer.
    request, wait = request._replace(again=ASK), wait._replace(again=ASK)
    with ExitStack() as stack:
        output = stack.enter_context(closing(Output(engine, request, container[:12])))
        end = stack.enter_context(closing(Answer(engine, wait)))
        meanwhile = None
        if client.tty and not client.sig_proxy:
            ours = stack.enter_context(OurTerminal(raw=client.streams.stdin))
            meanwhile = ours.descriptor, lambda: _tell(engine, container, ours.new_size())
        elif client.sig_proxy:
            inbox = stack.enter_context(SignalInbox())
            meanwhile = inbox.descriptor, lambda: _hand_on(engine, container, client, inbox)
        if begin(output) and not _go_through(output, client, meanwhile):
            return 0
        return exit_code(end.json())


def _query(client: Client) -> Query:
    streams = client.streams
    return {
        "stream": 1,
        "stdin": 1 if streams.stdin else None,
        "stdout": 1 if streams.stdout else None,
        "stderr": 1 if streams.stderr else None,
        "places": 1,
        "detachKeys": client.keys or None,
    }


def _go_through(output: Output, client: Client, meanwhile: Meanwhile | None) -> bool:
    """Show and feed until the end; False if that is not the container's.

    Raises:
        Detached: The detach keys were pressed.
    """
    if not client.streams.stdin:
        show(output, meanwhile)
        return True
    typed = Input(keys=DetachKeys(parse(client.keys)) if client.tty else None)
    if client.streams.shows:
        converse(output, typed, meanwhile)
    else:
        hand_over(output, typed, meanwhile)
    if typed.detached:
        raise Detached("read escape sequence")
    return client.streams.shows


def _tell_size(engine: Engine, container: str, client: Client, more: int = 0) -> None:
    """Tell a container's terminal the size of ours, so many lines and columns larger."""
    ours = size() if client.tty else None
    if ours is not None:
        _tell(engine, container, (ours[0] + more, ours[1] + more))


def _tell(engine: Engine, container: str, ours: tuple[int, int] | None) -> None:
    if ours is None:
        return
    query = {"h": ours[0], "w": ours[1]}
    for _ in range(2):  # the connection that we have kept may be to an engine that has died
        try:
            engine.call("POST", container_path(container, "resize"), query)
        except EngineCut:
            continue
        except EngineRefused:
            pass  # it has just ended
        return


def _hand_on(engine: Engine, container: str, client: Client, inbox: SignalInbox) -> None:
    for name in inbox.take():
        if name == "SIGWINCH" and client.tty:
            _tell(engine, container, size())
        else:
            _forward(engine, container, name)


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
