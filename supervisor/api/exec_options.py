"""What is asked of an exec, at its create and at its start; refused in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from supervisor import escape_keys
from supervisor.api.console_size import console_size
from supervisor.api.options import refuse_unsupported
from supervisor.errors import BadParameter
from supervisor.execs import Command

CONSOLE_SIZE_SINCE = (1, 42)
"""Before that clients sent no size, or something else."""


class AskedExec(msgspec.Struct):
    """The body of POST /containers/{id}/exec."""

    AttachStderr: bool | None = None
    AttachStdin: bool | None = None
    AttachStdout: bool | None = None
    Cmd: list[str] | str | None = None
    ConsoleSize: list[int] | None = None
    DetachKeys: str | None = None
    Env: list[str] | None = None
    Privileged: bool | None = None
    Tty: bool | None = None
    User: str | None = None
    WorkingDir: str | None = None


class AskedExecStart(msgspec.Struct):
    """The body of POST /exec/{id}/start."""

    ConsoleSize: list[int] | None = None
    Detach: bool | None = None
    Tty: bool | None = None


_Asked = TypeVar("_Asked", AskedExec, AskedExecStart)

_MEANINGLESS = frozenset({"container", "detach", "id"})
"""What clients repeat in the body that the path says, or that the start decides."""


def read_create(body: Mapping[str, Any]) -> AskedExec:
    """The request's options, typed.

    Raises:
        BadParameter: One has a value of the wrong type.
        Unsupported: One that we don't know is in use.
    """
    return _read(body, AskedExec, _MEANINGLESS)


def read_start(body: Mapping[str, Any]) -> AskedExecStart:
    """The request's options, typed; raises as `read_create` does."""
    return _read(body, AskedExecStart, frozenset())


def _read(body: Mapping[str, Any], kind: type[_Asked], ignored: frozenset[str]) -> _Asked:
    # docker-py writes detachKeys; Go's decoder takes a field however it is written.
    names = {name.lower(): name for name in kind.__struct_fields__}
    known = {
        names.get(name.lower(), name): value
        for name, value in body.items()
        if name.lower() not in ignored
    }
    refuse_unsupported(known, "ExecConfig", kind.__struct_fields__)
    try:
        return msgspec.convert(known, kind)
    except msgspec.ValidationError as error:
        raise BadParameter(f"invalid request: {error}") from error


def command(asked: AskedExec) -> tuple[Command, str]:
    """What is to be run, and the keys that detach from it, as they were asked for.

    Raises:
        BadParameter: A value that can't be.
    """
    words = [asked.Cmd] if isinstance(asked.Cmd, str) else asked.Cmd or []
    if not words or not words[0]:
        raise BadParameter("No exec command specified")
    keys = asked.DetachKeys or ""
    escape_keys.parse(keys)
    cwd = asked.WorkingDir or ""
    if cwd and not cwd.startswith("/"):
        raise BadParameter(
            f"the working directory '{cwd}' is invalid, it needs to be an absolute path"
        )
    for option, text in (("User", asked.User or ""), ("WorkingDir", cwd)):
        _plain(option, text)
    for word in words:
        _plain("Cmd", word)
    found = Command(
        args=tuple(words),
        env=_environment(asked.Env or ()),
        user=asked.User or "",
        cwd=cwd,
        privileged=bool(asked.Privileged),
        terminal=console_size(asked.ConsoleSize) if asked.Tty else None,
        stdin=bool(asked.AttachStdin),
        stdout=bool(asked.AttachStdout),
        stderr=bool(asked.AttachStderr),
        leave_others=True,
    )
    return found, keys


def _environment(asked: Sequence[str]) -> tuple[str, ...]:
    for word in asked:
        if not word.partition("=")[0]:
            raise BadParameter(f"invalid environment variable: {word}")
        _plain("Env", word)
    return tuple(asked)


def _plain(option: str, text: str) -> None:
    """Refuse what no kernel interface can hold."""
    if "\0" in text:
        raise BadParameter(f"invalid {option}: {text!r} holds a NUL character")
