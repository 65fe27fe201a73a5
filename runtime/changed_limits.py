"""Giving a container that runs other limits, at once (cgroups(7)).

On a hybrid machine one that was started without limits is in no v1 cgroup, since joining one takes
the kernel some milliseconds. It joins here, process by process, frozen meanwhile if it forks faster
than we look. What memory it had before stays charged to where it was (the kernel has given up
moving charges): only what it takes from then on counts.
"""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path
from typing import NamedTuple

from runtime import block_limits, cpuset_trees, freezer, process_stat
from runtime.cgroup_limits import Limits, check_swap, write, write_weight
from runtime.cgroups import Cgroups
from runtime.errors import CgroupsUnusable
from runtime.memory_use import anonymous_bytes

_LOOKS_WITHOUT_FREEZING = 3
_MOST_LOOKS = 100

_FIELDS = {
    "memory": (
        *("memory", "memory_swap", "memory_reservation"),
        *("memory_swappiness", "oom_kill_disable"),
    ),
    "cpu": ("cpu_period", "cpu_quota", "cpu_shares"),
    "pids": ("pids",),
    "cpuset": ("cpuset_cpus", "cpuset_mems"),
    "blkio": ("blkio_weight", *block_limits.FIELDS),
}
"""What of the limits each controller sees to."""


class MemoryInUse(OSError):
    """The container uses more memory than it is to have (EBUSY)."""

    def __init__(self, limit: int, usage: int) -> None:
        super().__init__(
            errno.EBUSY, f"unable to set memory limit to {limit} (current usage: {usage})"
        )


class Change(NamedTuple):
    """What had to be done.

    Attributes:
        uncounted: Bytes of memory that it had before and that its new limit does not count.
    """

    uncounted: int = 0


def change(cgroups: Cgroups, container_id: str, before: Limits, after: Limits) -> Change:
    """Write the limits that differ; all of them, or none.

    It may take the kernel long to get memory back: call it in a thread.

    Raises:
        MemoryInUse: There is more in it than the new limit of memory.
        CgroupsUnusable: The machine does not offer a controller.
        OSError: The kernel refused a value; the error names the file.
    """
    changed = [name for name in _FIELDS if _differ(name, before, after)]
    directories = _directories(cgroups, container_id, changed, after)
    uncounted = 0
    done: list[str] = []
    try:
        for name in changed:
            directory = directories.get(name)
            if directory is None:
                continue  # it was without this limit, and stays so
            if name == "memory":
                uncounted = _check_memory(cgroups, container_id, directory, after)
            done.append(name)
            _write(cgroups.hybrid, name, directory, before, after)
            if cgroups.hybrid:
                _join(cgroups, container_id, directory)
    except BaseException:
        for name in reversed(done):
            with contextlib.suppress(OSError, CgroupsUnusable):
                _write(cgroups.hybrid, name, directories[name], after, before)
        raise
    return Change(uncounted)


def _differ(name: str, before: Limits, after: Limits) -> bool:
    return any(getattr(before, field) != getattr(after, field) for field in _FIELDS[name])


def _directories(
    cgroups: Cgroups, container_id: str, changed: list[str], after: Limits
) -> dict[str, Path]:
    """Where each controller's values are; those that are needed now, and those that are there."""
    needed = [name for name in changed if name in after.controllers()]
    unified = cgroups.unified(container_id)
    if not cgroups.hybrid:
        cgroups.enable(tuple(needed), container_id)
        return {name: unified for name in changed if _offered(unified, name)}
    found = {}
    trees = cgroups.v1(container_id)
    for name in changed:
        if name in needed:
            found[name] = cgroups.make_v1(container_id, name)
        elif name in trees and trees[name].is_dir():
            found[name] = trees[name]
    return found


def _offered(directory: Path, name: str) -> bool:
    offered = (directory / "cgroup.controllers").read_text().split()
    return ("io" if name == "blkio" else name) in offered


def _check_memory(cgroups: Cgroups, container_id: str, directory: Path, after: Limits) -> int:
    """Return how much of its memory the limit will not count.

    Raises:
        MemoryInUse: It has more than it may have from now on. Where the kernel counts all of it on
            v1 it says so itself, when it can't get enough back.
    """
    if not after.memory:
        return 0
    held = anonymous_bytes(cgroups.pids(container_id))
    file = directory / ("memory.usage_in_bytes" if cgroups.hybrid else "memory.current")
    counted = int(file.read_text())
    # On v2 the kernel would end processes until the rest fits.
    if held > after.memory:
        raise MemoryInUse(after.memory, max(held, counted))
    return max(0, held - counted)


