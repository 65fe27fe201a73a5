"""How much CPU does the engine take while its containers sleep?

The CPU time of supervisor and shim in a window with 100 and with 1000 sleeping containers, told for
20 s; of dockerd, containerd and its shims; of conmon.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.bed import Bed, script
from bench.harness import Row
from bench.ours import settle
from bench.processes import cpu_ns, total

SLEEP = ("sleep", "100000")
WINDOW = 20.0


def idle(pids: Sequence[int], seconds: float) -> float:
    """Milliseconds of CPU in a window, as if it were 20 s long."""
    before = total(cpu_ns, pids)
    settle(seconds)
    return (total(cpu_ns, pids) - before) / 1e6 * WINDOW / seconds


def run(bed: Bed) -> list[Row]:
    seconds = bed.number(5, 20)
    rows = {
        0: Row("20 s with no container", "ms"),
        100: Row("20 s with 100 idle", "ms", 20),
        1000: Row("20 s with 1000 idle", "ms", 40),
    }
    with bed.column("ours", *rows.values()), bed.engine() as engine:
        started = 0
        for count, row in rows.items():
            if count:
                engine.start_many(count - started, *SLEEP)
            started = count
            settle(2.0)
            row.put("ours", idle(engine.processes(), seconds))
    count = bed.number(16, 100)
    for peer in bed.each_peer(rows[100]):
        with bed.column(peer.name, rows[100]):
            peer.remove_all()
            peer.many([peer.run_arguments(*SLEEP)] * count, 8)
            settle(2.0)
            rows[100].put(peer.name, idle(peer.background() + peer.monitors(), seconds))
            peer.remove_all()
    rows[100].note = f"measured in {seconds} s"
    if count != 100:
        rows[100].note += f"; peers: with {count}"
    return list(rows.values())


if __name__ == "__main__":
    script("idle_cpu", __doc__, run)
