"""How long does a command line take to start?

`--version`, and `ps` with one container running; the floor is Python starting and doing nothing.
"""

from __future__ import annotations

import sys
import time

from bench.bed import Bed, script
from bench.harness import Row
from bench.processes import run as run_command


def python_alone(count: int) -> list[float]:
    """Milliseconds of `python -c pass`."""
    values = []
    for _ in range(count):
        begun = time.monotonic()
        run_command([sys.executable, "-c", "pass"])
        values.append((time.monotonic() - begun) * 1000)
    return values


def run(bed: Bed) -> list[Row]:
    version = Row("--version", "ms", 20)
    listing = Row("ps, one running", "ms", 100)
    listing_help = Row("ps --help", "ms", 100)
    by_docker = Row("ps by the docker CLI on our socket", "ms")
    rows = [version, listing, listing_help, by_docker]
    count = bed.number(10, 40)
    version.put("floor", python_alone(count))
    with bed.column("ours", *rows), bed.engine() as engine:
        cli = engine.mdocker()
        engine.start(engine.create("sleep", "100000"))
        cli.timed("ps")
        version.put("ours", [cli.timed("--version") for _ in range(count)])
        listing.put("ours", [cli.timed("ps") for _ in range(count)])
        listing_help.put("ours", [cli.timed("ps", "--help") for _ in range(count)])
        docker = engine.docker()
        by_docker.put("ours", [docker.timed("ps") for _ in range(count)])
    for peer in bed.each_peer(*rows):
        with bed.column(peer.name, *rows):
            container = peer.detach("sleep", "100000")
            version.put(peer.name, [peer.timed("--version") for _ in range(count)])
            listing.put(peer.name, [peer.timed("ps") for _ in range(count)])
            listing_help.put(peer.name, [peer.timed("ps", "--help") for _ in range(count)])
            if peer.name == "docker":
                by_docker.cells["docker"] = listing.cells["docker"]
            peer.call("rm", "-f", container)
    return rows


if __name__ == "__main__":
    script("cli_start", __doc__, run)
