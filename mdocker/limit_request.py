"""Ulimits, sysctls and limits of block devices, from the command line to the API. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from mdocker.errors import REFUSED, UsageError
from mdocker.units import parse_size

if TYPE_CHECKING:
    from mdocker.container_options import ContainerOptions


class DeviceOptions(Protocol):
    """The options about single block devices, which `update` has, too."""

    @property
    def blkio_weight_device(self) -> tuple[str, ...]: ...
    @property
    def device_read_bps(self) -> tuple[str, ...]: ...
    @property
    def device_read_iops(self) -> tuple[str, ...]: ...
    @property
    def device_write_bps(self) -> tuple[str, ...]: ...
    @property
    def device_write_iops(self) -> tuple[str, ...]: ...


def limits(options: ContainerOptions) -> dict[str, Any]:
    """What HostConfig says of them; nothing of what was not asked.

    Raises:
        UsageError: One is none.
    """
    asked: dict[str, Any] = {
        "OomKillDisable": options.oom_kill_disable,
        "OomScoreAdj": options.oom_score_adj,
        "KernelMemory": parse_size(options.kernel_memory, "--kernel-memory")
        if options.kernel_memory
        else 0,
        "CgroupParent": options.cgroup_parent,
        "Ulimits": [ulimit(word) for word in options.ulimit],
        "Sysctls": dict(_pair(word, "--sysctl") for word in options.sysctl),
        "StorageOpt": dict(_pair(word, "--storage-opt") for word in options.storage_opt),
        **devices(options),
    }
    return {key: value for key, value in asked.items() if value}


def devices(options: DeviceOptions, code: int = REFUSED) -> dict[str, list[dict[str, Any]]]:
    """The limits of block devices; nothing of what was not asked.

    Raises:
        UsageError: One is none; with `code`.
    """
    read, write = options.device_read_bps, options.device_write_bps
    asked = {
        "BlkioWeightDevice": [
            _device(word, "Weight", "--blkio-weight-device", code)
            for word in options.blkio_weight_device
        ],
        "BlkioDeviceReadBps": [_device(word, "Rate", "--device-read-bps", code) for word in read],
        "BlkioDeviceWriteBps": [
            _device(word, "Rate", "--device-write-bps", code) for word in write
        ],
        "BlkioDeviceReadIOps": [
            _device(word, "Rate", "--device-read-iops", code) for word in options.device_read_iops
        ],
        "BlkioDeviceWriteIOps": [
            _device(word, "Rate", "--device-write-iops", code) for word in options.device_write_iops
        ],
    }
    return {key: value for key, value in asked.items() if value}


def ulimit(word: str) -> dict[str, Any]:
    """NAME=SOFT[:HARD] as the API has it; the engine knows which names there are.

    Raises:
        UsageError: It is none.
    """
    name, equals, numbers = word.partition("=")
    soft, colon, hard = numbers.partition(":")
    try:
        found = int(soft), int(hard) if colon else int(soft)
    except ValueError:
        found = None
    if not equals or found is None:
        raise UsageError(
            f'invalid argument "{word}" for "--ulimit": it is NAME=SOFT[:HARD], such as '
            "nofile=1024:4096; -1 is no limit"
        )
    return {"Name": name, "Soft": found[0], "Hard": found[1]}


def _device(word: str, kind: str, option: str, code: int) -> dict[str, Any]:
    path, colon, value = word.rpartition(":")
    if not colon or not path.startswith("/dev/"):
        raise UsageError(
            f'invalid argument "{word}" for "{option}": it is /dev/NAME:'
            + ("WEIGHT" if kind == "Weight" else "RATE"),
            code,
        )
    number: int | None
    if option.endswith("-bps"):
        number = parse_size(value, option)
    else:
        number = int(value) if value.isascii() and value.isdigit() else None
    if number is None:
        raise UsageError(f'invalid argument "{word}" for "{option}": not a number: {value}', code)
    return {"Path": path, kind: number}


def _pair(word: str, option: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not key or not equals:
        raise UsageError(f'invalid argument "{word}" for "{option}": must be KEY=VALUE')
    return key, value
