"""The bed a benchmark lies in: directories, root file system, engines; all of it gone at the end.

Every script's `main` is `script(__name__, __doc__, run)`, where `run(bed)` returns the rows.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from bench.disk import FreshDisk
from bench.harness import (
    PEERS,
    BenchError,
    Record,
    Row,
    check_load,
    table,
    warn,
)
from bench.machine import run_directory, work_directory
from bench.materials import build_rootfs, pack
from bench.ours import Engine, install
from bench.peers import Docker, Peer, Podman

TROUBLE = (BenchError, OSError, subprocess.SubprocessError, ValueError, KeyError)


class Bed:
    """What the scripts run on. `quick` is minutes for all of them, else as long as it takes."""

    def __init__(self, quick: bool = True, peers: Sequence[str] = PEERS, ours: bool = True) -> None:
        self.quick = quick
        self.with_ours = ours
        self._wanted = tuple(peers)
        self._stack = contextlib.ExitStack()
        self._peers: dict[str, Peer] = {}
        self.missing: dict[str, str] = {}
        self._counter = 0

    def __enter__(self) -> Self:
        prefix = "mdocker-bench-"
        self.directory = Path(tempfile.mkdtemp(prefix=prefix, dir=work_directory()))
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        disk = FreshDisk(self.directory)
        self._stack.callback(disk.close)
        self._plain, self.directory = self.directory, disk.path
        self._run = Path(tempfile.mkdtemp(prefix=prefix, dir=run_directory()))
        self._stack.callback(shutil.rmtree, self._run, ignore_errors=True)
        self._archive: Path | None = None
        self.rootfs: Path | None = None
        try:
            self.rootfs = build_rootfs(self.directory / "rootfs")
            self._archive = pack(self.rootfs, self.directory / "rootfs.tar")
        except BenchError as error:
            self.missing["floor"] = str(error)
            self.missing.update(dict.fromkeys(PEERS, str(error)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def part(self) -> str:
        """Who alone is measured: "ours", "peers", or nobody alone."""
        if not self.with_ours:
            return "peers"
        return "" if self._wanted else "ours"

    def number(self, quick: int, full: int) -> int:
        """How many: the first in quick mode, else the second."""
        return quick if self.quick else full

    def path(self, name: str) -> Path:
        """A path in the bed's directory that nobody used yet."""
        self._counter += 1
        return self.directory / f"{name}-{self._counter}"

    @contextlib.contextmanager
    def engine(self, big_files: bool = False) -> Iterator[Engine]:
        """A fresh engine of ours, without containers.

        With `big_files` it lives on the disk itself: a loop device may hold few dirty pages, so it
        would be what is measured.
        """
        if not self.with_ours:
            raise BenchError("not asked for")
        site = self.directory / "site"
        if not site.exists():
            install(site)
        self._counter += 1
        place = self._plain if big_files else self.directory
        root, run_dir = place / f"root-{self._counter}", self._run / str(self._counter)
        with Engine(site, root, run_dir, self._archive) as engine:
            yield engine

    def peer(self, name: str, big_files: bool = False) -> Peer:
        """A peer, which stays up until the bed is left; BenchError tells why there is none.

        With `big_files` it is another one than without, on the disk itself as in `engine`.
        """
        if name not in self._wanted:
            raise BenchError("not asked for")
        if name in self.missing:
            raise BenchError(self.missing[name])
        place = self._plain if big_files else self.directory
        key = str(place / name)
        if key not in self._peers:
            assert self._archive is not None
            kind = {"podman": Podman, "docker": Docker}[name]
            try:
                fresh = kind(place / name, self._archive)
                self._peers[key] = self._stack.enter_context(fresh)
            except TROUBLE as error:
                self.missing[name] = str(error)
                raise BenchError(str(error)) from error
        return self._peers[key]

    @contextlib.contextmanager
    def column(self, column: str, *rows: Row) -> Iterator[None]:
        """Where trouble of one competitor ends: it becomes the text in the column's cells."""
        try:
            yield
        except TROUBLE as error:
            words = str(error) or type(error).__name__
            for row in rows:
                row.say(column, words)
            if words not in ("not asked for", "not installed"):
                warn(f"{column}: {words}")

    def each_peer(self, *rows: Row, big_files: bool = False) -> Iterator[Peer]:
        """Every peer there is; for the others the cells say why not."""
        for name in PEERS:
            try:
                peer = self.peer(name, big_files)
            except BenchError as error:
                for row in rows:
                    row.say(name, str(error))
                continue
            yield peer


Question = Callable[[Bed], list[Row]]


def answer(bed: Bed, name: str, documentation: str, run: Question) -> None:
    """Runs one script in a bed, prints its table and keeps its record."""
    question = documentation.strip().splitlines()[0]
    print(f"\n{name}: {question}", flush=True)
    record = Record(name, question, bed.quick, check_load(), bed.part)
    record.rows = run(bed)
    print(table(record.rows), flush=True)
    print(f"  kept in {os.path.relpath(record.write())}", flush=True)


def arguments(description: str) -> argparse.Namespace:
    """The flags that all the scripts share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--full", action="store_true", help="the long runs, some minutes each")
    parser.add_argument("--quick", action="store_true", help="the short runs (the default)")
    parser.add_argument("--ours-only", action="store_true", help="don't measure the peers")
    parser.add_argument("--peers-only", action="store_true", help="don't measure our engine")
    return parser.parse_args()


def make_bed(flags: argparse.Namespace) -> Bed:
    """The bed that the flags ask for. From here on SIGTERM and SIGHUP clean up as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
    peers = () if flags.ours_only else PEERS
    return Bed(quick=not flags.full, peers=peers, ours=not flags.peers_only)


def script(name: str, documentation: str | None, run: Question) -> None:
    """The whole of a script run by hand: `python -m bench.NAME [--full]`."""
    assert documentation is not None
    flags = arguments(documentation.strip().splitlines()[0])
    if os.geteuid() != 0:
        sys.exit("bench: containers need root; run it as root")
    try:
        with make_bed(flags) as bed:
            answer(bed, name, documentation, run)
    except KeyboardInterrupt:
        sys.exit("bench: interrupted; all that it started is gone again")
