"""What the containers run and the floor is made of: a busybox root file system, two C programs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from functools import cache
from pathlib import Path

from bench.harness import RESULTS, BenchError, Sample
from bench.machine import find
from bench.processes import run

SCRATCH = RESULTS / "scratch"
APPLETS = ("sh", "true", "sleep", "cat", "echo", "date", "yes", "head", "dd", "ls", "kill", "id")
LINE = 100  # bytes of each line of payload.c


@cache
def compiled(name: str, *options: str) -> Path:
    """Compiles bench/NAME.c into results/scratch; BenchError when there is no C compiler."""
    compiler = find("gcc") or find("cc")
    if compiler is None:
        raise BenchError("no C compiler")
    source = Path(__file__).with_name(f"{name}.c")
    SCRATCH.mkdir(parents=True, exist_ok=True)
    program = SCRATCH / name
    half_done = SCRATCH / f".{name}.{os.getpid()}"
    run([compiler, "-O2", "-Wall", *options, "-o", str(half_done), str(source)])
    half_done.replace(program)
    return program


def payload() -> Path:
    """The static program that prints in the containers; BenchError when it can't be made."""
    return compiled("payload", "-static")


def build_rootfs(directory: Path) -> Path:
    """A root file system of static busybox and payload.c; BenchError when busybox is missing.

    Without a C compiler it has no /bin/payload; the log benchmarks then say so.
    """
    busybox = find("busybox")
    if busybox is None or not _is_static(busybox):
        raise BenchError("busybox-static is not installed")
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root", "run", "var"):
        (directory / name).mkdir(parents=True)
    shutil.copy(busybox, directory / "bin" / "busybox")
    for applet in APPLETS:
        (directory / "bin" / applet).symlink_to("busybox")
    (directory / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (directory / "etc" / "group").write_text("root:x:0:\n")
    with contextlib.suppress(BenchError):  # the log benchmarks say so when they miss it
        shutil.copy(payload(), directory / "bin" / "payload")
    return directory


def _is_static(program: str) -> bool:
    """Whether an ELF file asks for no dynamic loader: none of its program headers is PT_INTERP."""
    with Path(program).open("rb") as file:
        header = file.read(64)
        if header[:4] != b"\x7fELF" or header[4] != 2:
            return False
        offset = int.from_bytes(header[32:40], "little")
        size, count = header[54], int.from_bytes(header[56:58], "little")
        file.seek(offset)
        table = file.read(size * count)
    return all(int.from_bytes(table[i * size : i * size + 4], "little") != 3 for i in range(count))


def pack(rootfs: Path, archive: Path) -> Path:
    """The root file system as a tar, as `docker import` wants it."""
    with tarfile.open(archive, "w") as tar:
        tar.add(rootfs, arcname=".")
    return archive


def expected_digest(count: int) -> str:
    """The SHA-256 of `payload lines COUNT`, computed from its own output here."""
    digest = hashlib.sha256()
    writer = subprocess.Popen([payload(), "lines", str(count)], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        while block := writer.stdout.read(1 << 20):
            digest.update(block)
    finally:
        writer.kill()
        writer.communicate()
    return digest.hexdigest()


def floor(rootfs: Path, directory: Path, runs: int, *options: str) -> dict[str, Sample]:
    """Runs floor.c; "to_exec" and "to_exit" in ms. `directory` must not exist, and is removed."""
    directory.mkdir()
    command = [str(compiled("floor")), "--lower", str(rootfs), "--scratch", str(directory)]
    try:
        told = json.loads(run([*command, "--runs", str(runs), *options]))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return {
        name: Sample.of(value / 1000 for value in told[f"{name}_us"])
        for name in ("to_exec", "to_exit")
    }
