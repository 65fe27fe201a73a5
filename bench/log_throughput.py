"""How fast does a container's output reach its log, and is every byte there?

Lines of 100 bytes by each driver, from the start of the container to its end: MB of output for each
second, and for each second of CPU that the logger took (supervisor and shim; conmon; dockerd with
containerd and its shims). The log is read back and its checksum compared: a wrong one is told
instead of a figure. The floor is the same program into `cat > /dev/null`.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import time
from pathlib import Path

from bench.api import Request, fan_out
from bench.bed import Bed, script
from bench.cli import Cli
from bench.harness import BenchError, Row
from bench.log_files import digest
from bench.materials import LINE, expected_digest, payload
from bench.ours import Engine
from bench.processes import cpu_ns, total

DRIVERS = {"json-file": (400.0, 450.0), "k8s-file": (500.0, 600.0), "none": (None, None)}
SPARE = 1.0  # seconds that a peer's container sleeps before and after it prints


def check(path: Path, driver: str, lines: int) -> None:
    """BenchError when the log doesn't hold exactly what was written."""
    if driver != "none" and digest(path, driver) != expected_digest(lines):
        raise BenchError(f"the {driver} log is not what was written")


def ours(engine: Engine, driver: str, lines: int) -> tuple[float, float]:
    """MB for each second of wall, and of CPU."""
    container = engine.create("/bin/payload", "lines", str(lines), driver=driver)
    pids = engine.processes()
    before, begun = total(cpu_ns, pids), time.monotonic()
    engine.start(container)
    code = engine.wait(container)
    seconds = time.monotonic() - begun
    cpu = (total(cpu_ns, pids) - before) / 1e9
    if code:
        raise BenchError(f"the payload ended with exit code {code}")
    check(engine.log_file(container, driver), driver, lines)
    engine.remove(container)
    megabytes = lines * LINE / 1e6
    return megabytes / seconds, megabytes / max(cpu, 1e-6)


def theirs(peer: Cli, driver: str, lines: int) -> tuple[float, float]:
    """The same by a peer's command; the times are those of its own inspect."""
    shell = f"sleep {SPARE}; payload lines {lines}; sleep {SPARE}"
    container = peer.detach("sh", "-c", shell, options=("--log-driver", driver))
    pids = peer.background() + peer.monitors()
    before = cpu = total(cpu_ns, pids)
    waiting = subprocess.Popen(
        peer.command("wait", container),
        stdout=subprocess.DEVNULL,
        env=peer.env,
        preexec_fn=peer.enter,
    )
    while waiting.poll() is None:  # conmon ends with its container, and its account with it
        cpu = max(cpu, total(cpu_ns, pids))
        time.sleep(0.05)
    state = json.loads(peer.call("inspect", "--format", "{{json .State}}", container))
    begun, ended = (_seconds(str(state[key])) for key in ("StartedAt", "FinishedAt"))
    if driver != "none":
        check(peer.log_file(container), driver, lines)
    peer.call("rm", "-f", container)
    megabytes = lines * LINE / 1e6
    seconds = max(ended - begun - 2 * SPARE, 1e-6)
    return megabytes / seconds, megabytes / max((cpu - before) / 1e9, 1e-6)


def _seconds(stamp: str) -> float:
    """Unix time of an RFC 3339 stamp with up to nine digits behind the point."""
    whole, _, rest = stamp.partition(".")
    digits = rest.rstrip("Z").partition("+")[0].partition("-")[0]
    zone = rest[len(digits) :].replace("Z", "+00:00")
    moment = datetime.datetime.fromisoformat(whole + zone)
    return moment.timestamp() + float(f"0.{digits or 0}")


def together(engine: Engine, writers: int, lines: int) -> tuple[float, float]:
    """MB a second of many writers, and the slowest one's share of the mean at half-time."""
    moment = time.monotonic_ns() + int(0.02e9 * writers) + 1_000_000_000
    ids, _ = engine.start_many(writers, "/bin/payload", "lines", str(lines), str(moment))
    logs = [engine.log_file(container) for container in ids]
    whole, share = writers * lines * LINE, 0.0
    begun = moment / 1e9
    time.sleep(max(begun - time.monotonic(), 0))
    deadline = begun + 300
    while time.monotonic() < deadline:
        sizes = [log.stat().st_size if log.exists() else 0 for log in logs]
        if sum(sizes) >= whole * 0.7:  # a JSON record is about 1.7 times its line
            share = min(sizes) * len(sizes) / sum(sizes)
            break
        time.sleep(0.01)
    waits = [Request("POST", f"/containers/{container}/wait") for container in ids]
    fan_out(engine.api, waits, writers)
    seconds = time.monotonic() - begun
    check(logs[-1], "json-file", lines)
    engine.remove_all()
    return whole / 1e6 / seconds, share


def floor(lines: int) -> float:
    """MB a second of the payload into cat."""
    begun = time.monotonic()
    with subprocess.Popen([payload(), "lines", str(lines)], stdout=subprocess.PIPE) as writer:
        subprocess.run(["cat"], stdin=writer.stdout, stdout=subprocess.DEVNULL, check=True)
    return lines * LINE / 1e6 / (time.monotonic() - begun)


def run(bed: Bed) -> list[Row]:
    wall = {d: Row(f"{d}, wall", "MB/s", DRIVERS[d][0], True) for d in DRIVERS}
    cpu = {d: Row(f"{d}, logger's CPU", "MB/CPU-s", DRIVERS[d][1], True) for d in DRIVERS}
    writers = bed.number(20, 100)
    many = Row(f"json-file, {writers} writers together", "MB/s", None, True)
    fair = Row("… the slowest one's share at half-time", "of mean", None, True)
    rows = [row for driver in DRIVERS for row in (wall[driver], cpu[driver])] + [many, fair]
    lines = bed.number(128 << 20, 1 << 30) // LINE
    with bed.column("floor", *wall.values()):
        speed = floor(lines)
        for row in wall.values():
            row.put("floor", speed)
    with bed.column("ours", *rows), bed.engine(big_files=True) as engine:
        payload()  # says "no C compiler" before anything is started
        for driver in DRIVERS:
            figures = [ours(engine, driver, lines) for _ in range(bed.number(3, 3))]
            wall[driver].put("ours", [figure[0] for figure in figures])
            cpu[driver].put("ours", [figure[1] for figure in figures])
        speed, share = together(engine, writers, lines // writers)
        many.put("ours", speed)
        fair.put("ours", share)
    fewer = bed.number(48 << 20, 1 << 30) // LINE
    for peer in bed.each_peer(*wall.values(), *cpu.values(), big_files=True):
        for driver in DRIVERS:
            if (peer.name, driver) in (("docker", "k8s-file"), ("podman", "json-file")):
                continue  # docker has no such driver; podman's json-file is its k8s-file
            with bed.column(peer.name, wall[driver], cpu[driver]):
                payload()
                speed, economy = theirs(peer, driver, fewer)
                wall[driver].put(peer.name, speed)
                cpu[driver].put(peer.name, economy)
    wall["json-file"].note = f"{lines * LINE >> 20} MiB; peers: {fewer * LINE >> 20} MiB"
    return rows


if __name__ == "__main__":
    script("log_throughput", __doc__, run)
