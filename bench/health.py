"""How much CPU does a health check cost?

Containers whose health check is `true`, once a second: for one check, the CPU time of all that
takes part in it, the command itself among them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bench.api import Request, fan_out
from bench.bed import Bed, script
from bench.harness import Row
from bench.ours import Engine, settle

SLEEP = ("sleep", "100000")
SECOND = 1_000_000_000
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pids: Sequence[int]) -> float:
    """CPU seconds of processes and of their children that have ended (proc(5), stat)."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / _TICKS


def checked(engine: Engine, count: int) -> None:
    """Start containers that are checked once a second."""
    body = engine.configuration(*SLEEP)
    body["Healthcheck"] = {"Test": ["CMD", "true"], "Interval": SECOND}
    created, _ = fan_out(engine.api, [Request("POST", "/containers/create", body)] * count, 8)
    ids = [str(reply.demand(201).json()["Id"]) for reply in created]  # type: ignore[index]
    for container in ids:
        engine.start(container)


def run(bed: Bed) -> list[Row]:
    seconds, count = bed.number(5, 20), bed.number(20, 100)
    cost = Row("CPU of one check", "ms")
    with bed.column("ours", cost), bed.engine() as engine:
        checked(engine, count)
        settle(2.0)
        before = cpu_s(engine.processes())
        settle(seconds)
        cost.put("ours", (cpu_s(engine.processes()) - before) * 1e3 / (count * seconds))
    for peer in bed.each_peer(cost):
        with bed.column(peer.name, cost):
            if peer.name != "docker":
                cost.say(peer.name, "needs systemd's timers")
                continue
            options = ("--health-cmd", "true", "--health-interval", "1s")
            peer.remove_all()
            peer.many([peer.run_arguments(*SLEEP, options=options)] * count, 8)
            settle(3.0)
            pids = peer.background() + peer.monitors()
            before = cpu_s(pids)
            settle(seconds)
            cost.put(peer.name, (cpu_s(pids) - before) * 1e3 / (count * seconds))
            peer.remove_all()
    cost.note = f"{count} containers, {seconds} s; the command's own CPU is in it"
    return [cost]


if __name__ == "__main__":
    script("health", __doc__, run)
