"""What a container may take of single block devices: rates and weights, by their cgroup files.

v1's blkio controller has a file for each kind of rate, v2's io controller one for all four; weights
are there where the device's scheduler is BFQ, or where v2 has I/O cost (the kernel's
cgroup-v1/blkio-controller and cgroup-v2). On v1 only what is read, or written around the page cache
(O_DIRECT), counts: what the kernel writes back later is nobody's.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from runtime.cgroup_limits import Limits, write
from runtime.errors import CgroupsUnusable, RuntimeRefused

_RATES = {
    "device_read_bps": ("blkio.throttle.read_bps_device", "rbps"),
    "device_write_bps": ("blkio.throttle.write_bps_device", "wbps"),
    "device_read_iops": ("blkio.throttle.read_iops_device", "riops"),
    "device_write_iops": ("blkio.throttle.write_iops_device", "wiops"),
}
"""By the field of `Limits`: v1's file, and the word in v2's."""

_WEIGHTS = ("blkio.bfq.weight_device", "blkio.weight_device", "io.bfq.weight", "io.weight")
"""As in `cgroup_limits.write_weight`; the last alone is linear to 10000."""

FIELDS = (*_RATES, "blkio_weight_devices")


class NoSuchDevice(RuntimeRefused):
    """What is to be limited is not there, or no whole block device."""


def number(path: str, sys_devices: str = "/sys/dev/block") -> str:
    """The "MAJOR:MINOR" of a block device.

    Raises:
        NoSuchDevice: It is not there, no block device, or a part of one.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        raise NoSuchDevice(f"block device {path}: {(error.strerror or '').lower()}") from error
    if not stat.S_ISBLK(found.st_mode):
        raise NoSuchDevice(f"{path} is no block device")
    name = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    if os.path.exists(f"{sys_devices}/{name}/partition"):
        raise NoSuchDevice(
            f"{path} is a partition: the kernel limits whole disks only, name the disk it is on"
        )
    return name


def apply(hybrid: bool, directory: Path, before: Limits, after: Limits) -> None:
    """Write what differs of two containers' limits of devices.

    Raises:
        CgroupsUnusable: This kernel knows no such limits.
        OSError: It refused a value; the error names the file.
    """
    for name, line in _rates(hybrid, before, after):
        if not (directory / name).exists():
            raise CgroupsUnusable(
                "a limit of a block device's rate needs a kernel that can throttle block I/O "
                "(CONFIG_BLK_DEV_THROTTLING), which this one can't"
            )
        write(directory / name, line)
    weights = _differing(before.blkio_weight_devices, after.blkio_weight_devices)
    if weights:
        _write_weights(directory, weights)


def _differing(
    before: tuple[tuple[str, int], ...], after: tuple[tuple[str, int], ...]
) -> list[tuple[str, int]]:
    """Device and new value of what is not as it was; 0 where it has none any more."""
    old, new = dict(before), dict(after)
    devices = dict.fromkeys((*old, *new))
    return [(one, new.get(one, 0)) for one in devices if old.get(one, 0) != new.get(one, 0)]


def _rates(hybrid: bool, before: Limits, after: Limits) -> list[tuple[str, str]]:
    lines = []
    for field, (file, word) in _RATES.items():
        for device, rate in _differing(getattr(before, field), getattr(after, field)):
            if hybrid:
                lines.append((file, f"{device} {rate}"))
            else:
                lines.append(("io.max", f"{device} {word}={rate or 'max'}"))
    return lines


def _write_weights(directory: Path, weights: list[tuple[str, int]]) -> None:
    file = next((name for name in _WEIGHTS if (directory / name).exists()), "")
    if not file:
        raise CgroupsUnusable(
            "a block device's weight needs a kernel with the BFQ scheduler's cgroups or with I/O "
            "cost (CONFIG_BFQ_GROUP_IOSCHED, CONFIG_BLK_CGROUP_IOCOST), which this one has not"
        )
    for device, weight in weights:
        asked = 1 + (weight - 10) * 9999 // 990 if file == "io.weight" else weight
        try:
            write(directory / file, f"{device} {asked if weight else 'default'}")
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            raise CgroupsUnusable(
                f"block device {device} takes no weight: its scheduler is not bfq "
                f"(/sys/dev/block/{device}/queue/scheduler)"
            ) from error
