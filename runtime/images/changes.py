"""Dockerfile instructions that `--change` applies to an image's configuration. Pure.

CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME and
WORKDIR, each in the forms of the Dockerfile reference: JSON or shell form, quotes, backslashes, and
variables set by ENV before.
"""

from __future__ import annotations

import copy
import json
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from runtime.images import healthcheck
from runtime.images.errors import InvalidChange
from runtime.images.words import pairs, split, substituted

_SHELL = ["/bin/sh", "-c"]
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII | re.IGNORECASE)
_SIGNAL = re.compile(r"\d{1,2}|(?:SIG)?[A-Z]+\d?(?:[+-]\d{1,2})?", re.ASCII | re.IGNORECASE)
_LINE_JOINT = re.compile(r"\\[ \t]*\n")
_NO_TRIGGERS = frozenset({"FROM", "MAINTAINER"})

Config = dict[str, Any]


def apply_changes(changes: Iterable[str], before: Mapping[str, Any] | None = None) -> Config:
    """The configuration that the instructions, one a line, make of another one.

    Args:
        before: That other one, which stays as it is; None for an empty one.

    Raises:
        InvalidChange: Names the instruction.
    """
    config: Config = copy.deepcopy(dict(before or {}))
    has_command = False
    for change in _LINE_JOINT.sub(" ", "\n".join(changes)).split("\n"):
        line = change.strip()
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        instruction = word.upper()
        apply = _INSTRUCTIONS.get(instruction)
        if apply is None:
            known = ", ".join(sorted(_INSTRUCTIONS))
            raise InvalidChange(f"{word} is not a valid change command (those are {known})")
        if not rest.strip():
            raise InvalidChange(f"{instruction} requires at least one argument")
        try:
            apply(config, rest.strip())
        except ValueError as error:
            raise InvalidChange(f"{instruction} {error} (in the change: {line})") from None
        has_command |= instruction == "CMD"
        if instruction == "ENTRYPOINT" and not has_command:
            # The command that was there are words for another program.
            config.pop("Cmd", None)
    return config


def _environment(config: Config) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in config.get("Env") or ())


def _expanded(config: Config, text: str) -> str:
    return substituted(text, _environment(config))


def _json_strings(text: str) -> list[str] | None:
    """The words of a JSON form; None if it is none (Docker then takes the shell form)."""
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text)
    except ValueError:
        return None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return None
    return words


def _words_or_shell(config: Config, text: str) -> list[str]:
    words = _json_strings(text)
    return [*(config.get("Shell") or _SHELL), text] if words is None else words


def _command(config: Config, text: str) -> None:
    config["Cmd"] = _words_or_shell(config, text)


def _entrypoint(config: Config, text: str) -> None:
    config["Entrypoint"] = _words_or_shell(config, text)


def _shell(config: Config, text: str) -> None:
    words = _json_strings(text)
    if words is None:
        raise ValueError("requires the arguments to be in JSON form")
    if not words:
        raise ValueError("requires at least one argument")
    config["Shell"] = words


def _on_build(config: Config, text: str) -> None:
    trigger = text.partition(" ")[0].upper()
    if trigger == "ONBUILD":
        raise ValueError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in _NO_TRIGGERS:
        raise ValueError(f"{trigger} isn't allowed as an ONBUILD trigger")
    config["OnBuild"] = [*(config.get("OnBuild") or ()), text]


def _env(config: Config, text: str) -> None:
    environment = _environment(config)
    # All values of one line see what was set before the line.
    new = {key: substituted(value, environment) for key, value in pairs(text)}
    config["Env"] = [f"{key}={value}" for key, value in (environment | new).items()]


def _label(config: Config, text: str) -> None:
    environment = _environment(config)
    labels = config["Labels"] = config.get("Labels") or {}
    for key, value in pairs(text):
        labels[substituted(key, environment)] = substituted(value, environment)


def _expose(config: Config, text: str) -> None:
    ports = config["ExposedPorts"] = config.get("ExposedPorts") or {}
    for word in split(_expanded(config, text)):
        match = _PORT.fullmatch(word)
        if match is None:
            raise ValueError(f"invalid port: {word}")
        first = int(match.group(1))
        last = int(match.group(2) or first)
        if not 0 < first <= last <= 65535:
            raise ValueError(f"invalid port: {word}")
        protocol = (match.group(3) or "tcp").lower()
        for port in range(first, last + 1):
            ports[f"{port}/{protocol}"] = {}


def _user(config: Config, text: str) -> None:
    config["User"] = _one_word("a user", _expanded(config, text))


def _stop_signal(config: Config, text: str) -> None:
    signal = _one_word("a signal", _expanded(config, text))
    if not _SIGNAL.fullmatch(signal):
        raise ValueError(f"invalid signal: {signal}")
    config["StopSignal"] = signal


def _health_check(config: Config, text: str) -> None:
    config["Healthcheck"] = healthcheck.parse(text)


def _volume(config: Config, text: str) -> None:
    words = _json_strings(text)
    paths = split(_expanded(config, text)) if words is None else words
    volumes = config["Volumes"] = config.get("Volumes") or {}
    for path in paths:
        if not path:
            raise ValueError("specified volume can not be an empty string")
        volumes[path] = {}


def _working_directory(config: Config, text: str) -> None:
    path = _expanded(config, text)
    base = config.get("WorkingDir") or "/"
    config["WorkingDir"] = posixpath.normpath(posixpath.join("/", base, path))


def _one_word(what: str, text: str) -> str:
    words = text.split()
    if len(words) != 1:
        raise ValueError(f"requires exactly one argument, {what}")
    return words[0]


_INSTRUCTIONS: dict[str, Callable[[Config, str], None]] = {
    "CMD": _command,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _health_check,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _working_directory,
}
