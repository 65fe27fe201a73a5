"""What an image that is made of a container passes on: the container's, the client's, changes.

As in Docker, a configuration in the request stands in for the container's, the changes are applied
to that, and then whatever is not said is the container's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from runtime.images.changes import apply_changes
from runtime.images.model import Image
from supervisor import signals
from supervisor.api import views, wire
from supervisor.api.options import refuse_unsupported
from supervisor.api.wire_commit import OF_CONTAINERS_ALONE, Inherited
from supervisor.container import Container
from supervisor.errors import BadParameter

_KEYS = Inherited.__struct_fields__
_OF_THE_IMAGE = ("ExposedPorts", "Shell")

Config = dict[str, Any]


def inherited(
    container: Container, image: Image, body: Mapping[str, Any], changes: Iterable[str]
) -> Config:
    """Return the new image's configuration.

    Args:
        image: The container's.
        body: The request's; empty for none.
        changes: Dockerfile instructions.

    Raises:
        BadParameter: The body's has a value of the wrong type, or one that can't be.
        InvalidChange: An instruction is unknown or malformed.
        Unsupported: The body names what nobody knows.
    """
    own = of_container(container, image)
    changed = apply_changes(changes, _of_body(body) or own)
    if stop_signal := changed.get("StopSignal"):
        signals.parse(stop_signal)
    config = merged(changed, own)
    return {key: config[key] for key in _KEYS if config.get(key)}


def of_container(container: Container, image: Image) -> Config:
    """Return what a container has of all that an image can pass on."""
    config: Config = {key: image.config.get(key) for key in _OF_THE_IMAGE}
    shown = msgspec.to_builtins(views.config_of(container))
    config |= {key: value for key, value in shown.items() if key in _KEYS}
    config["Env"] = list(container.config.variables)
    return config


def _of_body(body: Mapping[str, Any]) -> Config:
    refuse_unsupported(body, "Config", {*_KEYS, *OF_CONTAINERS_ALONE})
    try:
        asked = msgspec.convert(body, Inherited)
        if asked.Healthcheck:
            msgspec.convert(asked.Healthcheck, wire.AskedHealth)
    except msgspec.ValidationError as error:
        raise BadParameter(f"invalid request: {error}") from error
    config: Config = msgspec.to_builtins(asked)
    for key in ("Cmd", "Entrypoint"):
        if isinstance(config.get(key), str):
            config[key] = config[key].split()
    for word in config.get("Env") or ():
        if not word.partition("=")[0] or "=" not in word:
            raise BadParameter(f"invalid environment variable: {word}")
    return config


def merged(config: Mapping[str, Any], own: Mapping[str, Any]) -> Config:
    """Fill up a configuration from the container's own, by Docker's rules.

    Whole lists and texts are replaced, tables are united; a command belongs to its entrypoint.
    """
    result = dict(config)
    for key in ("User", "WorkingDir", "StopSignal", "Shell"):
        result[key] = config.get(key) or own.get(key)
    for key in ("ExposedPorts", "Labels", "Volumes"):
        result[key] = {**(own.get(key) or {}), **(config.get(key) or {})}
    known = {word.partition("=")[0] for word in config.get("Env") or ()}
    more = [word for word in own.get("Env") or () if word.partition("=")[0] not in known]
    result["Env"] = [*(config.get("Env") or ()), *more]
    if not config.get("Entrypoint"):
        result["Cmd"] = config.get("Cmd") or own.get("Cmd")
        if config.get("Entrypoint") is None:
            result["Entrypoint"] = own.get("Entrypoint")
    given = {key: value for key, value in (config.get("Healthcheck") or {}).items() if value}
    result["Healthcheck"] = {**(own.get("Healthcheck") or {}), **given}
    return result
