"""`start`, `stop`, `kill`, `restart`, `rm`, `wait`, `rename`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from mdocker.client import Engine
from mdocker.errors import (
    FAILED,
    CliError,
    Detached,
    EngineRefused,
    UsageError,
    start_failure_code,
)
from mdocker.fanout import EVERYTHING, fan_out
from mdocker.meant import meant
from mdocker.messages import ASK, DO, Reply, Request
from mdocker.options import flag, injected
from mdocker.output import complain, say
from mdocker.paths import Query, container_path
from mdocker.states import exists, rests, runs


def start(
    *containers: str,
    attach: Annotated[
        bool, flag("--attach", "-a", help="Show its output, hand signals on, exit as it does")
    ] = False,
    interactive: Annotated[
        bool, flag("--interactive", "-i", help="And attach its standard input")
    ] = False,
    detach_keys: Annotated[
        str, flag("--detach-keys", help="Keys that leave its terminal (ctrl-p,ctrl-q)")
    ] = "",
    sig_proxy: Annotated[
        bool, flag("--sig-proxy", help="With --attach: hand signals on (true)")
    ] = True,
    all: Annotated[bool, flag("--all", help="Every container that does not run")] = False,
    filter: Annotated[
        tuple[str, ...], flag("--filter", "-f", help="Of all, those that fit, as in 'ps --filter'")
    ] = (),
    engine: Annotated[Engine, injected()],
) -> int:
    """Start containers that were created or have stopped."""
    attach = attach or interactive
    if attach and (all or filter or len(containers) > 1):
        raise UsageError("you cannot start and attach multiple containers at once", FAILED)
    names = meant(engine, "start", containers, rests, all=all, filters=filter)
    if not attach:
        return each(engine, names, lambda one: _post(one, "start"), later=_waits_for_another)
    from mdocker.foreground import Client, start_attached
    from mdocker.stream_options import Attached

    about = engine.json("GET", container_path(names[0], "json"))
    config = about["Config"]
    streams = Attached(interactive and bool(config["OpenStdin"]), True, True)
    client = Client.of(
        streams, tty=bool(config["Tty"]), detach_keys=detach_keys, sig_proxy=sig_proxy
    )
    try:
        return start_attached(
            engine,
            about["Id"],
            client,
            until_removed=bool(about["HostConfig"].get("AutoRemove")),
            started_before=about["State"]["StartedAt"],
        )
    except Detached:
        return 0
    except EngineRefused as error:
        complain(str(error))
        return start_failure_code(error.message)


def stop(
    *containers: str,
    timeout: Annotated[
        int | None,
        flag("--timeout", "-t", "--time", help="Seconds until SIGKILL; -1 is never (10)"),
    ] = None,
    signal: Annotated[str, flag("--signal", "-s", help="What to send first (SIGTERM)")] = "",
    all: Annotated[bool, flag("--all", "-a", help="Every container that runs")] = False,
    filter: Annotated[
        tuple[str, ...], flag("--filter", "-f", help="Of all, those that fit, as in 'ps --filter'")
    ] = (),
    engine: Annotated[Engine, injected()],
) -> int:
    """Stop containers, all at once: a signal first, SIGKILL after the timeout."""
    query = {"t": timeout, "signal": signal or None}
    names = meant(engine, "stop", containers, runs, all=all, filters=filter)
    return each(engine, names, lambda one: _post(one, "stop", query, DO))


def kill(
    *containers: str,
    signal: Annotated[str, flag("--signal", "-s", help="The signal to send (SIGKILL)")] = "",
    all: Annotated[bool, flag("--all", "-a", help="Every container that runs")] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Send a signal to containers."""
    query = {"signal": signal or None}
    names = meant(engine, "kill", containers, runs, all=all, filters=None)
    return each(engine, names, lambda one: _post(one, "kill", query))


