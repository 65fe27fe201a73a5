"""The shape of what an image passes on to its containers, with Docker's own spelling."""

from __future__ import annotations

from typing import Any

import msgspec


class Inherited(msgspec.Struct, omit_defaults=True):
    """What of a container's configuration an image can have; also the body of a commit."""

    Cmd: list[str] | str | None = None
    Entrypoint: list[str] | str | None = None
    Env: list[str] | None = None
    ExposedPorts: dict[str, Any] | None = None
    Healthcheck: dict[str, Any] | None = None
    Labels: dict[str, str] | None = None
    OnBuild: list[str] | None = None
    Shell: list[str] | None = None
    StopSignal: str | None = None
    User: str | None = None
    Volumes: dict[str, Any] | None = None
    WorkingDir: str | None = None


OF_CONTAINERS_ALONE = frozenset(
    {
        *("ArgsEscaped", "AttachStderr", "AttachStdin", "AttachStdout", "Domainname", "Hostname"),
        *("HostConfig", "Image", "MacAddress", "NetworkDisabled", "NetworkingConfig"),
        *("OpenStdin", "StdinOnce", "StopTimeout", "Tty"),
    }
)
"""Clients send back whole configurations. These are one container's: no image passes them on."""


class Committed(msgspec.Struct):
    """The answer to a commit."""

    Id: str
