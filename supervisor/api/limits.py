"""The numbers of a create request, checked as Docker checks them."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from supervisor.api import wire
from supervisor.api.limit_options import checked_rates, checked_weights
from supervisor.api.number_sets import checked_set, numbers
from supervisor.container import Resources
from supervisor.errors import BadParameter

LEAST_MEMORY = 6 * 1024 * 1024
DEFAULT_SHM = 64 * 1024 * 1024
_LARGEST = 2**63 - 1


def cpus() -> int:
    """Return how many CPUs this process may use (sched_getaffinity(2))."""
    return len(os.sched_getaffinity(0))


def checked_resources(host: wire.AskedHostConfig) -> Resources:
    """Return the limits asked for.

    Raises:
        BadParameter: One is out of its range, or two contradict each other (Docker's texts).
    """
    memory, swap = _checked_memory(host.Memory or 0, host.MemorySwap or 0)
    reservation = _checked_reservation(host.MemoryReservation or 0, memory)
    nano_cpus = host.NanoCpus or 0
    count = cpus()
    if nano_cpus and not 10**7 <= nano_cpus <= count * 10**9:
        raise BadParameter(
            f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
        )
    period, quota = host.CpuPeriod or 0, host.CpuQuota or 0
    if nano_cpus and (period or quota > 0):
        other = "Period" if period else "Quota"
        raise BadParameter(f"Conflicting options: Nano CPUs and CPU {other} cannot both be set.")
    if period and not 1000 <= period <= 1_000_000:
        raise BadParameter(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if quota not in (0, -1) and not 1000 <= quota <= _LARGEST:
        raise BadParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    shares = host.CpuShares or 0
    if not 0 <= shares <= 2**18:
        raise BadParameter(f"invalid CPU shares ({shares}): give 2 to 262144, or 0 for the default")
    pids = host.PidsLimit
    if pids is not None and not -1 <= pids <= 2**22:
        raise BadParameter(f"invalid PidsLimit {pids}: give 1 to 4194304, or -1 for no limit")
    weight = host.BlkioWeight or 0
    if weight and not 10 <= weight <= 1000:
        raise BadParameter("Range of blkio weight is from 10 to 1000")
    return Resources(
        memory=memory,
        memory_swap=swap,
        nano_cpus=nano_cpus,
        cpu_period=period,
        cpu_quota=max(quota, 0),
        cpu_shares=shares,
        pids=pids if pids is not None and pids > 0 else None,
        memory_reservation=reservation,
        memory_swappiness=_checked_swappiness(host.MemorySwappiness),
        cpuset_cpus=checked_set(host.CpusetCpus or "", _available_cpus(), "cpuset cpus", "CPUs"),
        cpuset_mems=checked_set(
            host.CpusetMems or "", available_nodes(), "cpuset mems", "memory nodes"
        ),
        blkio_weight=weight,
        oom_kill_disable=bool(host.OomKillDisable) and not pure_v2(),
        blkio_weight_devices=_set(checked_weights(host.BlkioWeightDevice)),
        device_read_bps=_set(checked_rates(host.BlkioDeviceReadBps)),
        device_write_bps=_set(checked_rates(host.BlkioDeviceWriteBps)),
        device_read_iops=_set(checked_rates(host.BlkioDeviceReadIOps, requests=True)),
        device_write_iops=_set(checked_rates(host.BlkioDeviceWriteIOps, requests=True)),
    )


def _set(limits: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    """Those that are limits: 0 is none."""
    return tuple((path, value) for path, value in limits if value)


def _checked_memory(memory: int, swap: int) -> tuple[int, int]:
    if not 0 <= memory <= _LARGEST:
        raise BadParameter(f"invalid Memory {memory}: give bytes, or 0 for no limit")
    if memory and memory < LEAST_MEMORY:
        raise BadParameter("Minimum memory limit allowed is 6MB")
    if not -1 <= swap <= _LARGEST:
        raise BadParameter(f"invalid MemorySwap {swap}: give bytes, or -1 for unlimited swap")
    if swap > 0 and not memory:
        raise BadParameter(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if 0 < swap < memory:
        raise BadParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    return memory, swap


def _checked_reservation(reservation: int, memory: int) -> int:
    if not 0 <= reservation <= _LARGEST:
        raise BadParameter(f"invalid MemoryReservation {reservation}: give bytes, or 0 for none")
    if reservation and reservation < LEAST_MEMORY:
        raise BadParameter("Minimum memory reservation allowed is 6MB")
    if 0 < memory < reservation:
        raise BadParameter(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )
    return reservation


def _checked_swappiness(asked: int | None) -> int | None:
    if asked is None or asked == -1:
        return None
    if not 0 <= asked <= 100:
        raise BadParameter(
            f"invalid value: {asked}, valid memory swappiness range is 0-100 (-1 for the default)"
        )
    return None if pure_v2() else asked


def warnings(host: wire.AskedHostConfig | wire.AskedUpdate) -> list[str]:
    """Return what is said of limits that this machine has not, as in Docker."""
    told = []
    if host.MemorySwappiness not in (None, -1) and pure_v2():
        told.append(
            "Your kernel does not support memory swappiness capabilities or the cgroup is not "
            "mounted. Memory swappiness discarded."
        )
    if host.KernelMemory and host.KernelMemory > 0:
        told.append(
            "Your kernel does not support kernel memory limit capabilities or the cgroup is not "
            "mounted. Limitation discarded."
        )
    if host.OomKillDisable and pure_v2():
        told.append("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
    elif host.OomKillDisable and not host.Memory and isinstance(host, wire.AskedHostConfig):
        told.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can "
            "result in the system running out of resources."
        )
    return told


@functools.cache
def pure_v2() -> bool:
    """Tell whether this machine has cgroup v2 and nothing else."""
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def _available_cpus() -> frozenset[int]:
    return frozenset(os.sched_getaffinity(0))


@functools.cache
def available_nodes() -> frozenset[int]:
    """Return the numbers of this machine's memory nodes; a kernel without NUMA has node 0."""
    try:
        listed = Path("/sys/devices/system/node/has_memory").read_text().strip()
    except OSError:
        return frozenset([0])
    return numbers(listed) or frozenset([0])


def checked_shm_size(asked: int | None) -> int:
    """Return the size of /dev/shm in bytes.

    Raises:
        BadParameter: It is negative or absurd.
    """
    size = asked or DEFAULT_SHM
    if not 0 < size <= _LARGEST:
        raise BadParameter(f"SHM size can not be {size}: give bytes, or 0 for 64 MiB")
    return size
