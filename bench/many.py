"""How long does it take to start 100 containers at once, and 1000?

Ours by `mdocker run -d --replicas N` from command to prompt, and over 16 connections to the API;
the peers, who have no such thing, by as many `run -d`, 8 at a time. All sleep, and all must run.
"""

from __future__ import annotations

from bench.bed import Bed, script
from bench.cli import Cli
from bench.harness import BenchError, Row
from bench.ours import Engine

SLEEP = ("sleep", "100000")


def replicas(engine: Engine, count: int) -> float:
    """The seconds of `run -d --replicas`; BenchError unless every one runs afterwards."""
    cli = engine.mdocker()
    options = ("--name", f"many{count}", "--replicas", str(count))
    milliseconds = cli.timed(*cli.run_arguments(*SLEEP, options=options), timeout=300)
    _count(engine, count)
    engine.remove_all()
    return milliseconds / 1000


def by_api(engine: Engine, count: int) -> float:
    """The seconds of create and start over 16 connections; BenchError unless every one runs."""
    _, seconds = engine.start_many(count, *SLEEP)
    _count(engine, count)
    engine.remove_all()
    return seconds


def _count(engine: Engine, count: int) -> None:
    running = engine.running()
    if running != count:
        raise BenchError(f"{running} of {count} containers run")


def eight_at_a_time(peer: Cli, count: int) -> float:
    """The seconds of as many `run -d`, 8 at a time."""
    seconds = peer.many([peer.run_arguments(*SLEEP)] * count, 8)
    peer.remove_all()
    return seconds


def run(bed: Bed) -> list[Row]:
    hundred = Row("100 at once", "s", 0.6)
    thousand = Row("1000 at once", "s", 6.0)
    api_hundred = Row("100 by the API, 16 connections", "s")
    api_thousand = Row("1000 by the API, 16 connections", "s")
    rows = [hundred, api_hundred, thousand, api_thousand]
    with bed.column("ours", *rows), bed.engine() as engine:
        replicas(engine, 5)
        hundred.put("ours", [replicas(engine, 100) for _ in range(bed.number(2, 5))])
        api_hundred.put("ours", [by_api(engine, 100) for _ in range(bed.number(2, 5))])
        thousand.put("ours", [replicas(engine, 1000) for _ in range(bed.number(1, 3))])
        api_thousand.put("ours", [by_api(engine, 1000) for _ in range(bed.number(1, 3))])
    count = bed.number(24, 100)
    for peer in bed.each_peer(hundred):
        with bed.column(peer.name, hundred):
            hundred.put(peer.name, eight_at_a_time(peer, count) * 100 / count)
    if count != 100:
        hundred.note = f"peers: {count} measured, times {100 / count:.1f}"
    return rows


if __name__ == "__main__":
    script("many", __doc__, run)
