"""How long does a line take from the write in the container to the client of `logs -f`?

A container prints the time of each write (CLOCK_MONOTONIC, which all containers share); the client
compares it with the time at which the line is there. Alone, and with 100 others that print ten
lines a second each. By the request at the API (docker's too) and by the commands.
"""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.api import Api
from bench.bed import Bed, script
from bench.cli import Cli
from bench.harness import BenchError, Row, Sample
from bench.materials import payload
from bench.ours import Engine, settle
from bench.peers import Docker

EVERY_US = 10_000
OTHERS = ("/bin/payload", "ticks", "1000000", "100000")
_LINE = re.compile(rb"(\d{6,}) \.{20,}\n")


def latencies(source: int, count: int) -> list[float]:
    """Milliseconds of `count` lines that come through a descriptor; the first ten don't count."""
    values: list[float] = []
    rest = b""
    deadline = time.monotonic() + 10 + 4 * count * EVERY_US / 1e6
    while len(values) < count + 10:
        if not select.select([source], [], [], max(deadline - time.monotonic(), 0))[0]:
            raise BenchError(f"only {len(values)} of {count} lines came")
        data = os.read(source, 65536)
        now = time.monotonic_ns()
        if not data:
            raise BenchError(f"the stream ended after {len(values)} of {count} lines")
        rest += data
        values.extend((now - int(found[1])) / 1e6 for found in _LINE.finditer(rest))
        rest = rest[rest.rfind(b"\n") + 1 :]
    return values[10:]


@contextmanager
def request(api: Api, container: str) -> Iterator[int]:
    """The descriptor of a following request at the API."""
    door, _ = api.stream(f"/containers/{container}/logs?follow=1&stdout=1&stderr=1&tail=0")
    with door:
        door.setblocking(True)
        yield door.fileno()
        door.shutdown(socket.SHUT_RDWR)


@contextmanager
def command(cli: Cli, container: str) -> Iterator[int]:
    """The descriptor of what `logs -f` prints."""
    process = subprocess.Popen(
        cli.command("logs", "-f", "--tail", "0", container),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=cli.env,
        preexec_fn=cli.enter,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.fileno()
    finally:
        process.kill()
        process.communicate()


def ticks(count: int) -> tuple[str, ...]:
    """The command of a container that prints long enough for `count` lines."""
    return ("/bin/payload", "ticks", str(count * 20 + 3000), str(EVERY_US))


def fill(rows: tuple[Row, Row], column: str, values: list[float]) -> None:
    """A median and a 99th percentile, as two rows."""
    sample = Sample.of(values)
    rows[0].put(column, values)
    rows[1].put(column, sample.p99)


def pair(what: str) -> tuple[Row, Row]:
    return Row(f"{what}, median", "ms", 0.5), Row(f"{what}, p99", "ms", 2.0)


def ours(engine: Engine, rows: dict[str, tuple[Row, Row]], count: int) -> None:
    container = engine.create(*ticks(count))
    engine.start(container)
    for stage in ("alone", "with 100 others"):
        if stage != "alone":
            engine.start_many(100, *OTHERS)
            settle(1.0)
        with request(engine.api, container) as source:
            fill(rows[f"API, {stage}"], "ours", latencies(source, count))
    for name, cli in (("docker logs -f", engine.docker()), ("mdocker logs -f", engine.mdocker())):
        with command(cli, container) as source:
            fill(rows[f"{name}, with 100 others"], "ours", latencies(source, count))
    engine.remove_all()


def theirs(bed: Bed, peer: Cli, rows: dict[str, tuple[Row, Row]], count: int) -> None:
    container = peer.detach(*ticks(count))
    for stage in ("alone", "with 100 others"):
        if stage != "alone":
            peer.many([peer.run_arguments(*OTHERS)] * bed.number(16, 100), 8)
        if isinstance(peer, Docker):
            with request(Api(peer.socket), container) as source:
                fill(rows[f"API, {stage}"], peer.name, latencies(source, count))
        if stage != "alone":
            with command(peer, container) as source:
                values = latencies(source, count)
            for name in ("docker logs -f", "mdocker logs -f"):
                fill(rows[f"{name}, with 100 others"], peer.name, values)
    peer.remove_all()


def run(bed: Bed) -> list[Row]:
    names = ("API, alone", "API, with 100 others")
    names += ("docker logs -f, with 100 others", "mdocker logs -f, with 100 others")
    rows = {name: pair(name) for name in names}
    flat = [row for both in rows.values() for row in both]
    count = bed.number(300, 2000)
    with bed.column("ours", *flat), bed.engine() as engine:
        payload()
        ours(engine, rows, count)
    for peer in bed.each_peer(*flat):
        with bed.column(peer.name, *flat):
            payload()
            theirs(bed, peer, rows, bed.number(200, 2000))
    flat[0].note = f"{count} lines, one each {EVERY_US // 1000} ms"
    if bed.quick:
        flat[0].note += "; peers: 16 others"
    return flat


if __name__ == "__main__":
    script("follow", __doc__, run)