def restart(
    *containers: str,
    timeout: Annotated[
        int | None,
        flag("--timeout", "-t", "--time", help="Seconds until SIGKILL; -1 is never (10)"),
    ] = None,
    signal: Annotated[str, flag("--signal", "-s", help="What to send first (SIGTERM)")] = "",
    all: Annotated[bool, flag("--all", "-a", help="Every container that runs")] = False,
    filter: Annotated[
        tuple[str, ...], flag("--filter", "-f", help="Of all, those that fit, as in 'ps --filter'")
    ] = (),
    engine: Annotated[Engine, injected()],
) -> int:
    """Stop and start containers again."""
    query = {"t": timeout, "signal": signal or None}
    names = meant(engine, "restart", containers, runs, all=all, filters=filter)
    return each(engine, names, lambda one: _post(one, "restart", query), later=_waits_for_another)


def rm(
    *containers: str,
    force: Annotated[bool, flag("--force", "-f", help="Kill those that run")] = False,
    volumes: Annotated[bool, flag("--volumes", "-v", help="And their anonymous volumes")] = False,
    all: Annotated[
        bool, flag("--all", "-a", help="Every container that does not run; all with --force")
    ] = False,
    filter: Annotated[
        tuple[str, ...], flag("--filter", help="Of all, those that fit, as in 'ps --filter'")
    ] = (),
    engine: Annotated[Engine, injected()],
) -> int:
    """Remove containers."""
    query = {"force": True if force else None, "v": True if volumes else None}
    fits = exists if force else rests
    names = meant(engine, "rm", containers, fits, all=all, filters=filter)

    def request(one: str) -> Request:
        return Request.make("DELETE", container_path(one), query)._replace(again=DO)

    def failed(error: CliError) -> bool:
        # Docker: with --force, what is gone already is as good as removed (and said so).
        return not (force and isinstance(error, EngineRefused) and error.status == 404)

    return each(engine, names, request, failed=failed)


def wait(container: str, /, *more: str, engine: Annotated[Engine, injected()]) -> int:
    """Wait for containers to end, print their exit codes in order."""

    def code(_: str, reply: Reply) -> str:
        return str(reply.json()["StatusCode"])

    names = (container, *more)
    return each(engine, names, lambda one: _post(one, "wait", again=ASK), show=code)


def rename(container: str, new_name: str, /, *, engine: Annotated[Engine, injected()]) -> int:
    """Give a container another name."""
    engine.call("POST", container_path(container, "rename"), {"name": new_name})
    return 0


def _post(container: str, verb: str, query: Query | None = None, again: str = "") -> Request:
    return Request.make("POST", container_path(container, verb), query)._replace(again=again)


def _waits_for_another(error: CliError) -> bool:
    """Whether a start may succeed once others have, as one does that joins another container."""
    return isinstance(error, EngineRefused) and error.status == 409


def each(
    engine: Engine,
    names: Sequence[str],
    request: Callable[[str], Request],
    *,
    show: Callable[[str, Reply], str] = lambda name, reply: name,
    failed: Callable[[CliError], bool] = lambda error: True,
    later: Callable[[CliError], bool] = lambda error: False,
) -> int:
    """Make one request for each container, all at once; print what succeeded, then what not.

    Args:
        later: Whether one that is refused so is asked again once others have succeeded.

    Lines are printed in the order in which the names were typed, each as soon as those before
    it are known.
    """
    outcomes: list[str | CliError | None] = [None] * len(names)
    jobs: list[Request] = []
    places: list[int] = []
    for index, name in enumerate(names):
        try:
            jobs.append(request(name))
        except CliError as error:
            outcomes[index] = error
        else:
            places.append(index)
    printed = 0
    code = 0

    def flush() -> None:
        nonlocal printed, code
        while printed < len(names) and (outcome := outcomes[printed]) is not None:
            if isinstance(outcome, str):
                say(outcome)
            else:
                complain(str(outcome))
                code = FAILED if failed(outcome) else code
            printed += 1

    asked = list(range(len(jobs)))
    refused: dict[int, CliError] = {}

    def answer(place: int, outcome: Reply | CliError) -> None:
        job = asked[place]
        index = places[job]
        if isinstance(outcome, CliError):
            if later(outcome):
                refused[job] = outcome
                return
            outcomes[index] = outcome
        else:
            outcomes[index] = show(names[index], outcome)
        flush()

    while asked:
        refused.clear()
        fan_out(engine, [jobs[job] for job in asked], answer, width=EVERYTHING)
        if len(refused) == len(asked):
            for job, outcome in refused.items():
                outcomes[places[job]] = outcome
            break
        asked = list(refused)
    flush()
    return code
