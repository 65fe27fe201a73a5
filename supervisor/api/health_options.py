"""Healthcheck of a create request, merged with the image's: Docker's rules and texts.

Beyond Docker's fields there is `OnFailure` (none, kill, restart or stop). Clients that can't send
it have the label `mdocker.health-on-failure`, which an image may carry too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from supervisor.api import wire
from supervisor.container import HealthCheck
from supervisor.errors import BadParameter

ON_FAILURE_LABEL = "mdocker.health-on-failure"

_ACTIONS = ("none", "kill", "restart", "stop")
_LEAST_NS = 1_000_000
_LARGEST = 2**63 - 1
_TIMES = ("Interval", "Timeout", "StartPeriod", "StartInterval")
_SHELL = ("/bin/sh", "-c")


def checked_health(
    asked: wire.AskedHealth | None, image: Mapping[str, Any], labels: Mapping[str, str]
) -> HealthCheck | None:
    """Return the health check that a container gets; None where there is none to speak of.

    Args:
        image: The image's configuration, whose `Healthcheck` fills in what was not asked.
        labels: The container's, the image's among them.

    Raises:
        BadParameter: A value makes no sense, or there is an option but no command to run.
    """
    wanted = asked or wire.AskedHealth()
    defaults = _of_image(image)
    words = _plain(wanted.Test or defaults.Test or [])
    values = {name: getattr(wanted, name) or getattr(defaults, name) or 0 for name in _TIMES}
    retries = wanted.Retries or defaults.Retries or 0
    on_failure = wanted.OnFailure or labels.get(ON_FAILURE_LABEL) or "none"
    _check_numbers(values, retries)
    if on_failure not in _ACTIONS:
        raise BadParameter(
            f"invalid OnFailure in Healthcheck '{on_failure[:64]}': "
            f"use one of {', '.join(_ACTIONS)}"
        )
    if not words:
        if any(values.values()) or retries or wanted.OnFailure:
            raise BadParameter(
                "Healthcheck has options but no command to run, and the image has none either: "
                "give a Test (--health-cmd)"
            )
        return None
    _check_test(words)
    if words[0] == "NONE":
        return HealthCheck(test=("NONE",))
    return HealthCheck(
        test=tuple(words),
        interval=values["Interval"],
        timeout=values["Timeout"],
        retries=retries,
        start_period=values["StartPeriod"],
        start_interval=values["StartInterval"],
        on_failure=on_failure,
        shell=tuple(_plain(image.get("Shell") or _SHELL)),
    )


def _of_image(image: Mapping[str, Any]) -> wire.AskedHealth:
    try:
        return msgspec.convert(image.get("Healthcheck") or {}, wire.AskedHealth)
    except msgspec.ValidationError as error:
        raise BadParameter(f"the image's Healthcheck is invalid: {error}") from error


def _check_numbers(values: Mapping[str, int], retries: int) -> None:
    for name, value in values.items():
        if value != 0 and value < _LEAST_NS:
            raise BadParameter(f"{name} in Healthcheck cannot be less than 1ms")
        if value > _LARGEST:
            raise BadParameter(f"{name} in Healthcheck cannot be {value}: give nanoseconds")
    if retries < 0:
        raise BadParameter("Retries in Healthcheck cannot be negative")
    if retries > _LARGEST:
        raise BadParameter(f"Retries in Healthcheck cannot be {retries}: it is too large")


def _check_test(words: Sequence[str]) -> None:
    kind, *rest = words
    if kind not in ("NONE", "CMD", "CMD-SHELL"):
        raise BadParameter(
            f"Unknown healthcheck type '{kind[:64]}' (expected 'CMD', 'CMD-SHELL' or 'NONE')"
        )
    if kind != "NONE" and not (rest and rest[0]):
        raise BadParameter(f"Test in Healthcheck has no command after '{kind}'")


def _plain(words: Sequence[str]) -> Sequence[str]:
    for word in words:
        if "\0" in word:
            raise BadParameter(f"invalid Test in Healthcheck: {word!r} holds a NUL character")
    return words
