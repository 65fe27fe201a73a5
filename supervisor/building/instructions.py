"""Lines of a Dockerfile become typed instructions, all of them before anything is built.

Those that change a configuration alone are the same for `commit --change`
(`runtime.images.instructions`); the others are here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from runtime.images import instructions as settings
from runtime.images.instructions import Command, Setting
from runtime.images.words import split
from supervisor.building.dockerfile import Dockerfile, Line, line_of
from supervisor.building.errors import BUILDKIT, DockerfileRefused

_OF_BUILDKIT = {
    "ADD": ("checksum", "chmod", "exclude", "keep-git-dir", "link", "unpack"),
    "COPY": ("chmod", "exclude", "link", "parents"),
    "RUN": ("device", "mount", "network", "security"),
}
"""Flags that Docker's classic builder refuses, too."""

_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class From:
    """FROM: a stage begins.

    Attributes:
        image: An image's name, or that of an earlier stage; may have variables in it.
        name: The stage's own, in lower case; empty for none.
        platform: Such as linux/amd64; may have variables in it.
    """

    image: str
    name: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Arg:
    """ARG: names that `--build-arg` may set, each with its default or None."""

    pairs: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Run:
    """RUN"""

    command: Command


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY or ADD.

    Attributes:
        keyword: Which of them.
        stage: What `--from` names: a stage by name or number, or an image; empty for the context.
        owner: `user[:group]` of what is copied; empty for root, or with a `stage` for what it has.
    """

    keyword: str
    sources: tuple[str, ...]
    destination: str
    stage: str = ""
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Maintainer:
    """MAINTAINER"""

    name: str


Instruction: TypeAlias = From | Arg | Run | Copy | Maintainer | Setting


class Step(NamedTuple):
    """One instruction and where it stands.

    Attributes:
        line: From 1; 0 for what stands in no file.
        source: As it was written.
    """

    line: int
    source: str
    instruction: Instruction


class Stage(NamedTuple):
    """What one FROM begins."""

    begin: Step
    origin: From
    steps: tuple[Step, ...]


class Plan(NamedTuple):
    """All that a Dockerfile asks for.

    Attributes:
        arguments: The ARG before the first FROM.
    """

    arguments: tuple[Step, ...]
    stages: tuple[Stage, ...]
    escape: str


def plan(dockerfile: Dockerfile) -> Plan:
    """Read all instructions.

    Raises:
        DockerfileRefused: One of them is malformed; the text names its line.
    """
    arguments: list[Step] = []
    stages: list[Stage] = []
    steps: list[Step] = []
    for line in dockerfile.lines:
        step = read(line, dockerfile.escape)
        if isinstance(step.instruction, From):
            steps = []
            stages.append(Stage(step, step.instruction, ()))
        elif stages:
            steps.append(step)
            stages[-1] = stages[-1]._replace(steps=tuple(steps))
        elif isinstance(step.instruction, Arg):
            arguments.append(step)
        else:
            raise DockerfileRefused("no build stage in current context", line.number)
    if not stages:
        raise DockerfileRefused("no build stage in current context")
    return Plan(tuple(arguments), tuple(stages), dockerfile.escape)


def read(line: Line, escape: str) -> Step:
    """Read one instruction.

    Raises:
        DockerfileRefused: It is malformed; the text names its line.
    """
    try:
        if line.keyword in settings.SETTINGS:
            _flags(line)
            found: Instruction = settings.parse(line.keyword, line.text, escape)
        else:
            found = _PARSERS[line.keyword](line, escape)
    except ValueError as error:
        raise DockerfileRefused(f"{line.keyword} {error}", line.number) from None
    if isinstance(found, settings.OnBuild):
        read(trigger(line.number, found.text, escape), escape)
    return Step(line.number, line.source, found)


def trigger(number: int, text: str, escape: str) -> Line:
    """The line that an ONBUILD keeps for later.

    Raises:
        DockerfileRefused: It can't be read.
    """
    return line_of(number, text, escape)


def _flags(line: Line, *known: str) -> dict[str, str]:
    """An instruction's flags, each with its value.

    Raises:
        DockerfileRefused: One of them is unknown, is BuildKit's, comes twice or has no value.
    """
    found: dict[str, str] = {}
    for name, value in line.flags:
        if name in _OF_BUILDKIT.get(line.keyword, ()):
            raise DockerfileRefused(f"the --{name} option {BUILDKIT}", line.number)
        if name not in known:
            raise DockerfileRefused(f"Unknown flag: {name}", line.number)
        if name in found:
            raise DockerfileRefused(f"Duplicate flag specified: {name}", line.number)
        if not value:
            raise DockerfileRefused(f"Missing a value on flag: {name}", line.number)
        found[name] = value
    return found


def _from(line: Line, _escape: str) -> From:
    flags = _flags(line, "platform")
    words = line.text.split()
    if len(words) == 3 and words[1].upper() == "AS":
        name = words[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise ValueError(
                f'has an invalid name for build stage: "{words[2]}", '
                "name can't start with a number or contain symbols"
            )
        return From(words[0], name, flags.get("platform", ""))
    if len(words) != 1:
        raise ValueError("requires either one or three arguments")
    return From(words[0], platform=flags.get("platform", ""))


def _arg(line: Line, escape: str) -> Arg:
    _flags(line)
    words = split(line.text, escape)
    if not words:
        raise ValueError("requires at least one argument")
    found: list[tuple[str, str | None]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise ValueError("names can not be blank")
        found.append((name, value if equals else None))
    return Arg(tuple(found))


def _run(line: Line, _escape: str) -> Run:
    _flags(line)
    if not line.text:
        raise ValueError("requires at least one argument")
    found = settings.command(line.text)
    if not found.words:
        raise ValueError("requires at least one argument")
    return Run(found)


def _copy(line: Line, _escape: str) -> Copy:
    flags = _flags(line, *(("from", "chown") if line.keyword == "COPY" else ("chown",)))
    words = settings.words_of(line.text)
    if len(words) < 2:
        if not words:
            raise ValueError("requires at least two arguments")
        raise ValueError(
            f"requires at least two arguments, but only one was provided. Destination could not "
            f"be determined. ({words[0]})"
        )
    *sources, destination = words
    return Copy(
        line.keyword,
        tuple(sources),
        destination,
        flags.get("from", ""),
        flags.get("chown", ""),
    )


def _maintainer(line: Line, _escape: str) -> Maintainer:
    _flags(line)
    if not line.text:
        raise ValueError("requires exactly one argument")
    return Maintainer(line.text)


_PARSERS: dict[str, Callable[[Line, str], Instruction]] = {
    "ADD": _copy,
    "ARG": _arg,
    "COPY": _copy,
    "FROM": _from,
    "MAINTAINER": _maintainer,
    "RUN": _run,
}
