"""How long does a command in a running container take?

`true` in a container that sleeps: at the API (create, start attached, to the end of its output)
against C that enters the same container (setns, clone3, execve, wait); then `exec` from command to
prompt. Last, whether a thousand in a row leave anything: memory and descriptors of the engine.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.api import Api
from bench.bed import Bed, script
from bench.cli import Cli
from bench.harness import BenchError, Row, Sample
from bench.materials import compiled
from bench.ours import Engine
from bench.peers import Docker
from bench.processes import pss_kib, total
from bench.processes import run as run_program

SLEEP = ("sleep", "100000")
COMMAND = {"Cmd": ["true"], "AttachStdout": True, "AttachStderr": True}


def once(api: Api, container: str) -> float:
    """Milliseconds of one command, from the request that creates it to the end of its output."""
    begun = time.monotonic()
    made = api.call("POST", f"/containers/{container}/exec", COMMAND).demand(201).json()
    assert isinstance(made, dict)
    reply = api.call("POST", f"/exec/{made['Id']}/start", {"Detach": False, "Tty": False})
    if reply.demand(200).body:
        raise BenchError(f"the command says {reply.body[-300:]!r}")
    return (reply.at - begun) * 1000


def at_the_api(api: Api, container: str, count: int) -> Iterator[float]:
    """Milliseconds of each; the first ones import and warm up."""
    for number in range(count + 5):
        took = once(api, container)
        if number >= 5:
            yield took


def floor(pid: int, count: int, *options: str) -> list[float]:
    """Milliseconds of each run of exec_floor.c."""
    command = [str(compiled("exec_floor")), "--pid", str(pid), "--runs", str(count), *options]
    told = json.loads(run_program([*command, "--", "/bin/true"]))
    return [value / 1000 for value in told["to_exit_us"]]


def prompt_times(cli: Cli, container: str, count: int) -> list[float]:
    """Milliseconds of `exec CONTAINER true`, one after the other; the first is not counted."""
    return [cli.timed("exec", container, "true") for _ in range(count + 1)][1:]


def descriptors(pids: Sequence[int]) -> int:
    """How many all of them have open."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


def growth(engine: Engine, container: str, count: int) -> tuple[float, float]:
    """By how much KiB of memory and how many descriptors so many commands make the engine grow."""
    for _ in range(1500):
        once(engine.api, container)  # from then on as many ended ones are known as ever will be
    pids = engine.processes()
    before = total(pss_kib, pids), descriptors(pids)
    for _ in range(count):
        once(engine.api, container)
    return total(pss_kib, pids) - before[0], descriptors(pids) - before[1]


def pid_of(engine: Engine, container: str) -> int:
    about = engine.api.call("GET", f"/containers/{container}/json").demand(200).json()
    assert isinstance(about, dict)
    return int(about["State"]["Pid"])


def measured(bed: Bed, engine: Engine, api: Row, prompt: Row, by_docker: Row) -> list[float]:
    """Ours, and the floor in the same container, half of it before and half after."""
    count = bed.number(60, 300)
    container = engine.create(*SLEEP)
    engine.start(container)
    pid = pid_of(engine, container)
    floors: list[float] = []
    with bed.column("floor", api):
        floors += floor(pid, count // 2)
    api.put("ours", at_the_api(engine.api, container, count))
    prompt.put("ours", prompt_times(engine.mdocker(), container, bed.number(10, 30)))
    by_docker.put("ours", prompt_times(engine.docker(), container, bed.number(10, 30)))
    with bed.column("floor", api):
        floors += floor(pid, count // 2)
        api.put("floor", floors)
        with_cgroup = Sample.of(floor(pid, count // 2, "--cgroup", str(cgroup_of(pid))))
        api.note = f"the floor with a cgroup of its own: {with_cgroup.median:.2f} ms"
    engine.remove(container)
    return floors


def cgroup_of(pid: int) -> Path:
    """The v2 directory of a process."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    name = next(line.removeprefix("0::") for line in lines if line.startswith("0::"))
    tops = [Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")]
    return next(top / name.lstrip("/") for top in tops if (top / name.lstrip("/")).is_dir())


def run(bed: Bed) -> list[Row]:
    api = Row("API create + start, to its end", "ms")
    prompt = Row("exec, command to prompt", "ms")
    by_docker = Row("exec, docker CLI on our socket", "ms")
    memory = Row("memory after 1000 more execs", "KiB", 256)
    files = Row("descriptors after 1000 more execs", "", 0)
    with bed.column("ours", api, prompt, by_docker), bed.engine() as engine:
        floors = measured(bed, engine, api, prompt, by_docker)
        if floors:
            api.limit = 2 * Sample.of(floors).median
    with bed.column("ours", memory, files), bed.engine() as engine:
        container = engine.create(*SLEEP)
        engine.start(container)
        more, opened = growth(engine, container, 1000)
        memory.put("ours", more)
        files.put("ours", opened)
    for peer in bed.each_peer(api, prompt, by_docker):
        with bed.column(peer.name, api, prompt, by_docker):
            container = peer.detach(*SLEEP)
            prompt.put(peer.name, prompt_times(peer, container, bed.number(6, 30)))
            if isinstance(peer, Docker):
                by_docker.cells["docker"] = prompt.cells["docker"]
                door = Api(peer.socket)
                api.put("docker", at_the_api(door, container, bed.number(10, 40)))
                door.close()
            peer.remove_all()
    return [api, prompt, by_docker, memory, files]


if __name__ == "__main__":
    script("exec", __doc__, run)
