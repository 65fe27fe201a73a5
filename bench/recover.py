"""How long is the engine away when its supervisor is killed with 100 containers running?

From `kill -9` to the moment at which another supervisor, started at once, has taken all of them
over and listens. Told only when every container still runs.
"""

from __future__ import annotations

from bench.bed import Bed, script
from bench.harness import BenchError, Row
from bench.ours import Engine

SLEEP = ("sleep", "100000")


def back_after(engine: Engine, count: int) -> float:
    """The seconds without a supervisor; BenchError when a container is lost."""
    seconds = engine.revive()
    running = engine.running()
    if running != count:
        raise BenchError(f"{running} of {count} containers run after the supervisor's death")
    return seconds


def run(bed: Bed) -> list[Row]:
    hundred = Row("kill -9 to ready, 100 running", "s", 0.5)
    thousand = Row("kill -9 to ready, 1000 running", "s")
    rows = [hundred, thousand]
    with bed.column("ours", *rows), bed.engine() as engine:
        started = 0
        for count, row in ((100, hundred), (1000, thousand)):
            engine.start_many(count - started, *SLEEP)
            started = count
            row.put("ours", [back_after(engine, count) for _ in range(bed.number(3, 10))])
    return rows


if __name__ == "__main__":
    script("recover", __doc__, run)
