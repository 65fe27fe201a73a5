"""Instructions of a Dockerfile that change an image's configuration and no file. Pure.

    parse(keyword, text)      the words are looked at: syntax alone
    .expanded(expand)         variables are put in, where Docker does so
    .apply(config)            the configuration changes; what is said of it in a history comes back

Forms: https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from runtime.images import healthcheck
from runtime.images.words import pairs

DEFAULT_SHELL = ("/bin/sh", "-c")

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII | re.IGNORECASE)
_SIGNAL = re.compile(r"\d{1,2}|(?:SIG)?[A-Z]+\d?(?:[+-]\d{1,2})?", re.ASCII | re.IGNORECASE)
_NO_TRIGGERS = frozenset({"FROM", "MAINTAINER"})

Config = dict[str, Any]
Expand = Callable[[str], str]
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Command:
    """A command in one of its two forms.

    Attributes:
        words: What is executed; of the shell's form its one line.
        is_line: It is a line for the shell.
    """

    words: tuple[str, ...]
    is_line: bool = False

    def argv(self, config: Config) -> list[str]:
        """What is executed, by the shell of a configuration where that is needed."""
        return [*(shell_of(config) if self.is_line else ()), *self.words]


@dataclass(frozen=True, slots=True)
class Cmd:
    """CMD"""

    command: Command

    def expanded(self, _expand: Expand) -> Cmd:
        return self

    def apply(self, config: Config) -> str:
        config["Cmd"] = self.command.argv(config)
        return f"CMD {_quoted(config['Cmd'])}"


@dataclass(frozen=True, slots=True)
class Entrypoint:
    """ENTRYPOINT; a command that was there before is for the caller to take away."""

    command: Command

    def expanded(self, _expand: Expand) -> Entrypoint:
        return self

    def apply(self, config: Config) -> str:
        config["Entrypoint"] = self.command.argv(config)
        return f"ENTRYPOINT {_quoted(config['Entrypoint'])}"


@dataclass(frozen=True, slots=True)
class Shell:
    """SHELL"""

    words: tuple[str, ...]

    def expanded(self, _expand: Expand) -> Shell:
        return self

    def apply(self, config: Config) -> str:
        config["Shell"] = list(self.words)
        return f"SHELL [{' '.join(self.words)}]"


@dataclass(frozen=True, slots=True)
class OnBuild:
    """ONBUILD; `text` is what the build of an image on this one does first."""

    text: str

    def expanded(self, _expand: Expand) -> OnBuild:
        return self

    def apply(self, config: Config) -> str:
        config["OnBuild"] = [*(config.get("OnBuild") or ()), self.text]
        return f"ONBUILD {self.text}"


@dataclass(frozen=True, slots=True)
class Env:
    """ENV; all values of one line see what was set before the line."""

    pairs: Pairs

    def expanded(self, expand: Expand) -> Env:
        return Env(tuple((expand(key), expand(value)) for key, value in self.pairs))

    def apply(self, config: Config) -> str:
        if not all(key for key, _ in self.pairs):
            raise ValueError("names can not be blank")
        variables = environment(config) | dict(self.pairs)
        config["Env"] = [f"{key}={value}" for key, value in variables.items()]
        return " ".join(["ENV", *(f"{key}={value}" for key, value in self.pairs)])


@dataclass(frozen=True, slots=True)
class Label:
    """LABEL; `literal` ones are nobody's words to put variables into."""

    pairs: Pairs
    literal: bool = False

    def expanded(self, expand: Expand) -> Label:
        if self.literal:
            return self
        return Label(tuple((expand(key), expand(value)) for key, value in self.pairs))

    def apply(self, config: Config) -> str:
        config["Labels"] = {**(config.get("Labels") or {}), **dict(self.pairs)}
        return " ".join(["LABEL", *(f"{key}={value}" for key, value in self.pairs)])


@dataclass(frozen=True, slots=True)
class Expose:
    """EXPOSE"""

    words: tuple[str, ...]

    def expanded(self, expand: Expand) -> Expose:
        return Expose(tuple(one for word in self.words for one in expand(word).split()))

    def apply(self, config: Config) -> str:
        ports = {**(config.get("ExposedPorts") or {})}
        for word in self.words:
            ports.update({port: {} for port in _ports(word)})
        config["ExposedPorts"] = ports
        return f"EXPOSE {' '.join(self.words)}"


@dataclass(frozen=True, slots=True)
class User:
    """USER"""

    text: str

    def expanded(self, expand: Expand) -> User:
        return User(expand(self.text))

    def apply(self, config: Config) -> str:
        config["User"] = _one_word("a user", self.text)
        return f"USER {config['User']}"


@dataclass(frozen=True, slots=True)
class StopSignal:
    """STOPSIGNAL"""

    text: str

    def expanded(self, expand: Expand) -> StopSignal:
        return StopSignal(expand(self.text))

    def apply(self, config: Config) -> str:
        signal = _one_word("a signal", self.text)
        if not _SIGNAL.fullmatch(signal):
            raise ValueError(f"invalid signal: {signal}")
        config["StopSignal"] = signal
        return f"STOPSIGNAL {signal}"


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """HEALTHCHECK; as in `runtime.images.healthcheck`."""

    check: Config

    def expanded(self, _expand: Expand) -> HealthCheck:
        return self

    def apply(self, config: Config) -> str:
        config["Healthcheck"] = dict(self.check)
        return f"HEALTHCHECK {json.dumps(self.check, ensure_ascii=False)}"


