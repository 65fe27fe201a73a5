"""`run` and `create`."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

from mdocker.client import Engine
from mdocker.container_options import ContainerOptions
from mdocker.create_request import create_body
from mdocker.errors import (
    INTERRUPTED,
    REFUSED,
    CliError,
    Detached,
    EngineRefused,
    UsageError,
    start_failure_code,
)
from mdocker.foreground import Client, start_attached
from mdocker.options import flag, flattened, injected
from mdocker.output import complain, say, warn
from mdocker.paths import container_path
from mdocker.pull_policy import check_policy, is_missing, pull_for_run
from mdocker.stream_options import (
    Attached,
    StreamOptions,
    attached,
    without_client,
)
from mdocker.terminal import check

_PLAIN = ContainerOptions()
_PLAIN_STREAMS = StreamOptions()


def run(
    image: str,
    /,
    *command: str,
    detach: Annotated[bool, flag("--detach", "-d", help="Print the id, go on without it")] = False,
    replicas: Annotated[
        int | None,
        flag("--replicas", help="Start N at once, as NAME-1 ... NAME-N (with --detach)"),
    ] = None,
    sig_proxy: Annotated[
        bool, flag("--sig-proxy", help="Hand signals on to the container (true; with -it keys do)")
    ] = True,
    detach_keys: Annotated[
        str, flag("--detach-keys", help="Keys that leave its terminal (ctrl-p,ctrl-q)")
    ] = "",
    streams: Annotated[StreamOptions, flattened()] = _PLAIN_STREAMS,
    options: Annotated[ContainerOptions, flattened()] = _PLAIN,
    engine: Annotated[Engine, injected()],
) -> int:
    """Create and start a container, or N at once.

    Everything after IMAGE belongs to the container's own command line.
    """
    if replicas is not None:
        from mdocker.replicas import run_replicas

        if not detach:
            raise UsageError("--replicas needs --detach: N outputs can't share this terminal")
        return run_replicas(engine, image, command, options, streams, replicas)
    ours = without_client(streams) if detach else attached(streams)
    if ours.stdin and streams.tty:
        check()
    client = Client.of(ours, tty=streams.tty, detach_keys=detach_keys, sig_proxy=sig_proxy)
    try:
        container = _create(engine, image, command, options, streams, ours)
    except (EngineRefused, CliError) as error:
        return _refused(error, REFUSED)
    try:
        if detach:
            engine.call("POST", container_path(container, "start"))
            say(container)
            return 0
        if not ours.shows:
            say(container)
            sys.stdout.flush()
        return start_attached(engine, container, client, until_removed=options.rm)
    except Detached:
        return 0
    except EngineRefused as error:
        return _refused(error, start_failure_code(error.message))
    except CliError as error:
        return _refused(error, REFUSED)
    except KeyboardInterrupt:
        return INTERRUPTED


def create(
    image: str,
    /,
    *command: str,
    streams: Annotated[StreamOptions, flattened()] = _PLAIN_STREAMS,
    options: Annotated[ContainerOptions, flattened()] = _PLAIN,
    engine: Annotated[Engine, injected()],
) -> int:
    """Create a container without starting it.

    Everything after IMAGE belongs to the container's own command line.
    """
    try:
        say(_create(engine, image, command, options, streams, attached(streams)))
    except CliError as error:
        return _refused(error, REFUSED)
    return 0


def _create(
    engine: Engine,
    image: str,
    command: tuple[str, ...],
    options: ContainerOptions,
    streams: StreamOptions,
    ours: Attached,
) -> str:
    """Create the container and return its id; warnings go to stderr."""
    body = create_body(image, command, options, streams, ours)
    check_policy(options.pull)
    if options.cidfile and os.path.exists(options.cidfile):
        raise UsageError(
            f"the file of --cidfile exists already: remove {options.cidfile} "
            "if its container is gone"
        )
    answer = _created(engine, image, options, body)
    for warning in answer.get("Warnings") or []:
        warn(warning)
    container = str(answer["Id"])
    if options.cidfile:
        try:
            with open(options.cidfile, "x") as file:
                file.write(container)
        except OSError as error:
            engine.call("DELETE", container_path(container), {"force": 1})
            raise UsageError(f"unable to write {options.cidfile}: {error.strerror}") from error
    return container


def _created(
    engine: Engine, image: str, options: ContainerOptions, body: dict[str, Any]
) -> dict[str, Any]:
    """The engine's answer to the request; the image is pulled first, as --pull says."""
    query = {"name": options.name or None, "platform": options.platform or None}
    if options.pull == "always":
        pull_for_run(engine, image, options)
    try:
        return dict(engine.json("POST", "/containers/create", query, body))
    except EngineRefused as error:
        if options.pull != "missing" or not is_missing(error):
            raise
        pull_for_run(engine, image, options, because_missing=True)
        return dict(engine.json("POST", "/containers/create", query, body))


def _refused(error: CliError, code: int) -> int:
    if isinstance(error, UsageError):
        raise error
    complain(explain(error))
    return code


def explain(error: CliError) -> str:
    """Return the engine's words, with what to do where they do not say so."""
    if isinstance(error, EngineRefused) and error.message.startswith("No such image"):
        return (
            f"{error} (see 'mdocker images'; get it by 'mdocker pull', "
            "or use the built-in image: host)"
        )
    return str(error)
