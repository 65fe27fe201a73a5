"""How fast does `logs` bring a big log to a pipe?

A container printed lines of 100 bytes and ended; then its whole log is read: by the bare request at
the API (with its frames), by the docker CLI on our socket, by our command, by the peers' commands.
MB of the program's output for each second, the commands' start included; the page cache is warm.
"""

from __future__ import annotations

import subprocess
import time

from bench.bed import Bed, script
from bench.cli import Cli
from bench.harness import BenchError, Row
from bench.materials import LINE, payload
from bench.ours import Engine


def by_command(cli: Cli, container: str, size: int) -> float:
    """MB a second of `logs` into a pipe; BenchError when it brings another number of bytes."""
    begun, count = time.monotonic(), 0
    process = subprocess.Popen(
        cli.command("logs", container),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=cli.env,
        preexec_fn=cli.enter,
        bufsize=0,
    )
    try:
        assert process.stdout is not None
        while data := process.stdout.read(1 << 20):
            count += len(data)
    finally:
        process.kill()
        process.communicate()
    seconds = time.monotonic() - begun
    if count != size:
        raise BenchError(f"logs brought {count} of {size} bytes")
    return size / 1e6 / seconds


def by_request(engine: Engine, container: str, size: int) -> float:
    """MB a second of the request itself; BenchError when fewer bytes come."""
    begun = time.monotonic()
    door, data = engine.api.stream(f"/containers/{container}/logs?stdout=1&stderr=1")
    count, room = len(data), bytearray(1 << 20)
    with door:
        while received := door.recv_into(room):
            count += received
    seconds = time.monotonic() - begun
    if count < size:
        raise BenchError(f"the request brought {count} bytes of {size} and their frames")
    return size / 1e6 / seconds


def run(bed: Bed) -> list[Row]:
    request = Row("GET logs at the API", "MB/s", 300, True)
    by_docker = Row("docker logs", "MB/s", 300, True)
    by_ours = Row("mdocker logs", "MB/s", 300, True)
    cri = Row("GET logs at the API, k8s-file", "MB/s", 300, True)
    rows = [request, cri, by_docker, by_ours]
    lines = bed.number(128 << 20, 1 << 30) // LINE
    repeats = bed.number(2, 3)
    with bed.column("ours", *rows), bed.engine(big_files=True) as engine:
        payload()
        for driver, row in (("k8s-file", cri), ("json-file", request)):
            container = engine.create("/bin/payload", "lines", str(lines), driver=driver)
            engine.start(container)
            engine.wait(container)
            size = lines * LINE
            row.put("ours", [by_request(engine, container, size) for _ in range(repeats)])
        mdocker, docker = engine.mdocker(), engine.docker()
        by_ours.put("ours", [by_command(mdocker, container, size) for _ in range(repeats)])
        by_docker.put("ours", [by_command(docker, container, size) for _ in range(repeats)])
    fewer = bed.number(24 << 20, 1 << 30) // LINE
    for peer in bed.each_peer(by_docker, by_ours, big_files=True):
        with bed.column(peer.name, by_docker, by_ours):
            payload()
            container = peer.detach("payload", "lines", str(fewer))
            peer.call("wait", container)
            by_docker.put(peer.name, by_command(peer, container, fewer * LINE))
            by_ours.cells[peer.name] = by_docker.cells[peer.name]
            peer.call("rm", "-f", container)
    request.note = f"{lines * LINE >> 20} MiB; peers: {fewer * LINE >> 20} MiB"
    return rows


if __name__ == "__main__":
    script("logs_read", __doc__, run)
