"""How long does `ps` take with 100 containers running, and with 1000?

By the docker CLI on our socket, by our own command, and the bare request at the API.
"""

from __future__ import annotations

import time

from bench.bed import Bed, script
from bench.cli import Cli
from bench.harness import BenchError, Row
from bench.ours import Engine

SLEEP = ("sleep", "100000")


def request_times(engine: Engine, count: int) -> list[float]:
    """Milliseconds of GET /containers/json."""
    values = []
    for _ in range(count):
        begun = time.monotonic()
        engine.api.call("GET", "/containers/json").demand(200)
        values.append((time.monotonic() - begun) * 1000)
    return values


def listing_times(cli: Cli, running: int, count: int) -> list[float]:
    """Milliseconds of `ps`; BenchError unless it shows every container."""
    shown = len(cli.call("ps", "-q").split())
    if shown != running:
        raise BenchError(f"ps shows {shown} of {running} containers")
    return [cli.timed("ps") for _ in range(count)]


def run(bed: Bed) -> list[Row]:
    limits = {100: 25.0, 1000: 60.0}
    by_docker = {n: Row(f"docker ps, {n} running", "ms", limits[n]) for n in limits}
    by_ours = {n: Row(f"mdocker ps, {n} running", "ms") for n in limits}
    by_api = {n: Row(f"GET /containers/json, {n} running", "ms") for n in limits}
    rows = [row for n in limits for row in (by_docker[n], by_ours[n], by_api[n])]
    runs = bed.number(10, 40)
    with bed.column("ours", *rows), bed.engine() as engine:
        started = 0
        for count in limits:
            engine.start_many(count - started, *SLEEP)
            started = count
            by_api[count].put("ours", request_times(engine, 2 * runs))
            by_ours[count].put("ours", listing_times(engine.mdocker(), count, runs))
            by_docker[count].put("ours", listing_times(engine.docker(), count, runs))
    count = bed.number(16, 100)
    for peer in bed.each_peer(by_docker[100], by_ours[100]):
        with bed.column(peer.name, by_docker[100], by_ours[100]):
            peer.remove_all()
            peer.many([peer.run_arguments(*SLEEP)] * count, 8)
            by_ours[100].put(peer.name, listing_times(peer, count, runs))
            by_docker[100].cells[peer.name] = by_ours[100].cells[peer.name]
            peer.remove_all()
    if count != 100:
        by_docker[100].note = f"peers: with {count} running"
    return rows


if __name__ == "__main__":
    script("ps", __doc__, run)
