"""GET /metrics, read by Prometheus' own parsers; and what it costs those who never ask."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from supervisor.container import Health, Life
from supervisor.phases import Phase
from supervisor.states import State
from tests.unit.api.test_containers import add


async def samples(client, path="/metrics"):
    """Every sample by its name and labels."""
    answer = await client.request("GET", path)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/metrics", "/v1.50/metrics"])
async def test_everything_that_is_counted_is_shown(engine_and_client, path):
    async with engine_and_client() as (engine, connect), connect() as client:
        log = SimpleNamespace(read_bytes=7, written_bytes=70, dropped_bytes=1)
        bird = add(engine, "bird", health=Health("unhealthy"))
        bird.run = SimpleNamespace(log=log)
        add(engine, "fish", State.EXITED)
        counts = engine.counts
        counts.starts, counts.restarts, counts.adopted = 5, 2, 3
        counts.failed_starts, counts.ends_unseen, engine.shim.deaths = 1, 4, 6
        counts.recovery_s = 0.25
        counts.probes["timeout"] += 1
        counts.ended(Life(exit_code=1), [Phase("run", 0, 3 * 10**9)], log)
        counts.phase("start.spawn", 0.003)

        found = await samples(client, path)

    assert found["mdocker_containers", ("state", "running")] == 1
    assert found["mdocker_containers", ("state", "exited")] == 1
    assert found["mdocker_containers", ("state", "dead")] == 0
    assert found["mdocker_containers_health", ("health", "unhealthy")] == 1
    assert found["mdocker_container_starts_total",] == 5
    assert found["mdocker_container_failed_starts_total",] == 1
    assert found["mdocker_container_restarts_total",] == 2
    assert found["mdocker_container_exits_total", ("cause", "failure")] == 1
    assert found["mdocker_container_exits_total", ("cause", "oom")] == 0
    assert found["mdocker_health_probes_total", ("result", "timeout")] == 1
    assert found["mdocker_containers_adopted_total",] == 3
    assert found["mdocker_containers_end_unseen_total",] == 4
    assert found["mdocker_shim_deaths_total",] == 6
    assert found["mdocker_recovery_seconds",] == 0.25
    # Of the run that has ended, and of the one that goes on.
    assert found["mdocker_log_read_bytes_total",] == 14
    assert found["mdocker_log_written_bytes_total",] == 140
    assert found["mdocker_log_dropped_bytes_total",] == 2
    spawn = ("phase", "start.spawn")
    assert found["mdocker_phase_duration_seconds_bucket", ("le", "0.002"), spawn] == 0
    assert found["mdocker_phase_duration_seconds_bucket", ("le", "0.005"), spawn] == 1
    assert found["mdocker_phase_duration_seconds_bucket", ("le", "+Inf"), spawn] == 1
    assert found["mdocker_phase_duration_seconds_sum", ("phase", "run")] == 3
    assert found["mdocker_event_loop_lag_seconds_count",] >= 1
    assert found["process_open_fds",] >= 3
    assert ("mdocker_shim_process_open_fds",) not in found


@pytest.mark.anyio
async def test_the_shim_has_metrics_of_its_own_while_it_lives(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        for text, shown in ((f"{os.getpid()}\n", True), ("", False), ("4194305\n", False)):
            (engine.run_dir / "shim.pid").write_text(text)
            found = await samples(client)
            assert (("mdocker_shim_process_open_fds",) in found) is shown


@pytest.mark.anyio
async def test_open_metrics_for_those_who_ask(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        engine.counts.phase("start", 0.003)
        answer = await client.request(
            "GET", "/metrics", headers=[("Accept", "application/openmetrics-text; version=1.0.0")]
        )
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        families = list(openmetrics_parser.text_string_to_metric_families(answer.body.decode()))
        assert "mdocker_container_starts" in {family.name for family in families}


def test_who_does_not_scrape_does_not_import():
    code = (
        "import sys, supervisor.daemon;"
        "sys.exit(any(name.partition('.')[0] == 'prometheus_client' for name in sys.modules))"
    )
    checkout = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=checkout, check=False).returncode == 0
