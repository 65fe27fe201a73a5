"""What containers use, read from their cgroups; from /proc where no controller counts.

    time on processors   cpu.stat of the v2 tree, which needs no controller
    throttling           cpu.stat where the cpu controller is
    memory               v1: memory.usage_in_bytes, v2: memory.current; else `memory_use`
    processes            pids.current; else the threads that the v2 tree lists
    block devices        io.stat of v2; on v1 nobody counts them for us: unknown

On a hybrid machine a container has v1 controllers only where it has limits (`runtime/cgroups.py`).
Sources: cgroups(7), and the kernel's cgroup-v1/memory and cgroup-v2.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtime.cgroups import Cgroups
from runtime.memory_use import anonymous_bytes

_NS_PER_TICK = 10**9 // os.sysconf("SC_CLK_TCK")
_UNLIMITED = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Machine:
    """What all containers share.

    Attributes:
        cpu_ns: Time of all processors since the boot, idle or not.
        cpus: Processors that are online.
        memory: Bytes of RAM.
    """

    cpu_ns: int
    cpus: int
    memory: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes.

    Attributes:
        usage: With the page cache, where a controller counts it.
        limit: 0 for none.
        peak: The most so far; None where nobody knows.
        failures: How often the limit was met; None where nobody knows.
        details: The kernel's memory.stat; of a container without a controller `anon` alone.
    """

    usage: int
    limit: int = 0
    peak: int | None = None
    failures: int | None = None
    details: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transfer:
    """What went to or from one block device; bytes and requests."""

    major: int
    minor: int
    read_bytes: int
    written_bytes: int
    reads: int
    writes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What one container uses; times in ns since its start.

    Attributes:
        at_ns: When it was read, since the epoch.
        machine_cpu_ns: The machine's `cpu_ns` at that time.
        pids: Processes and threads.
        pids_limit: 2**64 - 1 for none.
        transfers: None where nobody knows.
    """

    at_ns: int
    machine_cpu_ns: int
    cpu_ns: int
    user_ns: int
    system_ns: int
    periods: int
    throttled_periods: int
    throttled_ns: int
    memory: Memory
    pids: int
    pids_limit: int
    transfers: tuple[Transfer, ...] | None


def machine() -> Machine:
    """What the machine has (proc_stat(5), proc_meminfo(5))."""
    return Machine(*_processors(), _ram())


def _processors() -> tuple[int, int]:
    # user nice system idle iowait irq softirq: what Docker adds up; guests are within user.
    lines = _read("/proc/stat").split(b"\nintr", 1)[0].splitlines()
    total = sum(map(int, lines[0].split()[1:8])) * _NS_PER_TICK
    return total, len(lines) - 1


def _ram() -> int:
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith(b"MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def usage(
    cgroups: Cgroups, container_id: str, machine_cpu_ns: int, *, memory_uncounted: bool = False
) -> Usage | None:
    """Read what a container uses; None where it has ended.

    Args:
        cgroups: The engine's.
        container_id: Its full id.
        machine_cpu_ns: As `Usage` has it; read once for all, as it takes the kernel long.
        memory_uncounted: Its memory controller does not know of all that it has.

    Raises:
        OSError: No descriptors.
    """
    unified = f"{cgroups.unified(container_id)}"
    places = {name: f"{path}" for name, path in cgroups.v1(container_id).items()}
    try:
        cpu = _numbers(f"{unified}/cpu.stat")
        throttling = _throttling(cpu, places.get("cpu"))
        memory = _memory(unified, places.get("memory"), memory_uncounted)
        pids, pids_limit = _pids(unified, places.get("pids"))
        return Usage(
            at_ns=time.time_ns(),
            machine_cpu_ns=machine_cpu_ns,
            cpu_ns=cpu["usage_usec"] * 1000,
            user_ns=cpu["user_usec"] * 1000,
            system_ns=cpu["system_usec"] * 1000,
            periods=throttling[0],
            throttled_periods=throttling[1],
            throttled_ns=throttling[2],
            memory=memory,
            pids=pids,
            pids_limit=pids_limit,
            transfers=_transfers(f"{unified}/io.stat"),
        )
    except (FileNotFoundError, ProcessLookupError, KeyError):
        return None
    except OSError as error:
        if error.errno == errno.ENODEV:  # it was removed while a file of it was open
            return None
        raise


def _throttling(cpu: dict[str, int], v1: str | None) -> tuple[int, int, int]:
    if v1 is None:
        throttled = cpu.get("throttled_usec", 0) * 1000
    else:
        try:
            cpu = _numbers(f"{v1}/cpu.stat")
        except FileNotFoundError:
            cpu = {}
        throttled = cpu.get("throttled_time", 0)
    return cpu.get("nr_periods", 0), cpu.get("nr_throttled", 0), throttled


def _memory(unified: str, v1: str | None, uncounted: bool) -> Memory:
    counted = None
    with contextlib.suppress(FileNotFoundError):  # no controller
        counted = _memory_v2(unified) if v1 is None else _memory_v1(v1)
    if counted is not None and not uncounted:
        return counted
    held = anonymous_bytes(int(pid) for pid in _listed(unified, "cgroup.procs"))
    if counted is None:
        return Memory(usage=held, details={"anon": held})
    if held <= counted.usage:
        return counted
    return Memory(held, counted.limit, counted.peak, counted.failures, counted.details)


def _memory_v1(directory: str) -> Memory:
    limit = int(_read(f"{directory}/memory.limit_in_bytes"))
    return Memory(
        usage=int(_read(f"{directory}/memory.usage_in_bytes")),
        limit=limit if limit < 1 << 62 else 0,
        peak=int(_read(f"{directory}/memory.max_usage_in_bytes")),
        failures=int(_read(f"{directory}/memory.failcnt")),
        details=_numbers(f"{directory}/memory.stat"),
    )


def _memory_v2(directory: str) -> Memory:
    limit = _read(f"{directory}/memory.max").strip()
    return Memory(
        usage=int(_read(f"{directory}/memory.current")),
        limit=0 if limit == b"max" else int(limit),
        details=_numbers(f"{directory}/memory.stat"),
    )


def _pids(unified: str, v1: str | None) -> tuple[int, int]:
    directory = unified if v1 is None else v1
    try:
        current = int(_read(f"{directory}/pids.current"))
        limit = _read(f"{directory}/pids.max").strip()
    except FileNotFoundError:
        return len(_listed(unified, "cgroup.threads")), _UNLIMITED
    return current, _UNLIMITED if limit == b"max" else int(limit)


def _listed(directory: str, name: str) -> list[bytes]:
    """Who is in a cgroup and in those right below it: commands that have entered."""
    found = _read(f"{directory}/{name}").split()
    if os.stat(directory).st_nlink > 2:  # a link for each directory in it
        with os.scandir(directory) as entries:
            below = [entry.path for entry in entries if entry.is_dir()]
        for path in below:
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                found += _read(f"{path}/{name}").split()
    return found


def _transfers(path: str) -> tuple[Transfer, ...] | None:
    try:
        lines = _read(path).splitlines()
    except FileNotFoundError:
        return None
    found = []
    for line in lines:
        device, *words = line.split()
        major, _, minor = device.partition(b":")
        values = dict(word.split(b"=", 1) for word in words if b"=" in word)
        if b"rbytes" in values:
            numbers = (
                int(values.get(name, 0)) for name in (b"rbytes", b"wbytes", b"rios", b"wios")
            )
            found.append(Transfer(int(major), int(minor), *numbers))
    return tuple(found)


def _numbers(path: str) -> dict[str, int]:
    words = _read(path).split()
    return {key.decode(): int(value) for key, value in zip(words[::2], words[1::2], strict=True)}


def _read(path: str | Path) -> bytes:
    # Not open(): this is done several times for each container, each second.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(fd, 65536):
            pieces.append(piece)
            if len(piece) < 65536:
                break
        return b"".join(pieces)
    finally:
        os.close(fd)


def usages(cgroups: Cgroups, containers: Iterable[tuple[str, bool]]) -> dict[str, Usage]:
    """Read what several containers use, one after the other; those that have ended are missing.

    Args:
        cgroups: The engine's.
        containers: Id, and `memory_uncounted`, of each.

    Raises:
        OSError: No descriptors.
    """
    found = {}
    machine_cpu_ns, _ = _processors()
    for container_id, uncounted in containers:
        one = usage(cgroups, container_id, machine_cpu_ns, memory_uncounted=uncounted)
        if one is not None:
            found[container_id] = one
    return found
