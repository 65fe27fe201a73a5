"""POST /containers/{id}/update: other limits, another restart policy."""

from __future__ import annotations

import msgspec

from supervisor.api import limits, wire
from supervisor.api.containers import found
from supervisor.api.limit_options import checked_rates, checked_weights
from supervisor.api.limits import checked_resources
from supervisor.api.messages import Reply, Request
from supervisor.api.options import refuse_unsupported
from supervisor.api.parameters import json_object
from supervisor.api.restart_options import checked_policy
from supervisor.container import ContainerConfig, Resources
from supervisor.engine import Engine
from supervisor.errors import BadParameter, Conflict

_encode = msgspec.json.Encoder().encode

_HARMLESS = {"MemorySwappiness": -1}
"""What clients send of options that nobody asked for."""


async def update(engine: Engine, request: Request) -> Reply:
    """POST /containers/{id}/update"""
    container = found(engine, request)
    body = await json_object(request)
    sent = {name: value for name, value in body.items() if value != _HARMLESS.get(name, "")}
    refuse_unsupported(sent, "Update", wire.AskedUpdate.__struct_fields__)
    try:
        asked = msgspec.convert(sent, wire.AskedUpdate)
    except msgspec.ValidationError as error:
        raise BadParameter(f"invalid request: {error}") from error

    def change(before: ContainerConfig) -> ContainerConfig:
        return msgspec.structs.replace(
            before,
            restart=checked_policy(asked.RestartPolicy, before.restart),
            resources=updated_resources(container.id, asked, before.resources),
        )

    warnings = limits.warnings(asked) + await engine.update(container, change)
    return Reply(body=_encode(wire.Updated(Warnings=warnings)))


def updated_resources(id: str, asked: wire.AskedUpdate, before: Resources) -> Resources:
    """Return the limits that follow from what is asked; 0 leaves one as it is, -1 takes it away.

    Args:
        id: The container's, for the texts.

    Raises:
        BadParameter: One is out of its range, or two contradict each other (Docker's texts).
        Conflict: One contradicts what was set before (Docker's texts).
    """
    # Docker's client says -1 of CPUs as a billion times that.
    asked = msgspec.structs.replace(asked, NanoCpus=max(asked.NanoCpus or 0, -1))
    conflict = _conflict(asked, before)
    if conflict:
        raise Conflict(f"Cannot update container {id}: {conflict}")
    memory = _new(asked.Memory, before.memory)
    swap = asked.MemorySwap or (before.memory_swap if memory else 0)
    pids = before.pids if asked.PidsLimit is None else asked.PidsLimit
    return checked_resources(
        wire.AskedHostConfig(
            Memory=memory,
            MemorySwap=swap,
            NanoCpus=_new(asked.NanoCpus, before.nano_cpus),
            CpuPeriod=asked.CpuPeriod or before.cpu_period,
            CpuQuota=_new(asked.CpuQuota, before.cpu_quota),
            CpuShares=asked.CpuShares or before.cpu_shares,
            PidsLimit=pids,
            MemoryReservation=_new(asked.MemoryReservation, before.memory_reservation),
            MemorySwappiness=asked.MemorySwappiness
            if asked.MemorySwappiness is not None
            else before.memory_swappiness,
            OomKillDisable=asked.OomKillDisable
            if asked.OomKillDisable is not None
            else before.oom_kill_disable,
            CpusetCpus=asked.CpusetCpus or before.cpuset_cpus,
            CpusetMems=asked.CpusetMems or before.cpuset_mems,
            BlkioWeight=asked.BlkioWeight or before.blkio_weight,
            BlkioWeightDevice=[
                wire.AskedWeight(path, value)
                for path, value in _merged(
                    before.blkio_weight_devices, checked_weights(asked.BlkioWeightDevice)
                )
            ],
            BlkioDeviceReadBps=_rates(before.device_read_bps, asked.BlkioDeviceReadBps),
            BlkioDeviceWriteBps=_rates(before.device_write_bps, asked.BlkioDeviceWriteBps),
            BlkioDeviceReadIOps=_rates(before.device_read_iops, asked.BlkioDeviceReadIOps),
            BlkioDeviceWriteIOps=_rates(before.device_write_iops, asked.BlkioDeviceWriteIOps),
        )
    )


def _merged(
    before: tuple[tuple[str, int], ...], asked: tuple[tuple[str, int], ...]
) -> tuple[tuple[str, int], ...]:
    """What is named is changed, the rest stays; 0 takes the limit of a device away."""
    return tuple((path, value) for path, value in (dict(before) | dict(asked)).items() if value)


def _rates(
    before: tuple[tuple[str, int], ...], asked: list[wire.AskedRate] | None
) -> list[wire.AskedRate]:
    return [wire.AskedRate(path, rate) for path, rate in _merged(before, checked_rates(asked))]


def _new(asked: int | None, before: int) -> int:
    return 0 if asked == -1 else asked or before


def _conflict(asked: wire.AskedUpdate, before: Resources) -> str:
    """Say what of a request does not go with what there is; empty where all does."""
    nano, period, quota = asked.NanoCpus or 0, asked.CpuPeriod or 0, asked.CpuQuota or 0
    for new, old, words in (
        (nano, before.cpu_period, "Nano CPUs cannot be updated as CPU Period"),
        (nano, before.cpu_quota, "Nano CPUs cannot be updated as CPU Quota"),
        (period, before.nano_cpus, "CPU Period cannot be updated as NanoCPUs"),
        (quota, before.nano_cpus, "CPU Quota cannot be updated as NanoCPUs"),
    ):
        if new > 0 and old > 0 and not (old == before.nano_cpus and nano == -1):
            return f"Conflicting options: {words} has already been set"
    # One that nobody set is twice the memory, and follows it.
    if not asked.MemorySwap and 0 < before.memory_swap < (asked.Memory or 0):
        return (
            "Memory limit should be smaller than already set memoryswap limit, update the "
            "memoryswap at the same time"
        )
    return ""
