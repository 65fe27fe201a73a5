"""A container's limits in the kernel's units, as its next process is to get them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from runtime import block_limits, rlimits, sysctls
from runtime.cgroups import Limits
from runtime.spec import Rlimit

if TYPE_CHECKING:
    from supervisor.container import ContainerConfig, Resources


def limits_of(resources: Resources) -> Limits:
    """What its cgroups say.

    Raises:
        NoSuchDevice: A block device is not there (any more).
    """
    return _limits(resources, block_limits.number)


def former_limits_of(resources: Resources) -> Limits:
    """The same of what it had until now; devices that are gone have no limits to take back."""

    def number(path: str) -> str:
        try:
            return block_limits.number(path)
        except block_limits.NoSuchDevice:
            return ""

    return _limits(resources, number)


def _limits(resources: Resources, number: Callable[[str], str]) -> Limits:
    period, quota = resources.cpu_period, resources.cpu_quota
    if resources.nano_cpus:
        period = 100_000
        quota = resources.nano_cpus * period // 1_000_000_000

    def devices(limits: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
        return tuple((name, value) for path, value in limits if (name := number(path)))

    return Limits(
        memory=resources.memory,
        memory_swap=resources.memory_swap,
        cpu_period=period,
        cpu_quota=quota,
        cpu_shares=resources.cpu_shares,
        pids=resources.pids or 0,
        memory_reservation=resources.memory_reservation,
        memory_swappiness=resources.memory_swappiness,
        cpuset_cpus=resources.cpuset_cpus,
        cpuset_mems=resources.cpuset_mems,
        blkio_weight=resources.blkio_weight,
        oom_kill_disable=resources.oom_kill_disable,
        blkio_weight_devices=devices(resources.blkio_weight_devices),
        device_read_bps=devices(resources.device_read_bps),
        device_write_bps=devices(resources.device_write_bps),
        device_read_iops=devices(resources.device_read_iops),
        device_write_iops=devices(resources.device_write_iops),
    )


def ulimits_of(config: ContainerConfig, defaults: tuple[Rlimit, ...]) -> tuple[Rlimit, ...]:
    """The ulimits of its processes, with the engine's `--default-ulimit`."""
    own = tuple(rlimits.checked(*one) for one in config.ulimits)
    return rlimits.with_defaults(own, defaults)


def sysctl_files(config: ContainerConfig) -> tuple[tuple[str, str], ...]:
    """The files below /proc/sys of its own namespaces, and what they are to hold.

    Raises:
        SysctlRefused: One is not of a namespace of its own.
    """
    if not config.sysctls:
        return ()
    modes, network = config.namespaces, config.network_mode
    ipc = "" if modes.ipc in ("private", "shareable", "none") else modes.ipc
    shared = network == "host" or network.startswith("container:")
    return tuple(
        (sysctls.checked(name, ipc, network if shared else "", modes.uts), value)
        for name, value in config.sysctls.items()
    )