def _write(hybrid: bool, name: str, directory: Path, before: Limits, limits: Limits) -> None:
    """Write all values of one controller, also those of no limit; of devices what differs."""
    if name == "memory":
        (_write_v1_memory if hybrid else _write_v2_memory)(directory, limits)
    elif name == "pids":
        write(directory / "pids.max", str(limits.pids) if (limits.pids or 0) > 0 else "max")
    elif name == "cpuset":
        _write_cpuset(hybrid, directory, limits)
    elif name == "blkio":
        if limits.blkio_weight != before.blkio_weight:
            write_weight(directory, limits.blkio_weight)
        block_limits.apply(hybrid, directory, before, limits)
    elif hybrid:
        # Both are checked together: a quota may not be shorter than 1 ms, nor a period.
        write(directory / "cpu.cfs_period_us", str(limits.cpu_period or 100_000))
        quota = limits.cpu_quota if limits.cpu_quota > 0 else -1
        write(directory / "cpu.cfs_quota_us", str(quota))
        write(directory / "cpu.shares", str(limits.cpu_shares or 1024))
    else:
        quota_or_max = str(limits.cpu_quota) if limits.cpu_quota > 0 else "max"
        write(directory / "cpu.max", f"{quota_or_max} {limits.cpu_period or 100_000}")
        shares = limits.cpu_shares
        weight = 1 + (shares - 2) * 9999 // 262142 if shares else 100
        write(directory / "cpu.weight", str(weight))


def _write_cpuset(hybrid: bool, directory: Path, limits: Limits) -> None:
    for name, value in zip(
        cpuset_trees.FILES, (limits.cpuset_cpus, limits.cpuset_mems), strict=True
    ):
        # None is all that the directory above has: on v2 by an empty line.
        inherited = (directory.parent / name).read_text().strip() if hybrid else ""
        write(directory / name, value or inherited or "\n")


def _write_v1_memory(directory: Path, limits: Limits) -> None:
    limit = limits.memory or -1
    swap = limits.memory_swap or (2 * limits.memory if limits.memory else -1)
    files = [
        (directory / "memory.limit_in_bytes", limit),
        (directory / "memory.memsw.limit_in_bytes", swap),
    ]
    if not files[1][0].exists() and not limits.memory_swap:
        del files[1]  # no accounting of swap, and nobody asks for it
    elif swap < 0 or swap > int(files[1][0].read_text()):
        # Memory and swap together are never less than memory: a rise begins with them.
        files.reverse()
    try:
        for file, value in files:
            check_swap(file)
            write(file, str(value))
        write(directory / "memory.soft_limit_in_bytes", str(limits.memory_reservation or -1))
        _write_v1_oom(directory, limits)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        usage = int((directory / "memory.usage_in_bytes").read_text())
        raise MemoryInUse(limits.memory, usage) from error


def _write_v1_oom(directory: Path, limits: Limits) -> None:
    swappiness = limits.memory_swappiness
    if swappiness is None:
        swappiness = int((directory.parent / "memory.swappiness").read_text())
    write(directory / "memory.swappiness", str(swappiness))
    write(directory / "memory.oom_control", str(int(limits.oom_kill_disable)))


def _write_v2_memory(directory: Path, limits: Limits) -> None:
    write(directory / "memory.max", str(limits.memory or "max"))
    swap = limits.memory_swap
    allowed = str(max(0, swap - limits.memory) if swap > 0 else limits.memory)
    if swap < 0 or not limits.memory:
        allowed = "max"
    file = directory / "memory.swap.max"
    if swap or file.exists():  # else there is no accounting of swap, and nobody asks for it
        check_swap(file)
        write(file, allowed)
    low = directory / "memory.low"
    if limits.memory_reservation or low.exists():
        write(low, str(limits.memory_reservation))


def _join(cgroups: Cgroups, container_id: str, directory: Path) -> None:
    """Move each process of a container into a v1 cgroup, until no look finds another outside."""
    unified = cgroups.unified(container_id)
    frozen_by_us = False
    try:
        for look in range(_MOST_LOOKS):
            inside = {int(pid) for pid in (directory / "cgroup.procs").read_text().split()}
            outside = cgroups.pids(container_id) - inside
            if look:
                # The kernel moves none that ends, and says that it did: those were told to.
                outside = {pid for pid in outside if not process_stat.is_ending(pid)}
            if not outside:
                return
            if look == _LOOKS_WITHOUT_FREEZING and not freezer.is_to_be_frozen(unified):
                freezer.freeze(unified)
                frozen_by_us = True
            for pid in outside:
                _move(pid, directory)
        raise OSError(
            errno.EAGAIN, f"its processes can't all be moved: {len(outside)} stay outside"
        )
    finally:
        if frozen_by_us:
            freezer.thaw(unified)


def _move(pid: int, directory: Path) -> None:
    try:
        write(directory / "cgroup.procs", str(pid))
    except OSError as error:
        if error.errno != errno.ESRCH:  # it has just ended
            raise
