"""Dockerfile instructions that `--change` applies to an image's configuration. Pure.

CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME and
WORKDIR, each in the forms of the Dockerfile reference: JSON or shell form, quotes, backslashes, and
variables set by ENV before.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from runtime.images import instructions
from runtime.images.errors import InvalidChange
from runtime.images.words import substituted

_LINE_JOINT = re.compile(r"\\[ \t]*\n")

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
        keyword = word.upper()
        if keyword not in instructions.SETTINGS:
            known = ", ".join(sorted(instructions.SETTINGS))
            raise InvalidChange(f"{word} is not a valid change command (those are {known})")
        variables = instructions.environment(config)
        expand = functools.partial(substituted, variables=variables)
        try:
            instructions.parse(keyword, rest.strip()).expanded(expand).apply(config)
        except ValueError as error:
            if not rest.strip():
                raise InvalidChange(f"{keyword} {error}") from None
            raise InvalidChange(f"{keyword} {error} (in the change: {line})") from None
        has_command |= keyword == "CMD"
        if keyword == "ENTRYPOINT" and not has_command:
            # The command that was there are words for another program.
            config.pop("Cmd", None)
    return config
