"""How long is the engine away when its supervisor is killed with 1000 containers running?

From `kill -9` to the answer of a request that was sent right after it: the shim has started another
supervisor, which has taken all of them over. Told only when every container still runs.
"""

from __future__ import annotations

import time

from bench.bed import Bed, script
from bench.harness import BenchError, Row
from bench.ours import Engine

SLEEP = ("sleep", "100000")


def back_after(engine: Engine, count: int) -> float:
    """The seconds without a supervisor; BenchError when a container is lost."""
    time.sleep(1.2)  # one that dies within a second of its start is followed with a delay
    seconds = engine.revive()
    running = engine.running()
    if running != count:
        raise BenchError(f"{running} of {count} containers run after the supervisor's death")
    return seconds


def run(bed: Bed) -> list[Row]:
    hundred = Row("kill -9 to an answer, 100 running", "s", 0.5)
    thousand = Row("kill -9 to an answer, 1000 running", "s", 0.5)
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
