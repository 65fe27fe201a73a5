"""Ulimits, sysctls, a cgroup's place and limits of block devices of a request, checked."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable
from pathlib import Path

from runtime import block_limits, rlimits, sysctls
from supervisor import kernel_limits
from supervisor.api import wire
from supervisor.container import ContainerConfig
from supervisor.errors import BadParameter, Unsupported

MOUNTINFO = Path("/proc/self/mountinfo")
_AN_ENGINE_S = re.compile(r"mdocker-[0-9a-f]{8}")
_NAME_MAX = 255
_LARGEST = 2**63 - 1
_MOST_REQUESTS = 2**32 - 1
"""In a second: v1 keeps no more of the number (block/blk-throttle.c)."""


def checked_ulimits(asked: list[wire.AskedUlimit] | None) -> tuple[tuple[str, int, int], ...]:
    """Return name, soft and hard limit of each; what is said twice counts as it was said last.

    Raises:
        BadParameter: There is no such limit, or it contradicts itself.
    """
    found = {}
    for one in asked or ():
        name, soft = one.Name or "", one.Soft or 0
        hard = soft if one.Hard is None else one.Hard
        try:
            rlimits.checked(name, soft, hard)
        except rlimits.UlimitRefused as error:
            raise BadParameter(str(error)) from error
        found[name] = (name, soft, hard)
    return tuple(found.values())


def check_sysctls(config: ContainerConfig) -> None:
    """Refuse those that are the machine's, or another container's.

    Raises:
        BadParameter: One is (runc's texts), or has a value that can't be.
    """
    for name, value in config.sysctls.items():
        if "\0" in value or len(value) > 4096:
            raise BadParameter(f"invalid value of sysctl {name[:64]}: {value[:64]!r}")
    try:
        kernel_limits.sysctl_files(config)
    except sysctls.SysctlRefused as error:
        raise BadParameter(str(error)) from error


def checked_oom_score(asked: int | None) -> int:
    """Return the value of oom_score_adj, 0 for what every container has.

    Raises:
        BadParameter: There is no such one (Docker's text).
    """
    if asked is not None and not -1000 <= asked <= 1000:
        raise BadParameter(f"Invalid value {asked}, range for oom score adj is [-1000, 1000]")
    return asked or 0


def checked_cgroup_parent(asked: str | None) -> str:
    """Return the path of the cgroup that the container's is to be in, as it is in each tree.

    With and without a slash before it, it begins at the root of the trees.

    Raises:
        BadParameter: It is no path of a cgroup, or one of an engine's own.
    """
    if not asked:
        return ""
    path = posixpath.normpath(asked).strip("/")
    parts = path.split("/")
    unfit = not asked.isprintable() or any(len(os.fsencode(one)) > _NAME_MAX for one in parts)
    if unfit or ".." in asked.split("/") or path in ("", ".") or len(asked) > 1024:
        raise BadParameter(
            f"invalid cgroup parent {asked[:64]!r}: name a cgroup below the root, such as /jobs"
        )
    if _AN_ENGINE_S.fullmatch(parts[0]):
        raise BadParameter(f"invalid cgroup parent {asked[:64]!r}: that is an engine's own cgroup")
    return path


def checked_rates(
    asked: list[wire.AskedRate] | None, *, requests: bool = False
) -> tuple[tuple[str, int], ...]:
    """Return path and rate of each block device; a rate of 0 is no limit.

    Raises:
        BadParameter: It is no rate, or no block device.
    """
    most = _MOST_REQUESTS if requests else _LARGEST
    for one in asked or ():
        if not 0 <= (one.Rate or 0) <= most:
            unit = "" if requests else "[<unit>]"
            raise BadParameter(
                f"invalid rate for device: {one.Path}: {one.Rate}. The correct format is "
                f"<device-path>:<number>{unit}. Number must be a positive integer"
                + (f", {most} at most" if requests else "")
            )
    return _of_devices((one.Path or "", one.Rate or 0) for one in asked or ())


def checked_weights(asked: list[wire.AskedWeight] | None) -> tuple[tuple[str, int], ...]:
    """Return path and weight of each block device; a weight of 0 is no own one.

    Raises:
        BadParameter: It is no weight, or no block device.
    """
    for one in asked or ():
        if one.Weight and not 10 <= one.Weight <= 1000:
            raise BadParameter(
                f"invalid weight for device: {one.Path}:{one.Weight}: from 10 to 1000"
            )
    return _of_devices((one.Path or "", one.Weight or 0) for one in asked or ())


def _of_devices(asked: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    found = {}
    for path, value in asked:
        if not path.startswith("/dev/"):
            raise BadParameter(f"bad format for device path: {path[:256]!r}: it begins with /dev/")
        if value:
            try:
                block_limits.number(path)
            except (block_limits.NoSuchDevice, ValueError) as error:
                raise BadParameter(str(error)) from error
        found[path] = value
    return tuple(found.items())


def refuse_layer_size(asked: dict[str, str], place: Path) -> None:
    """Refuse `--storage-opt size=…`, saying what of the disk under `place` is in the way.

    Args:
        asked: The options.
        place: Where containers' layers are.

    Raises:
        BadParameter: An option that there is not (Docker's text).
        Unsupported: A size.
    """
    for name in asked:
        if name.lower() != "size":
            raise BadParameter(f"Unknown option {name[:64]}")
        found = file_system(str(place), MOUNTINFO.read_text())
        raise Unsupported(
            "--storage-opt is supported only for overlay over a file system with project quotas, "
            f"which mdocker does not do yet: {place} is on {found}. "
            "Make the root read-only (--read-only), and give it what may grow as a tmpfs with a "
            "size or a volume on a file system of its own"
        )


def file_system(place: str, mountinfo: str) -> str:
    """Say what a directory is on, by the text of /proc/self/mountinfo."""
    best, found = -1, "a file system that can't be told"
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4]
        if len(point) >= best and (place == point or place.startswith(point.rstrip("/") + "/")):
            kind, source, options = after.split(" ", 2)
            quota = "prjquota" in options or "pquota" in options
            words = "with" if quota else "mounted without"
            best, found = len(point), f"{source} ({kind}, {words} project quotas)"
    return found
