"""Docker's --security-opt words: which there are, and what they ask for. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from supervisor.errors import BadParameter, Unsupported

UNCONFINED = "unconfined"
BUILTIN = "builtin"
DEFAULT = "default"

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_SHOWN = 80


class Security(NamedTuple):
    """What a container's words ask for.

    Attributes:
        no_new_privileges: None where nothing is said.
        seccomp: "unconfined", "builtin", a profile's JSON, or "" for the engine's default.
        apparmor: The profile's name, "unconfined", or "" where nothing is said.
    """

    no_new_privileges: bool | None = None
    seccomp: str = ""
    apparmor: str = ""


def parse(words: Iterable[str]) -> Security:
    """Read the words; of several of one kind the last counts, as in Docker.

    Raises:
        BadParameter: One is no security option.
        Unsupported: An SELinux label.
    """
    found = Security()
    for word in words:
        if word == "no-new-privileges":
            found = found._replace(no_new_privileges=True)
            continue
        if word == "disable":
            continue  # label=disable, as Docker wrote it once
        sign = "=" if "=" in word else ":"
        name, separator, value = word.partition(sign)
        if not separator:
            raise BadParameter(f'invalid --security-opt 1: "{word[:_SHOWN]}"')
        match name:
            case "no-new-privileges" if value in _TRUE or value in _FALSE:
                found = found._replace(no_new_privileges=value in _TRUE)
            case "seccomp":
                found = found._replace(seccomp="" if value == DEFAULT else value)
            case "apparmor":
                found = found._replace(apparmor=value)
            case "label":
                _check_label(value)
            case _:
                raise BadParameter(f'invalid --security-opt 2: "{word[:_SHOWN]}"')
    return found


def _check_label(value: str) -> None:
    if value != "disable":
        raise Unsupported(
            f"mdocker does not support HostConfig.SecurityOpt label={value[:_SHOWN]}: it sets no "
            "SELinux labels; leave it out, or use label=disable"
        )