@dataclass(frozen=True, slots=True)
class Volume:
    """VOLUME"""

    paths: tuple[str, ...]

    def expanded(self, expand: Expand) -> Volume:
        return Volume(tuple(expand(path) for path in self.paths))

    def apply(self, config: Config) -> str:
        if not all(self.paths):
            raise ValueError("specified volume can not be an empty string")
        config["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in self.paths}}
        return f"VOLUME [{' '.join(self.paths)}]"


@dataclass(frozen=True, slots=True)
class WorkDir:
    """WORKDIR; a relative one is seen from the one before."""

    path: str

    def expanded(self, expand: Expand) -> WorkDir:
        return replace(self, path=expand(self.path))

    def apply(self, config: Config) -> str:
        config["WorkingDir"] = from_working_directory(config, self.path)
        return f"WORKDIR {config['WorkingDir']}"


Setting: TypeAlias = (
    Cmd
    | Entrypoint
    | Env
    | Expose
    | HealthCheck
    | Label
    | OnBuild
    | Shell
    | StopSignal
    | User
    | Volume
    | WorkDir
)


def parse(keyword: str, text: str, escape: str = "\\") -> Setting:
    """Read an instruction.

    Args:
        keyword: One of `SETTINGS`.
        text: What stands behind it, without blanks around it.
        escape: What takes the meaning of the next character.

    Raises:
        ValueError: It is malformed; the text goes on behind the keyword.
    """
    if not text:
        raise ValueError(f"requires {'exactly' if keyword in _SINGLE else 'at least'} one argument")
    return _PARSERS[keyword](text, escape)


def _shell(text: str, _escape: str) -> Shell:
    words = json_words(text)
    if words is None:
        raise ValueError("requires the arguments to be in JSON form")
    if not words:
        raise ValueError("requires at least one argument")
    return Shell(tuple(words))


def _volume(text: str, _escape: str) -> Volume:
    paths = words_of(text)
    if not paths:
        raise ValueError("requires at least one argument")
    return Volume(paths)


def _on_build(text: str, _escape: str) -> OnBuild:
    trigger = text.partition(" ")[0].upper()
    if trigger == "ONBUILD":
        raise ValueError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in _NO_TRIGGERS:
        raise ValueError(f"{trigger} isn't allowed as an ONBUILD trigger")
    return OnBuild(text)


_PARSERS: dict[str, Callable[[str, str], Setting]] = {
    "CMD": lambda text, _: Cmd(command(text)),
    "ENTRYPOINT": lambda text, _: Entrypoint(command(text)),
    "ENV": lambda text, escape: Env(tuple(pairs(text, escape))),
    "EXPOSE": lambda text, _: Expose(tuple(text.split())),
    "HEALTHCHECK": lambda text, _: HealthCheck(healthcheck.parse(text)),
    "LABEL": lambda text, escape: Label(tuple(pairs(text, escape))),
    "ONBUILD": _on_build,
    "SHELL": _shell,
    "STOPSIGNAL": lambda text, _: StopSignal(text),
    "USER": lambda text, _: User(text),
    "VOLUME": _volume,
    "WORKDIR": lambda text, _: WorkDir(text),
}

_SINGLE = frozenset({"STOPSIGNAL", "USER", "WORKDIR"})

SETTINGS = frozenset(_PARSERS)
"""The keywords."""


def json_words(text: str) -> list[str] | None:
    """The words of a JSON form; None if it is none (Docker then takes the shell form)."""
    if not text.startswith("["):
        return None
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return None
    return words


def words_of(text: str) -> tuple[str, ...]:
    """The words of a JSON form, or what stands between blanks."""
    words = json_words(text)
    return tuple(text.split() if words is None else words)


def command(text: str) -> Command:
    """A command in its JSON form, or a line for the shell."""
    words = json_words(text)
    return Command((text,), is_line=True) if words is None else Command(tuple(words))


def shell_of(config: Mapping[str, Any]) -> list[str]:
    """What a line of a command is given to."""
    return list(config.get("Shell") or DEFAULT_SHELL)


def environment(config: Mapping[str, Any]) -> dict[str, str]:
    """A configuration's variables."""
    return dict(entry.partition("=")[::2] for entry in config.get("Env") or ())


def from_working_directory(config: Mapping[str, Any], path: str) -> str:
    """A path as it is seen from a configuration's working directory; absolute, without dots."""
    found = posixpath.normpath(posixpath.join("/", config.get("WorkingDir") or "/", path))
    return f"/{found.lstrip('/')}"  # POSIX keeps two slashes


def _ports(word: str) -> list[str]:
    match = _PORT.fullmatch(word)
    if match is None:
        raise ValueError(f"invalid port: {word}")
    first = int(match.group(1))
    last = int(match.group(2) or first)
    if not 0 < first <= last <= 65535:
        raise ValueError(f"invalid port: {word}")
    protocol = (match.group(3) or "tcp").lower()
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def _one_word(what: str, text: str) -> str:
    words = text.split()
    if len(words) != 1:
        raise ValueError(f"requires exactly one argument, {what}")
    return words[0]


def _quoted(words: list[str]) -> str:
    """A list as Go shows it."""
    return f"[{' '.join(json.dumps(word, ensure_ascii=False) for word in words)}]"
