"""`logs`, `attach` and `events`."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Annotated, Any

from mdocker.client import Engine
from mdocker.errors import FAILED, EngineRefused, EngineUnreachable, UsageError
from mdocker.listing import parse_filters
from mdocker.meant import meant
from mdocker.messages import Request
from mdocker.options import flag, injected
from mdocker.output import complain
from mdocker.paths import Query, container_path
from mdocker.states import exists
from mdocker.times import parse_moment, to_rfc3339_local

if TYPE_CHECKING:
    import re


def logs(
    *containers: str,
    follow: Annotated[bool, flag("--follow", "-f", help="Go on as more is printed")] = False,
    tail: Annotated[
        str, flag("--tail", "-n", help="The last N lines of each container only (all)")
    ] = "all",
    since: Annotated[
        str, flag("--since", help="From this time on: RFC 3339, Unix seconds, or 10m ago")
    ] = "",
    until: Annotated[
        str, flag("--until", help="Up to this time: RFC 3339, Unix seconds, or 10m ago")
    ] = "",
    timestamps: Annotated[bool, flag("--timestamps", "-t", help="With the time of each")] = False,
    details: Annotated[
        bool, flag("--details", help="With the labels, variables and tag that --log-opt chose")
    ] = False,
    grep: Annotated[
        str, flag("--grep", help="Of these lines, those in which a regular expression is found")
    ] = "",
    all: Annotated[bool, flag("--all", help="Of every container that there is now")] = False,
    filter: Annotated[
        tuple[str, ...], flag("--filter", help="Of all, those that fit, as in 'ps --filter'")
    ] = (),
    engine: Annotated[Engine, injected()],
) -> int:
    """Show what containers have printed.

    Several containers are merged by time, and each line begins with its container's name, each
    in a colour of its own on a terminal (unless NO_COLOR is set).

    --grep takes a Python regular expression, such as 'error|warn' or '(?i)error', for the text
    of a line without its time; --tail counts the lines before it.
    """
    from mdocker.comeback import Output

    pattern = _pattern(grep)
    names = meant(engine, "logs", containers, exists, all=all, filters=filter)
    alone = len(names) == 1 and not all and not filter
    query = {
        "stdout": True,
        "stderr": True,
        "follow": True if follow else None,
        "tail": _tail(tail),
        "timestamps": True if timestamps or not alone or pattern is not None else None,
        "details": True if details else None,
        "places": True,
        **_period(since, until),
    }

    def output(reference: str, name: str) -> Output:
        request = Request.make("GET", container_path(reference, "logs"), query)
        return Output(engine, request, name)

    if alone and pattern is None:
        from mdocker.pump import show

        with closing(output(names[0], names[0])) as only:
            show(only)
        return FAILED if only.gone else 0
    from mdocker.merge import Source, show_merged

    sources = []
    code = 0
    with ExitStack() as stack:
        for reference in dict.fromkeys(names):
            try:
                about = engine.json("GET", container_path(reference, "json"))
                name = about["Name"].removeprefix("/")
                one = stack.enter_context(closing(output(about["Id"], name)))
            except EngineRefused as error:
                complain(str(error))
                code = FAILED
                continue
            sources.append(Source("" if alone else name, one, pattern))
        show_merged(sources, follow=follow, timestamps=timestamps)
    return FAILED if any(source.output.gone for source in sources) else code


def _pattern(expression: str) -> re.Pattern[bytes] | None:
    if not expression:
        return None
    import re

    try:
        return re.compile(os.fsencode(expression))
    except (re.error, RecursionError, OverflowError) as error:
        text = f'invalid argument "{expression}" for "--grep": {error}'
        raise UsageError(text, FAILED) from None


def _tail(text: str) -> str:
    digits = text.removeprefix("-")
    if text != "all" and not (digits.isascii() and digits.isdigit()):
        raise UsageError(f'invalid argument "{text}" for "-n, --tail": must be a number or all')
    return "all" if text.startswith("-") else text


def _period(since: str, until: str) -> dict[str, str | int | bool | None]:
    now = time.time_ns()
    return {
        "since": parse_moment(since, "--since", now) if since else None,
        "until": parse_moment(until, "--until", now) if until else None,
    }


def attach(
    container: str,
    /,
    *,
    no_stdin: Annotated[
        bool, flag("--no-stdin", help="Attach its output alone, not its standard input")
    ] = False,
    detach_keys: Annotated[
        str, flag("--detach-keys", help="Keys that leave its terminal (ctrl-p,ctrl-q)")
    ] = "",
    sig_proxy: Annotated[
        bool, flag("--sig-proxy", help="Hand signals on to it (true; with a terminal its keys do)")
    ] = True,
    engine: Annotated[Engine, injected()],
) -> int:
    """Type into a running container and show what it prints from now on; exit as it does.

    A terminal is left by ctrl-p ctrl-q, or by --detach-keys; the container goes on. Without one
    Ctrl-C reaches the container; with --sig-proxy=false it ends the showing alone.
    """
    from mdocker.foreground import Client
    from mdocker.foreground import attach as follow
    from mdocker.stream_options import Attached
    from mdocker.terminal import check

    about = engine.json("GET", container_path(container, "json"))
    _check_state(about["State"], container)
    config = about["Config"]
    tty = bool(config["Tty"])
    if tty and not no_stdin:
        check()
    streams = Attached(not no_stdin and bool(config["OpenStdin"]), True, True)
    client = Client.of(streams, tty=tty, detach_keys=detach_keys, sig_proxy=sig_proxy and not tty)
    return follow(engine, about["Id"], client)


def _check_state(state: dict[str, Any], container: str) -> None:
    """Refuse to attach to a container that nobody can be attached to, in Docker's words.

    Raises:
        EngineRefused: With what to do next.
    """
    if not state["Running"]:
        raise EngineRefused(
            409,
            "You cannot attach to a stopped container, start it first: "
            f"'mdocker start -a {container}', or see 'mdocker logs {container}'",
        )
    if state["Paused"]:
        raise EngineRefused(
            409,
            "You cannot attach to a paused container, unpause it first: "
            f"'mdocker unpause {container}'",
        )
    if state["Restarting"]:
        raise EngineRefused(
            409, "You cannot attach to a restarting container, wait until it is running"
        )


def events(
    *,
    since: Annotated[
        str, flag("--since", help="From this time on: RFC 3339, Unix seconds, or 10m ago")
    ] = "",
    until: Annotated[
        str, flag("--until", help="Up to this time, then end: RFC 3339, Unix seconds, or 10m ago")
    ] = "",
    filter: Annotated[
        tuple[str, ...], flag("--filter", "-f", help="Such as event=die or container=NAME")
    ] = (),
    format: Annotated[str, flag("--format", help="json, or a Go template for each")] = "",
    engine: Annotated[Engine, injected()],
) -> int:
    """Show what happens, as it happens, until Ctrl-C."""
    from mdocker.template import Template

    template = Template(format) if format and format != "json" else None
    query: Query = {**_period(since, until), "filters": parse_filters(filter)}

    def take(line: bytes) -> int:
        """Print an event; return its place in the stream, 0 if it has none."""
        try:
            event: dict[str, Any] = json.loads(line)
        except ValueError:
            raise EngineUnreachable(f"the engine's event is no JSON: {line[:80]!r}") from None
        if format == "json":
            text = line.decode(errors="replace")
        else:
            text = _event(event) if template is None else template.render(_by_docker_names(event))
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        return int(event.get("timeNano") or 0)

    from mdocker.comeback import each_event

    each_event(engine, Request.make("GET", "/events", query), take)
    return 0


_DOCKER_NAMES = {
    "status": "Status",
    "id": "ID",
    "from": "From",
    "scope": "Scope",
    "time": "Time",
    "timeNano": "TimeNano",
}


def _by_docker_names(event: dict[str, Any]) -> dict[str, Any]:
    """The fields as templates name them: those of the docker CLI, not of the JSON."""
    from mdocker.template_functions import Renamed

    absent = {"Status": "", "ID": "", "From": "", "Scope": "", "Time": 0, "TimeNano": 0}
    named = {_DOCKER_NAMES.get(name, name): value for name, value in event.items()}
    return Renamed(absent | named, event)


def _event(event: dict[str, Any]) -> str:
    actor = event.get("Actor") or {}
    moment = event.get("timeNano") or event.get("time", 0) * 10**9
    words = [
        to_rfc3339_local(moment),
        event.get("Type", ""),
        event.get("Action", ""),
        actor.get("ID", ""),
    ]
    attributes = actor.get("Attributes") or {}
    text = ", ".join(f"{key}={attributes[key]}" for key in sorted(attributes))
    return " ".join(words) + (f" ({text})" if text else "")
