"""`update`."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from mdocker.client import Engine
from mdocker.commands.lifecycle import each
from mdocker.errors import FAILED, UsageError
from mdocker.limit_request import devices
from mdocker.messages import Reply, Request
from mdocker.options import flag, injected
from mdocker.output import warn
from mdocker.paths import container_path
from mdocker.restart_option import restart_policy
from mdocker.units import parse_cpus, parse_size


def update(
    container: str,
    /,
    *more: str,
    memory: Annotated[
        str, flag("--memory", "-m", help="Memory limit, such as 512m; -1 takes it away")
    ] = "",
    memory_swap: Annotated[
        str,
        flag("--memory-swap", help="Memory and swap together; -1 is no limit of swap"),
    ] = "",
    memory_reservation: Annotated[
        str,
        flag(
            "--memory-reservation",
            help="Memory that it keeps, if possible, when it is short; -1 is none",
        ),
    ] = "",
    cpus: Annotated[
        str, flag("--cpus", help="Number of CPUs, such as 0.5; -1 takes the limit away")
    ] = "",
    cpu_shares: Annotated[int, flag("--cpu-shares", "-c", help="CPU weight (1024)")] = 0,
    cpu_period: Annotated[int, flag("--cpu-period", help="CFS period in microseconds")] = 0,
    cpu_quota: Annotated[
        int, flag("--cpu-quota", help="CFS quota in microseconds; -1 takes it away")
    ] = 0,
    cpuset_cpus: Annotated[
        str,
        flag("--cpuset-cpus", help="The CPUs that it may use, such as 0-2,5; all are no limit"),
    ] = "",
    cpuset_mems: Annotated[
        str, flag("--cpuset-mems", help="The memory nodes that it may use, such as 0")
    ] = "",
    blkio_weight: Annotated[
        int,
        flag("--blkio-weight", help="Its part of a busy block device: 10 to 1000 (BFQ, iocost)"),
    ] = 0,
    memory_swappiness: Annotated[
        int | None,
        flag(
            "--memory-swappiness",
            help="How readily its memory is swapped out, 0 to 100 (cgroup v1 alone)",
        ),
    ] = None,
    oom_kill_disable: Annotated[
        bool | None,
        flag(
            "--oom-kill-disable",
            help="Out of its memory it waits, and is not killed (cgroup v1 alone); =false: killed",
        ),
    ] = None,
    kernel_memory: Annotated[
        str, flag("--kernel-memory", help="Discarded: Linux counts it with --memory")
    ] = "",
    blkio_weight_device: Annotated[
        tuple[str, ...],
        flag(
            "--blkio-weight-device",
            help="Its part of one busy block device: /dev/NAME:WEIGHT; a weight of 0 is no own one",
        ),
    ] = (),
    device_read_bps: Annotated[
        tuple[str, ...],
        flag(
            "--device-read-bps",
            help="What it may read of a block device in a second: /dev/NAME:BYTES; 0 is no limit",
        ),
    ] = (),
    device_write_bps: Annotated[
        tuple[str, ...], flag("--device-write-bps", help="The same for writing")
    ] = (),
    device_read_iops: Annotated[
        tuple[str, ...],
        flag(
            "--device-read-iops",
            help="Reads of a block device in a second: /dev/NAME:NUMBER; 0 is no limit",
        ),
    ] = (),
    device_write_iops: Annotated[
        tuple[str, ...], flag("--device-write-iops", help="The same for writing")
    ] = (),
    pids_limit: Annotated[
        int | None, flag("--pids-limit", help="Processes at most; -1 is no limit")
    ] = None,
    restart: Annotated[
        str, flag("--restart", help="no, on-failure[:MAX], always or unless-stopped")
    ] = "",
    restart_delay: Annotated[
        str, flag("--restart-delay", help="First wait before a restart; doubles each time")
    ] = "",
    restart_max_delay: Annotated[
        str, flag("--restart-max-delay", help="Longest wait before a restart; not below the first")
    ] = "",
    engine: Annotated[Engine, injected()],
) -> int:
    """Change the limits and the restart policy of containers, whether they run or not.

    What runs has its new limits at once. One that waits for a restart which the new policy would
    not have made stays ended.
    """
    limits: dict[str, Any] = {
        "Memory": _or_none(memory) or parse_size(memory, "-m, --memory") if memory else 0,
        "MemorySwap": _or_none(memory_swap) or parse_size(memory_swap, "--memory-swap")
        if memory_swap
        else 0,
        "MemoryReservation": _or_none(memory_reservation)
        or parse_size(memory_reservation, "--memory-reservation")
        if memory_reservation
        else 0,
        "CpusetCpus": cpuset_cpus,
        "CpusetMems": cpuset_mems,
        "BlkioWeight": blkio_weight,
        "NanoCpus": _or_none(cpus) or parse_cpus(cpus, "--cpus") if cpus else 0,
        "CpuShares": cpu_shares,
        "CpuPeriod": cpu_period,
        "CpuQuota": cpu_quota,
    }
    body: dict[str, Any] = {name: value for name, value in limits.items() if value}
    if pids_limit is not None:
        body["PidsLimit"] = pids_limit
    if memory_swappiness is not None:
        body["MemorySwappiness"] = memory_swappiness
    if oom_kill_disable is not None:
        body["OomKillDisable"] = oom_kill_disable
    if kernel_memory:
        body["KernelMemory"] = parse_size(kernel_memory, "--kernel-memory")
    asked = _OfDevices(
        blkio_weight_device, device_read_bps, device_read_iops, device_write_bps, device_write_iops
    )
    body |= devices(asked, FAILED)
    policy = restart_policy(restart, restart_delay, restart_max_delay, code=FAILED)
    if policy:
        body["RestartPolicy"] = policy
    if not body:
        raise UsageError(
            "nothing to update: give --restart, --restart-delay or --restart-max-delay, or a "
            "limit such as --memory or --cpus",
            FAILED,
        )
    return each(
        engine,
        (container, *more),
        lambda one: Request.make("POST", container_path(one, "update"), None, body),
        show=_show,
    )


class _OfDevices(NamedTuple):
    blkio_weight_device: tuple[str, ...]
    device_read_bps: tuple[str, ...]
    device_read_iops: tuple[str, ...]
    device_write_bps: tuple[str, ...]
    device_write_iops: tuple[str, ...]


def _or_none(text: str) -> int:
    """-1 where that was typed, which takes a limit away; else 0."""
    return -1 if text.strip() == "-1" else 0


def _show(name: str, reply: Reply) -> str:
    for warning in reply.json().get("Warnings") or ():
        warn(warning)
    return name
