"""What a container may use, and which file of which controller says so (cgroups(7))."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import CgroupsUnusable


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container may use. 0 is no limit.

    Attributes:
        memory: Bytes.
        memory_swap: Bytes of memory and swap together; 0 is twice `memory`, -1 no limit on swap.
        cpu_period: Microseconds; 0 is the kernel's 100,000.
        cpu_quota: Microseconds in each period.
        cpu_shares: Relative weight as on v1: 2 to 262144, 1024 is the kernel's default.
        pids: Processes and threads; None, 0 and -1 are no limit.
        memory_reservation: Bytes that the kernel tries to leave it when memory gets short.
        memory_swappiness: 0 to 100; None is the kernel's default. v1 alone has it.
        cpuset_cpus: The CPUs that it may use, as in "0-2,5"; empty for all.
        cpuset_mems: The same for memory nodes.
        blkio_weight: Its part of a busy block device, 10 to 1000; 0 is the kernel's default.
        oom_kill_disable: Who wants more memory than there is waits, and is not killed. v1 alone has
            it.
        blkio_weight_devices: The weight for single devices: "MAJOR:MINOR", 10 to 1000.
        device_read_bps: Bytes that it may read of a device in a second: "MAJOR:MINOR", bytes.
        device_write_bps: The same for writing.
        device_read_iops: Requests for reading in a second.
        device_write_iops: The same for writing.
    """

    memory: int = 0
    memory_swap: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_shares: int = 0
    pids: int | None = None
    memory_reservation: int = 0
    memory_swappiness: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    blkio_weight: int = 0
    oom_kill_disable: bool = False
    blkio_weight_devices: tuple[tuple[str, int], ...] = ()
    device_read_bps: tuple[tuple[str, int], ...] = ()
    device_write_bps: tuple[tuple[str, int], ...] = ()
    device_read_iops: tuple[tuple[str, int], ...] = ()
    device_write_iops: tuple[tuple[str, int], ...] = ()

    def controllers(self) -> tuple[str, ...]:
        """The controllers that have something to do."""
        wanted = []
        odd = self.memory_swappiness is not None or self.oom_kill_disable
        if self.memory or self.memory_swap > 0 or self.memory_reservation or odd:
            wanted.append("memory")
        if self.cpu_quota > 0 or self.cpu_period or self.cpu_shares:
            wanted.append("cpu")
        if self.pids is not None and self.pids > 0:
            wanted.append("pids")
        if self.cpuset_cpus or self.cpuset_mems:
            wanted.append("cpuset")
        rates = (*self.device_read_bps, *self.device_write_bps)
        requests = (*self.device_read_iops, *self.device_write_iops)
        if self.blkio_weight or self.blkio_weight_devices or rates or requests:
            wanted.append("blkio")
        return tuple(wanted)


NO_LIMITS = Limits()
_OF_SWAP = ("memory.memsw.limit_in_bytes", "memory.swap.max")


def v1_values(controller: str, limits: Limits) -> dict[str, str]:
    """File and value for one v1 controller, in the order in which the kernel accepts them."""
    values = {}
    if controller == "memory":
        if limits.memory:
            values["memory.limit_in_bytes"] = str(limits.memory)
        swap = limits.memory_swap or 2 * limits.memory
        # The kernel wants memsw >= limit, and both start at their highest: limit first.
        if swap:
            values["memory.memsw.limit_in_bytes" + ("" if limits.memory_swap else "?")] = str(swap)
        if limits.memory_reservation:
            values["memory.soft_limit_in_bytes"] = str(limits.memory_reservation)
        if limits.memory_swappiness is not None:
            values["memory.swappiness"] = str(limits.memory_swappiness)
        if limits.oom_kill_disable:
            values["memory.oom_control"] = "1"
    elif controller == "cpu":
        if limits.cpu_period:
            values["cpu.cfs_period_us"] = str(limits.cpu_period)
        if limits.cpu_quota > 0:
            values["cpu.cfs_quota_us"] = str(limits.cpu_quota)
        if limits.cpu_shares:
            values["cpu.shares"] = str(limits.cpu_shares)
    elif controller == "pids":
        if limits.pids:
            values["pids.max"] = str(limits.pids)
    elif controller == "cpuset":
        values.update(_cpuset(limits))
    return values


def _cpuset(limits: Limits) -> dict[str, str]:
    named = {"cpuset.cpus": limits.cpuset_cpus, "cpuset.mems": limits.cpuset_mems}
    return {name: value for name, value in named.items() if value}


def v2_values(limits: Limits) -> dict[str, str]:
    """File and value for v2, from v1's units."""
    values = {}
    if limits.memory:
        values["memory.max"] = str(limits.memory)
    if limits.memory_swap < 0:
        values["memory.swap.max?"] = "max"
    elif limits.memory_swap:
        values["memory.swap.max"] = str(max(0, limits.memory_swap - limits.memory))
    elif limits.memory:
        values["memory.swap.max?"] = str(limits.memory)
    if limits.cpu_quota > 0 or limits.cpu_period:
        quota = str(limits.cpu_quota) if limits.cpu_quota > 0 else "max"
        values["cpu.max"] = f"{quota} {limits.cpu_period or 100_000}"
    if limits.cpu_shares:
        # Linear from [2, 262144] to [1, 10000], as the OCI runtimes have agreed.
        values["cpu.weight"] = str(1 + (limits.cpu_shares - 2) * 9999 // 262142)
    if limits.pids is not None and limits.pids > 0:
        values["pids.max"] = str(limits.pids)
    if limits.memory_reservation:
        values["memory.low"] = str(limits.memory_reservation)
    return values | _cpuset(limits)


def write_all(directory: Path, values: dict[str, str]) -> None:
    """Write each value; a name that ends in "?" may be missing (no swap accounting)."""
    for name, value in values.items():
        file = directory / name.rstrip("?")
        if name.endswith("?") and not file.exists():
            continue
        check_swap(file)
        write(file, value)


def check_swap(file: Path) -> None:
    """Refuse a limit of swap where the kernel counts none.

    Raises:
        CgroupsUnusable: The file of one is not there.
    """
    if file.name in _OF_SWAP and not file.exists():
        raise CgroupsUnusable(
            "this kernel counts no swap (boot it with swapaccount=1): leave --memory-swap out"
        )


def write_weight(directory: Path, weight: int) -> None:
    """Write a weight of block I/O (10 to 1000; 0 is the default) to whichever file takes one.

    Raises:
        CgroupsUnusable: This kernel's I/O controller knows no weights.
        OSError: It refused the value.
    """
    asked = weight or 100
    # BFQ's go first: where its scheduler is in use the others have no effect. io.weight is linear
    # from [10, 1000] to [1, 10000], as the OCI runtimes have agreed; its default is 100.
    linear = 1 + (weight - 10) * 9999 // 990 if weight else 100
    for name, value in (
        ("blkio.bfq.weight", asked),
        ("blkio.weight", weight or 500),
        ("io.bfq.weight", asked),
        ("io.weight", linear),
    ):
        if (directory / name).exists():
            write(directory / name, str(value))
            return
    raise CgroupsUnusable(
        "a block I/O weight needs a kernel with the BFQ scheduler's cgroups or with I/O cost "
        "(CONFIG_BFQ_GROUP_IOSCHED, CONFIG_BLK_CGROUP_IOCOST), which this one has not"
    )


def write(file: Path, value: str) -> None:
    """One write(2), as the kernel wants it; never creates the file."""
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        words = f"can't write {value} ({error.strerror})"
        raise OSError(error.errno, words, str(file)) from error
