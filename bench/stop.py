"""How long does it take to stop one polite container, and many that are deaf to SIGTERM?

The polite one exits at SIGTERM; stopped with a timeout of 10 s, ours at the API, the peers by their
command. The deaf ones sleep as process 1, which has no handler, and are stopped with a timeout of
2 s, all by one request each at the same time; the floor is those 2 s.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.api import Request, fan_out
from bench.bed import Bed, script
from bench.cli import Cli
from bench.harness import Row
from bench.ours import Engine, settle

POLITE = ("sh", "-c", "trap 'exit 0' TERM; echo ready; sleep 100000 & wait")
DEAF = ("sleep", "100000")


def one_polite(engine: Engine, count: int) -> Iterator[float]:
    """Milliseconds of a stop at the API."""
    for _ in range(count):
        container = engine.create(*POLITE)
        engine.start(container)
        _await_log(engine, container)
        begun = time.monotonic()
        engine.api.call("POST", f"/containers/{container}/stop?t=10").demand(204)
        yield (time.monotonic() - begun) * 1000
        engine.remove(container)


def _await_log(engine: Engine, container: str) -> None:
    """Until the shell has set its trap: it says so in its log, and the stream tells us."""
    door, data = engine.api.stream(f"/containers/{container}/logs?follow=1&stdout=1")
    with door:
        while b"ready" not in data:
            more = door.recv(4096)
            if not more:
                return
            data += more


def polite_by(cli: Cli, count: int) -> Iterator[float]:
    """Milliseconds of `stop -t 10`."""
    for _ in range(count):
        container = cli.detach(*POLITE)
        settle(0.3)
        yield cli.timed("stop", "-t", "10", container)
    cli.remove_all()


def deaf_at_api(engine: Engine, count: int) -> float:
    """The seconds of as many stops at the same time, over a connection each."""
    ids, _ = engine.start_many(count, *DEAF)
    stops = [Request("POST", f"/containers/{container}/stop?t=2") for container in ids]
    replies, seconds = fan_out(engine.api, stops, count)
    for reply in replies:
        reply.demand(204)
    engine.remove_all()
    return seconds


def deaf_by_command(engine: Engine, count: int) -> float:
    """The seconds of `mdocker stop --timeout 2 --all`."""
    engine.start_many(count, *DEAF)
    milliseconds = engine.mdocker().timed("stop", "--timeout", "2", "--all")
    engine.remove_all()
    return milliseconds / 1000


def deaf_by(cli: Cli, count: int) -> float:
    """The seconds of one `stop -t 2` with many names."""
    cli.many([cli.run_arguments(*DEAF)] * count, 8)
    ids = cli.call("ps", "-q").split()
    milliseconds = cli.timed("stop", "-t", "2", *ids, timeout=300)
    cli.remove_all()
    return milliseconds / 1000


def run(bed: Bed) -> list[Row]:
    polite = Row("one polite, -t 10", "ms", 10)
    hundred = Row("100 deaf, -t 2, at the API", "s", 2.3)
    command = Row("100 deaf, stop --timeout 2 --all", "s", 2.3)
    thousand = Row("1000 deaf, -t 2, at the API", "s", 4.0)
    rows = [polite, hundred, command, thousand]
    with bed.column("ours", *rows), bed.engine() as engine:
        polite.put("ours", one_polite(engine, bed.number(20, 100)))
        hundred.put("ours", deaf_at_api(engine, 100))
        command.put("ours", deaf_by_command(engine, 100))
        thousand.put("ours", deaf_at_api(engine, 1000))
    for row in (hundred, command, thousand):
        row.put("floor", 2.0)
    count = bed.number(16, 100)
    for peer in bed.each_peer(polite, hundred):
        with bed.column(peer.name, polite, hundred):
            polite.put(peer.name, polite_by(peer, bed.number(3, 20)))
            hundred.put(peer.name, deaf_by(peer, count))
            command.cells[peer.name] = hundred.cells[peer.name]
    if count != 100:
        hundred.note = f"peers: {count} instead of 100, by one command"
    return rows


if __name__ == "__main__":
    script("stop", __doc__, run)
