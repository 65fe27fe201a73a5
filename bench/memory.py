"""How much memory does the engine take for each idle container?

The proportional set size (PSS) of supervisor and shim with 0, 100 and 1000 sleeping containers; of
conmon for podman, of containerd-shim for docker, and of dockerd and containerd with none. What the
containers take themselves is not counted, nor what the kernel takes for them.
"""

from __future__ import annotations

from bench.bed import Bed, script
from bench.harness import BenchError, Row
from bench.ours import Engine, settle
from bench.processes import pss_kib, total

SLEEP = ("sleep", "100000")


def ours(engine: Engine, nothing: Row, each: dict[int, Row]) -> None:
    """Fills our column: first with nothing running, then with more and more."""
    warm = engine.create("true")
    engine.start(warm)
    engine.wait(warm)
    engine.remove(warm)
    settle(0.5)
    empty = total(pss_kib, engine.processes())
    parts = dict(zip(("supervisor", "shim"), engine.processes(), strict=False))
    nothing.put("ours", empty / 1024)
    nothing.note = ", ".join(f"{name} {pss_kib(pid) / 1024:.1f}" for name, pid in parts.items())
    started = 0
    for count, row in sorted(each.items()):
        engine.start_many(count - started, *SLEEP)
        started = count
        settle(1.0)
        row.put("ours", (total(pss_kib, engine.processes()) - empty) / count)
        row.note = ", ".join(f"{name} {pss_kib(pid) / 1024:.1f} MiB" for name, pid in parts.items())


def run(bed: Bed) -> list[Row]:
    nothing = Row("the whole engine, no container", "MiB", 60)
    each = {100: Row("each of 100 idle", "KiB"), 1000: Row("each of 1000 idle", "KiB", 48)}
    rows = [nothing, *each.values()]
    with bed.column("ours", *rows), bed.engine() as engine:
        ours(engine, nothing, each)
    count = bed.number(8, 40)
    for peer in bed.each_peer(*rows):
        with bed.column(peer.name, *rows):
            peer.remove_all()
            before = total(pss_kib, peer.background())
            nothing.put(peer.name, before / 1024)
            for _ in range(count):
                peer.detach(*SLEEP)
            settle(1.0)
            monitors = peer.monitors()
            if len(monitors) != count:
                raise BenchError(f"{len(monitors)} monitors for {count} containers")
            for row in each.values():
                row.put(peer.name, total(pss_kib, monitors) / count)
            peer.remove_all()
    each[100].note += f"; peers: with {count}, monitors only"
    return rows


if __name__ == "__main__":
    script("memory", __doc__, run)
