"""How quickly do images come and go: pull, load, save, import, and the list of 500?

Pull is from a registry on loopback until the command line returns, with all of it unpacked: 300 MB
in 5 layers. The floor of an import is `cp` of the same file with fsync(2); its note has `tar -x`.
Memory is the largest resident size (VmHWM) of the engine's process while it pulls, and of the
largest of its children; podman has no engine, so there it is the command's own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bench.bed import Bed, script
from bench.cli import Cli
from bench.harness import Row
from bench.image_materials import big_image, layer_tar, many_images
from bench.ours import Engine
from bench.processes import all_pids, parent
from bench.processes import run as run_program
from bench.registry import running

IMPORTED = 100 << 20
MANY = 500
TIMEOUT = 300.0


class Rows:
    """All that is asked."""

    def __init__(self) -> None:
        self.pull = Row("pull 300 MB, 5 layers", "s")
        self.docker_pull = Row("the same by the docker CLI", "s")
        self.engine_memory = Row("engine while it pulls, peak RSS", "MiB")
        self.child_memory = Row("largest of its children, peak RSS", "MiB")
        self.save = Row("save of it", "s")
        self.load = Row("load of it", "s")
        self.remove = Row("rmi of it", "s")
        self.imported = Row("import of a 100 MB tar", "s")
        self.api_list = Row(f"GET /images/json, {MANY} images", "ms", 50)
        self.list = Row(f"images, {MANY} of them", "ms")
        self.docker_list = Row("the same by the docker CLI", "ms")

    def all(self) -> list[Row]:
        return list(vars(self).values())


def run(bed: Bed) -> list[Row]:
    rows = Rows()
    times = bed.number(3, 7)
    tar = bed.path("import.tar")
    tar.write_bytes(layer_tar(9, IMPORTED))
    many = many_images(bed.path("many.tar"), MANY)
    with contextlib.ExitStack() as stack:
        registry = stack.enter_context(running(bed.path("registry")))
        image = big_image()
        name = registry.keep(image, "bench/big")
        packed = sum(len(blob.data) for blob in image.blobs)
        rows.pull.note = f"{image.unpacked / 1e6:.0f} MB in tars, {packed / 1e6:.0f} MB compressed"
        del image
        competitors = []
        with bed.column("ours", *rows.all()):
            engine = stack.enter_context(bed.engine(big_files=True))
            competitors.append(Competitor("ours", engine.mdocker(), engine))
        peers = bed.each_peer(*rows.all(), big_files=True)
        competitors += [Competitor(peer.name, peer, None) for peer in peers]
        _pulls(rows, bed, competitors, name, times)
        for one in competitors:
            with bed.column(one.column, *rows.all()):
                _archives(bed, rows, one, name)
                _imports(rows, one, tar, times)
                if one.engine is not None:
                    _by_docker(rows, one, one.engine, name)
                    _lists(rows, one, one.engine, many)
    with bed.column("floor", rows.imported):
        rows.imported.put("floor", [_copied(tar, bed.path("copy")) for _ in range(times)])
        unpacked = statistics.median(_untarred(tar, bed.path("untar")) for _ in range(times))
        rows.imported.note = f"floor: cp and fsync; `tar -x` and syncfs: {unpacked:.2f} s"
    for row in rows.all():
        for column in ("podman", "docker"):
            row.say(column, "-")
    return rows.all()


class Competitor:
    """One of those that are measured."""

    def __init__(self, column: str, cli: Cli, engine: Engine | None) -> None:
        self.column = column
        self.cli = cli
        self.engine = engine

    def pull(self, name: str) -> float:
        """Seconds."""
        flags = ("--tls-verify=false",) if self.column == "podman" else ()
        return self.cli.timed("pull", "-q", *flags, name, timeout=TIMEOUT) / 1000

    def remove(self, *names: str) -> float:
        return self.cli.timed("rmi", "-f", *names, timeout=TIMEOUT) / 1000

    def processes(self) -> list[int]:
        return self.cli.background()


def _pulls(rows: Rows, bed: Bed, competitors: list[Competitor], name: str, times: int) -> None:
    """In turns, so that all meet the same moods of the machine; the last ones are watched."""
    pulled: dict[str, list[float]] = {}
    removed: dict[str, list[float]] = {}
    for left in reversed(range(times)):
        for one in competitors:
            with bed.column(one.column, *rows.all()), contextlib.ExitStack() as stack:
                peaks = None if left else stack.enter_context(_watched(one))
                os.sync()
                pulled.setdefault(one.column, []).append(one.pull(name))
                stack.close()
                if peaks is not None:
                    _remember(rows, one, peaks)
                else:
                    removed.setdefault(one.column, []).append(one.remove(name))
    for column, values in pulled.items():
        rows.pull.put(column, values)
        rows.remove.put(column, removed[column])


def _remember(rows: Rows, one: Competitor, peaks: _Peaks) -> None:
    rows.engine_memory.put(one.column, peaks.engine / 1024)
    if peaks.child:
        rows.child_memory.put(one.column, peaks.child / 1024)


def _by_docker(rows: Rows, one: Competitor, engine: Engine, name: str) -> None:
    os.sync()
    docker = engine.docker()
    rows.docker_pull.put("ours", docker.timed("pull", "-q", name, timeout=TIMEOUT) / 1000)
    one.remove(name)


def _archives(bed: Bed, rows: Rows, one: Competitor, name: str) -> None:
    path = bed.path(f"{one.column}-saved.tar")
    os.sync()
    rows.save.put(one.column, one.cli.timed("save", "-o", str(path), name, timeout=TIMEOUT) / 1000)
    one.remove(name)
    os.sync()
    rows.load.put(one.column, one.cli.timed("load", "-i", str(path), timeout=TIMEOUT) / 1000)
    one.remove(name)
    path.unlink()


def _imports(rows: Rows, one: Competitor, tar: Path, times: int) -> None:
    values = []
    for _ in range(times):
        os.sync()
        values.append(one.cli.timed("import", str(tar), "imported:1", timeout=TIMEOUT) / 1000)
        one.remove("imported:1")
    rows.imported.put(one.column, values)


def _lists(rows: Rows, one: Competitor, engine: Engine, many: Path) -> None:
    """Of peers it would take minutes to make that many."""
    one.cli.call("load", "-i", str(many), timeout=TIMEOUT)
    rows.list.put("ours", [one.cli.timed("images") for _ in range(5)])
    docker = engine.docker()
    rows.docker_list.put("ours", [docker.timed("images") for _ in range(5)])
    values = []
    for _ in range(20):
        begun = time.monotonic()
        engine.api.call("GET", "/images/json").demand(200)
        values.append((time.monotonic() - begun) * 1000)
    rows.api_list.put("ours", values)


def _copied(source: Path, target: Path) -> float:
    """Seconds of a copy that is on the disk."""
    os.sync()
    begun = time.monotonic()
    with source.open("rb") as read, target.open("wb") as written:
        shutil.copyfileobj(read, written, 1 << 20)
        written.flush()
        os.fsync(written.fileno())
    took = time.monotonic() - begun
    target.unlink()
    return took


def _untarred(source: Path, target: Path) -> float:
    """Seconds until the files of a tar are on the disk."""
    target.mkdir()
    os.sync()
    begun = time.monotonic()
    run_program(["tar", "-C", str(target), "-xf", str(source)])
    run_program(["sync", "-f", str(target)])
    took = time.monotonic() - begun
    shutil.rmtree(target)
    return took


class _Peaks:
    """Largest resident sizes so far, in KiB."""

    def __init__(self) -> None:
        self.engine = 0.0
        self.child = 0.0


@contextlib.contextmanager
def _watched(one: Competitor) -> Iterator[_Peaks]:
    """Look at the memory of an engine and its children while the block runs."""
    peaks, over = _Peaks(), threading.Event()
    engine = one.processes()[:1]
    for pid in engine:
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): forgets the peak so far
    thread = threading.Thread(target=_watch, args=(one, engine, peaks, over))
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def _watch(one: Competitor, engine: list[int], peaks: _Peaks, over: threading.Event) -> None:
    ourselves = os.getpid()
    while not over.wait(0.05):
        above = set(engine) or {ourselves}
        for pid in engine:
            peaks.engine = max(peaks.engine, _peak_kib(pid))
        for pid in all_pids():
            if parent(pid) in above and pid not in engine:
                if engine:
                    peaks.child = max(peaks.child, _peak_kib(pid))
                elif _program(pid) == "podman":
                    peaks.engine = max(peaks.engine, _peak_kib(pid))


def _program(pid: int) -> str:
    try:
        return Path(os.readlink(f"/proc/{pid}/exe")).name
    except OSError:
        return ""


def _peak_kib(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = [line for line in text.splitlines() if line.startswith("VmHWM:")]
    return float(found[0].split()[1]) if found else 0.0


if __name__ == "__main__":
    script("images", __doc__, run)
