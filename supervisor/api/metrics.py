"""GET /metrics: the engine's counters as Prometheus reads them.

prometheus-client is imported at the first scrape, in a thread: it takes 0.02 to 0.2 s and 2.5 MiB,
which nobody shall pay who does not scrape. There are no metrics of single containers: a machine has
many short-lived ones, and each label value would be a series of its own.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import anyio.to_thread

from supervisor.api.messages import Reply, Request
from supervisor.counts import CAUSES, LAG
from supervisor.engine import Engine
from supervisor.release import VERSION
from supervisor.states import State

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from supervisor.counts import Histogram

HEALTH = ("none", "starting", "healthy", "unhealthy")
PROBES = ("success", "failure", "timeout")


async def metrics(engine: Engine, request: Request) -> Reply:
    """GET /metrics"""
    began = anyio.current_time()
    await anyio.lowlevel.checkpoint()
    LAG.note(anyio.current_time() - began)
    accept = request.header(b"accept")
    readers = engine.limits.readers
    encode, content_type = await anyio.to_thread.run_sync(_encoder, accept, limiter=readers)
    shown = list(_collect(engine))
    # Apart from the engine's, these read /proc: a thread's work like the import.
    text = await anyio.to_thread.run_sync(_rendered, encode, shown, engine.run_dir, limiter=readers)
    return Reply(body=text, content_type=content_type.encode())


Encode = Callable[["CollectorRegistry"], bytes]


def _encoder(accept: str) -> tuple[Encode, str]:
    """Prometheus' own text, or OpenMetrics for those who ask for it."""
    from prometheus_client.exposition import choose_encoder

    return choose_encoder(accept)


class _Collected:
    """What `prometheus_client` calls a collector, of metrics that are there already."""

    def __init__(self, collected: list[Metric]) -> None:
        self._collected = collected

    def collect(self) -> list[Metric]:
        return self._collected


def _rendered(encode: Encode, collected: list[Metric], run_dir: Path) -> bytes:
    from prometheus_client import CollectorRegistry, ProcessCollector

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(collected))
    ProcessCollector(registry=registry)
    shim = functools.partial(_pid_in, run_dir / "shim.pid")
    ProcessCollector(namespace="mdocker_shim", pid=shim, registry=registry)
    return encode(registry)


def _pid_in(path: Path) -> str:
    """The pid that a file holds; 0, which no process has, while there is none."""
    try:
        return path.read_text().strip() or "0"
    except OSError:
        return "0"


def _collect(engine: Engine) -> Iterator[Metric]:
    """Everything, at one moment: nothing is awaited meanwhile."""
    from prometheus_client.core import GaugeMetricFamily

    info = GaugeMetricFamily(
        "mdocker_engine_info",
        "The engine that answers; always 1.",
        labels=("version", "backend"),
    )
    info.add_metric((VERSION, engine.backend), 1)
    yield info
    yield from _containers(engine)
    yield from _lives(engine)
    yield from _recovery(engine)
    yield from _logs(engine)
    phases = sorted(engine.counts.phases.items())
    yield _histogram(
        "mdocker_phase_duration_seconds",
        "How long phases of containers' lives took; a part has its phase's name before a dot.",
        dict(phases),
        "phase",
    )
    yield _histogram(
        "mdocker_event_loop_lag_seconds",
        "How long a task that could run waited for the event loop.",
        {"": LAG},
    )


def _containers(engine: Engine) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    everyone = engine.containers.all()
    states = Counter(container.state for container in everyone)
    by_state = GaugeMetricFamily("mdocker_containers", "Containers by state.", labels=("state",))
    for state in State:
        if state is not State.GONE:
            by_state.add_metric((state.value,), states[state])
    yield by_state
    health = Counter(
        container.life.health.status if container.life.health is not None else "none"
        for container in everyone
        if container.run is not None
    )
    by_health = GaugeMetricFamily(
        "mdocker_containers_health",
        "Running containers by what their health check has found; none: without one.",
        labels=("health",),
    )
    for status in HEALTH:
        by_health.add_metric((status,), health[status])
    yield by_health


def _lives(engine: Engine) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    counts = engine.counts
    exits = CounterMetricFamily(
        "mdocker_container_exits",
        "Ends of containers by cause; stopped: by a stop or kill that somebody asked for.",
        labels=("cause",),
    )
    for cause in CAUSES:
        exits.add_metric((cause,), counts.exits[cause])
    probes = CounterMetricFamily(
        "mdocker_health_probes", "Runs of health checks by result.", labels=("result",)
    )
    for result in PROBES:
        probes.add_metric((result,), counts.probes[result])
    yield _counter("mdocker_container_starts", "Containers started.", counts.starts)
    yield _counter(
        "mdocker_container_failed_starts", "Starts that came to nothing.", counts.failed_starts
    )
    yield _counter(
        "mdocker_container_restarts", "Starts that a restart policy made.", counts.restarts
    )
    yield exits
    yield _counter(
        "mdocker_container_oom_kills",
        "Processes of containers that the kernel has killed, as memory had run out.",
        counts.oom_kills,
    )
    yield probes


def _recovery(engine: Engine) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    counts = engine.counts
    yield GaugeMetricFamily(
        "mdocker_recovery_seconds",
        "How long this supervisor needed to know and adopt all containers.",
        counts.recovery_s,
    )
    yield _counter(
        "mdocker_containers_adopted",
        "Containers that ran already when this supervisor came, or when a shim was replaced.",
        counts.adopted,
    )
    yield _counter(
        "mdocker_containers_end_unseen", "Ends whose cause nobody could learn.", counts.ends_unseen
    )
    yield _counter("mdocker_shim_deaths", "Shims that died and were replaced.", engine.shim.deaths)


def _logs(engine: Engine) -> Iterator[Metric]:
    counts = engine.counts
    read, written, dropped = counts.log_read, counts.log_written, counts.log_dropped
    for container in engine.containers:
        if container.run is not None:
            read += container.run.log.read_bytes
            written += container.run.log.written_bytes
            dropped += container.run.log.dropped_bytes
    yield _counter("mdocker_log_read_bytes", "Output taken from containers.", read)
    yield _counter("mdocker_log_written_bytes", "Records written to logs.", written)
    yield _counter(
        "mdocker_log_dropped_bytes",
        "Output that no log could take: its disk was full or hung, or its buffer was.",
        dropped,
    )


def _counter(name: str, help: str, value: float) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    return CounterMetricFamily(name, help, value)


def _histogram(
    name: str, help: str, histograms: dict[str, Histogram], label: str | None = None
) -> Metric:
    """One metric of our histograms; with a label, one series set for each of its values."""
    from prometheus_client.core import HistogramMetricFamily
    from prometheus_client.utils import floatToGoString

    family = HistogramMetricFamily(name, help, labels=(label,) if label else ())
    for value, histogram in histograms.items():
        bounds = (*map(floatToGoString, histogram.bounds), "+Inf")
        buckets = list(zip(bounds, histogram.cumulative, strict=True))
        family.add_metric((value,) if label else (), buckets, histogram.total)
    return family
