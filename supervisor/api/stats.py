"""GET /containers/{id}/stats, and of several containers at once.

Beyond Docker: `GET /mdocker/stats` tells of all containers that run (`all=1`: of all;
`names=a,b`: of these) by one connection: a JSON array of the same objects, with `State`, each
second. Docker's clients need a connection for each container, and learn of new ones by events.

What is known depends on the machine (`runtime/usage.py`): `blkio_stats` are null where no
controller counts, and `networks` are missing where there is none but a loopback, or the host's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from runtime import usage
from runtime.usage import Machine, Memory, Transfer, Usage
from supervisor.api.containers import found
from supervisor.api.durations import rfc3339_nano
from supervisor.api.messages import Reply, Request
from supervisor.api.parameters import flag
from supervisor.container import Container
from supervisor.engine import Engine
from supervisor.errors import BadParameter
from supervisor.states import ALIVE, State
from supervisor.stats import Samples

_encode = msgspec.json.Encoder().encode

_NO_CPU = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}
_BLKIO = (
    "io_service_bytes_recursive",
    "io_serviced_recursive",
    "io_queue_recursive",
    "io_service_time_recursive",
    "io_wait_time_recursive",
    "io_merged_recursive",
    "io_time_recursive",
    "sectors_recursive",
)
_GONE = (State.REMOVING, State.GONE)


async def stats(engine: Engine, request: Request) -> Reply | None:
    """GET /containers/{id}/stats"""
    container = found(engine, request)
    streaming, one_shot = flag(request, "stream", default=True), flag(request, "one-shot")
    if streaming and one_shot:
        raise BadParameter("cannot have stream=true and one-shot=true")
    machine = await _machine(engine)
    if streaming:
        await _stream(engine, request, lambda: [container], _Teller(machine).one)
        return None
    if container.state not in ALIVE:
        return Reply(body=_encode(shown(container, None, None, machine)) + b"\n")
    teller = _Teller(machine)
    with engine.stats.listening(lambda: [container]) as listener:
        body = teller.one([container], await listener.next())
        if not one_shot:
            # Two of them: what is used in percent is the difference.
            body = teller.one([container], await listener.next())
    return Reply(body=body)


async def all_stats(engine: Engine, request: Request) -> Reply | None:
    """GET /mdocker/stats"""
    names = request.parameter("names")
    named = [engine.containers.find(name) for name in names.split(",")] if names else []
    everything = flag(request, "all")

    def chosen() -> list[Container]:
        if named:
            return [one for one in named if one.state not in _GONE]
        listed = (one for one in engine.containers.all() if everything or one.state in ALIVE)
        return sorted(listed, key=lambda one: one.created_ns, reverse=True)

    teller = _Teller(await _machine(engine))
    if flag(request, "stream", default=True):
        await _stream(engine, request, chosen, teller.several, goes_on=not named)
        return None
    with engine.stats.listening(chosen) as listener:
        teller.several(chosen(), await listener.next())
        return Reply(body=teller.several(chosen(), await listener.next()))


async def _machine(engine: Engine) -> Machine:
    return await anyio.to_thread.run_sync(usage.machine, limiter=engine.limits.readers)


async def _stream(
    engine: Engine,
    request: Request,
    chosen: Callable[[], list[Container]],
    tell: Callable[[list[Container], Samples], bytes],
    *,
    goes_on: bool = False,
) -> None:
    """Send a piece for each round, until the containers are gone or the client is."""
    connection = request.connection
    await connection.start_stream(200, b"application/json")
    with connection.hangups.cancelling(connection.stream) as scope:
        with engine.stats.listening(chosen) as listener:
            while True:
                samples = await listener.next()
                containers = [one for one in chosen() if one.state not in _GONE]
                if not containers and not goes_on:
                    break
                await connection.send_piece(tell(containers, samples))
        await connection.end_stream()
    if scope.cancelled_caught:
        connection.abandon()


class _Teller:
    """Tells one client of one sample after the other: each with the one before it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._before: dict[str, Usage] = {}

    def one(self, containers: list[Container], samples: Samples) -> bytes:
        """A line of JSON for the container."""
        return _encode(self._shown(containers[0], samples)) + b"\n"

    def several(self, containers: list[Container], samples: Samples) -> bytes:
        """A line of JSON for all of them."""
        told = [{**self._shown(one, samples), "State": one.state.value} for one in containers]
        self._before = {id: self._before[id] for id in samples if id in self._before}
        return _encode(told) + b"\n"

    def _shown(self, container: Container, samples: Samples) -> dict[str, Any]:
        now, before = samples.get(container.id), self._before.get(container.id)
        if now is not None:
            if before is not None and before.cpu_ns > now.cpu_ns:
                before = None  # it was started again
            self._before[container.id] = now
        return shown(container, now, before, self._machine)


def shown(
    container: Container, now: Usage | None, before: Usage | None, machine: Machine
) -> dict[str, Any]:
    """Return Docker's object for a sample.

    Args:
        now: None where the container does not run.
        before: The sample that this client had before.
    """
    zero = rfc3339_nano(0)
    told: dict[str, Any] = {
        "name": f"/{container.name}",
        "id": container.id,
        "read": rfc3339_nano(now.at_ns) if now else zero,
        "preread": rfc3339_nano(before.at_ns) if before else zero,
        "pids_stats": {"current": now.pids, "limit": now.pids_limit} if now else {},
        "blkio_stats": _blkio(now.transfers if now else None),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _cpu(now, machine),
        "precpu_stats": _cpu(before, machine),
        "memory_stats": _memory(now.memory, machine) if now else {},
    }
    return told


def _cpu(one: Usage | None, machine: Machine) -> dict[str, Any]:
    if one is None:
        return _NO_CPU
    return {
        "cpu_usage": {
            "total_usage": one.cpu_ns,
            "usage_in_kernelmode": one.system_ns,
            "usage_in_usermode": one.user_ns,
        },
        "system_cpu_usage": one.machine_cpu_ns,
        "online_cpus": machine.cpus,
        "throttling_data": {
            "periods": one.periods,
            "throttled_periods": one.throttled_periods,
            "throttled_time": one.throttled_ns,
        },
    }


def _memory(memory: Memory, machine: Machine) -> dict[str, Any]:
    limit = memory.limit if 0 < memory.limit < machine.memory else machine.memory
    told: dict[str, Any] = {"usage": memory.usage}
    if memory.peak is not None:
        told["max_usage"] = memory.peak
    told["stats"] = memory.details
    if memory.failures is not None:
        told["failcnt"] = memory.failures
    return told | {"limit": limit}


def _blkio(transfers: tuple[Transfer, ...] | None) -> dict[str, Any]:
    told: dict[str, Any] = dict.fromkeys(_BLKIO)
    if transfers is None:
        return told
    entry = functools.partial(_entry, transfers)
    told["io_service_bytes_recursive"] = entry("read_bytes", "written_bytes")
    told["io_serviced_recursive"] = entry("reads", "writes")
    return told


def _entry(transfers: tuple[Transfer, ...], read: str, write: str) -> list[dict[str, Any]]:
    return [
        {"major": one.major, "minor": one.minor, "op": op, "value": getattr(one, name)}
        for one in transfers
        for op, name in (("read", read), ("write", write))
    ]
