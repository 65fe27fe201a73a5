"""`--device` and `--device-cgroup-rule` as the API's HostConfig has them, in Docker's words."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Any

from mdocker.errors import UsageError

if TYPE_CHECKING:
    from mdocker.container_options import ContainerOptions

_RULE = re.compile(r"[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}")


def devices(options: ContainerOptions) -> dict[str, Any]:
    """What HostConfig says of them; nothing of what was not asked.

    Raises:
        UsageError: One can't be.
    """
    asked: dict[str, Any] = {
        "Devices": [_mapping(word) for word in options.device],
        "DeviceCgroupRules": [_rule(rule) for rule in options.device_cgroup_rule],
    }
    return {key: value for key, value in asked.items() if value}


def _mapping(word: str) -> dict[str, str]:
    parts = word.split(":")
    source, access = parts[0], "rwm"
    target = source
    if len(parts) > 3 or not source:
        raise UsageError(f"--device {word}: bad format for path: {word}")
    if len(parts) == 2 and _is_access(parts[1]):
        access = parts[1]
    elif len(parts) >= 2:
        target = parts[1] or source
    if len(parts) == 3:
        if not _is_access(parts[2]):
            raise UsageError(f"--device {word}: bad mode specified: {parts[2]}")
        access = parts[2]
    for path in (source, target):
        if not posixpath.isabs(path):
            raise UsageError(
                f"--device {word}: {path} is not an absolute path"
                + ("; there are no device drivers here, name a node" if "=" in path else "")
            )
    return {"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": access}


def _is_access(word: str) -> bool:
    return bool(word) and len(set(word)) == len(word) and set(word) <= set("rwm")


def _rule(rule: str) -> str:
    if not _RULE.fullmatch(rule):
        raise UsageError(
            f"--device-cgroup-rule: invalid device cgroup format '{rule}': it is TYPE MAJOR:MINOR "
            "ACCESS, such as 'c 189:* rwm'"
        )
    return rule
