"""`exec`."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from typing import Annotated, Any

from mdocker.client import Engine
from mdocker.comeback import Output
from mdocker.detach_keys import DetachKeys, chosen, parse
from mdocker.environment import entries
from mdocker.errors import (
    NOT_EXECUTABLE,
    REFUSED,
    EngineCut,
    EngineRefused,
    EngineUnreachable,
    start_failure_code,
)
from mdocker.input import Input
from mdocker.messages import Request
from mdocker.options import flag, injected
from mdocker.output import complain
from mdocker.paths import container_path
from mdocker.pump import Meanwhile, converse, show
from mdocker.terminal import OurTerminal, check, size

_CAN_NOT_BE_EXECUTED = 400
_GONE = 404


def execute(
    container: str,
    command: str,
    /,
    *arguments: str,
    detach: Annotated[bool, flag("--detach", "-d", help="Go on without it")] = False,
    interactive: Annotated[
        bool, flag("--interactive", "-i", help="Our standard input is the command's")
    ] = False,
    tty: Annotated[
        bool, flag("--tty", "-t", help="Give it a terminal; with -i it is this one (-it)")
    ] = False,
    env: Annotated[
        tuple[str, ...], flag("--env", "-e", help="NAME=VALUE, or NAME to take it from here")
    ] = (),
    env_file: Annotated[tuple[str, ...], flag("--env-file", help="A file of NAME=VALUE")] = (),
    user: Annotated[
        str, flag("--user", "-u", help="USER[:GROUP], by name or number (the container's)")
    ] = "",
    workdir: Annotated[
        str, flag("--workdir", "-w", help="Where in the container (as the container)")
    ] = "",
    privileged: Annotated[
        bool, flag("--privileged", help="With all capabilities: it may do what root may here")
    ] = False,
    detach_keys: Annotated[
        str, flag("--detach-keys", help="Keys that leave its terminal (ctrl-p,ctrl-q)")
    ] = "",
    engine: Annotated[Engine, injected()],
) -> int:
    """Run a command in a running container, exit as it does: 126 or 127 if it can't be executed.

    Everything after CONTAINER belongs to the command. Ctrl-C ends the client alone, unless the
    command has a terminal (-it): then it gets each key.
    """
    attached = not detach
    if attached and interactive and tty:
        check()
    keys = chosen(detach_keys) if attached and interactive and tty else detach_keys
    parse(keys)
    asked: dict[str, Any] = {
        "Cmd": [command, *arguments],
        "AttachStdin": attached and interactive,
        "AttachStdout": attached,
        "AttachStderr": attached,
        "Tty": tty,
        "ConsoleSize": size() if tty else None,
        "Env": entries(env_file, env, os.environ),
        "User": user,
        "WorkingDir": workdir,
        "Privileged": privileged,
        "DetachKeys": keys,
    }
    body = {name: value for name, value in asked.items() if value}
    exec_id = str(engine.json("POST", container_path(container, "exec"), None, body)["Id"])
    path = f"/exec/{exec_id}"
    try:
        if detach:
            engine.call("POST", f"{path}/start", None, {"Detach": True, "Tty": tty})
            return 0
        if not _go_through(engine, path, container, keys, interactive=interactive, tty=tty):
            return 0
    except EngineRefused as error:
        if error.status != _CAN_NOT_BE_EXECUTED:
            raise
        complain(str(error))
        code = start_failure_code(error.message)
        return NOT_EXECUTABLE if code == REFUSED else code
    return _exit_code(engine, path)


def _go_through(
    engine: Engine, path: str, container: str, keys: str, *, interactive: bool, tty: bool
) -> bool:
    """Start it, show and feed it until it ends; False if it was left by its keys."""
    # Refusing: what can't be executed is no part of its output.
    request = Request.make("POST", f"{path}/start", {"refusing": 1}, {"Tty": tty}).upgrading()
    with ExitStack() as stack:
        output = stack.enter_context(closing(Output(engine, request, container)))
        meanwhile: Meanwhile | None = None
        if tty:
            ours = stack.enter_context(OurTerminal(raw=interactive))
            meanwhile = ours.descriptor, lambda: _tell(engine, path, ours.new_size())
        if not interactive:
            show(output, meanwhile)
            return True
        typed = Input(keys=DetachKeys(parse(keys)) if tty else None)
        converse(output, typed, meanwhile)
        return not typed.detached


def _tell(engine: Engine, path: str, ours: tuple[int, int] | None) -> None:
    if ours is None:
        return
    try:
        engine.call("POST", f"{path}/resize", {"h": ours[0], "w": ours[1]})
    except (EngineCut, EngineRefused):
        return  # it has just ended, or the engine has: a size is no reason to fail


def _exit_code(engine: Engine, path: str) -> int:
    try:
        about = engine.json("GET", f"{path}/json")
    except EngineRefused as error:
        if error.status != _GONE:
            raise
        raise EngineUnreachable(
            "the engine died, and the command ended with it (what runs with --detach goes on); "
            "run it again"
        ) from error
    code = about["ExitCode"]
    # Somebody has detached by keys that the engine found.
    return int(code) if code is not None else 0
