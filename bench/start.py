"""How long does it take to start one container?

At the API (create + start, until the program runs) against the same set-up in C and against the
OCI runtimes alone (`crun run` in podman's column, `runc run` in docker's); then `run -d` from
command to prompt. Each starts busybox's `true` with overlay and a network namespace of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.bed import Bed, script
from bench.cli import Cli
from bench.harness import Row, Sample
from bench.materials import floor
from bench.ours import Engine
from bench.peers import Bundle


def api_runs(engine: Engine, count: int) -> Iterator[tuple[float, float, float]]:
    """Milliseconds of create, of start, and from create to the reply of wait, run after run."""
    for number in range(count + 3):
        begun = time.monotonic()
        container = engine.create("true")
        created = time.monotonic()
        engine.start(container)
        started = time.monotonic()
        engine.wait(container)
        ended = time.monotonic()
        engine.remove(container)
        if number >= 3:  # the first ones import and warm up
            yield (created - begun) * 1000, (started - created) * 1000, (ended - begun) * 1000


def prompt_times(cli: Cli, count: int) -> list[float]:
    """Milliseconds of `run -d … true`, one after the other; the first is not counted."""
    values = [cli.timed(*cli.run_arguments("true")) for _ in range(count + 1)][1:]
    cli.remove_all()
    return values


def floors(bed: Bed, count: int) -> list[dict[str, Sample]]:
    """The floor, once plain and once with all that an engine adds; nothing without a compiler."""
    assert bed.rootfs is not None
    options = (("--net",), ("--net", "--full"))
    return [floor(bed.rootfs, bed.path("floor"), count, *flags) for flags in options]


def run(bed: Bed) -> list[Row]:
    both = Row("API create + start, to exec", "ms")
    first, second = Row("… of which create", "ms"), Row("… of which start", "ms")
    whole = Row("API create + start + wait, to exit", "ms")
    prompt = Row("run -d, command to prompt", "ms", 150)
    by_docker = Row("run -d, docker CLI on our socket", "ms", 40)
    rows = [both, first, second, whole, prompt, by_docker]
    api_rows = (both, first, second, whole)
    count = bed.number(40, 200)

    # half of the floor before ours and half after, since the machine's mood changes
    plain: list[float] = []
    full: list[float] = []
    to_exit: list[float] = []

    def measure_floor() -> None:
        with bed.column("floor", both, second, whole):
            if "floor" not in bed.missing:
                bare, complete = floors(bed, count // 2)
                plain.extend(bare["to_exec"].values)
                full.extend(complete["to_exec"].values)
                to_exit.extend(bare["to_exit"].values)

    measure_floor()
    with bed.column("ours", *rows), bed.engine() as engine:
        creating, starting, ending = zip(*api_runs(engine, count), strict=True)
        both.put("ours", [a + b for a, b in zip(creating, starting, strict=True)])
        first.put("ours", creating)
        second.put("ours", starting)
        whole.put("ours", ending)
        prompt.put("ours", prompt_times(engine.mdocker(), bed.number(10, 30)))
        by_docker.put("ours", prompt_times(engine.docker(), bed.number(10, 30)))
    measure_floor()
    if plain:
        for row, values in ((both, plain), (second, plain), (whole, to_exit)):
            row.put("floor", values)
        both.limit = 2 * Sample.of(plain).median
        both.note = (
            f"the floor with pts, shm, mqueue, masks, lo up: {Sample.of(full).median:.2f} ms; "
            "podman and docker: crun run and runc run, to exit"
        )
    for peer, runtime in (("podman", "crun"), ("docker", "runc")):
        with bed.column(peer, *api_rows):
            bed.peer(peer)
            assert bed.rootfs is not None
            bundle = Bundle(runtime, bed.path(runtime), bed.rootfs, "/bin/true")
            try:
                values = [bundle.timed() for _ in range(bed.number(10, 40))]
            finally:
                bundle.close()
            both.put(peer, values)
            whole.put(peer, values)
    for each in bed.each_peer(prompt, by_docker):
        with bed.column(each.name, prompt, by_docker):
            prompt.put(each.name, prompt_times(each, bed.number(6, 30)))
            if each.name == "docker":
                by_docker.cells["docker"] = prompt.cells["docker"]
    return rows


if __name__ == "__main__":
    script("start", __doc__, run)
