"""All fuzzers, one after another: `make fuzz`, `make fuzz FUZZ='--minutes 20 --only parsers'`.

As root: the engine that is fuzzed is a real one, in a directory of its own.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz import connections
from tests.fuzz.findings import Findings
from tests.fuzz.watched_engine import WatchedEngine

PARTS = ("specification", "connections", "parsers")
SPECIFICATION = Path(__file__).parents[3] / "shared" / "engine-api.yaml"
TEXT_S = 5
"""A parser that works longer than this on one text hangs."""


def main() -> int:
    """Run the parts that are asked for; returns 1 if anything was found."""
    words = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    words.add_argument("--minutes", type=float, default=3, help="in all, shared by the parts")
    words.add_argument("--only", choices=PARTS, help="one part, for the whole time")
    words.add_argument("--seed", type=int, default=random.getrandbits(30), help="to repeat a run")
    words.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    words.add_argument(
        "--specification",
        type=Path,
        default=SPECIFICATION,
        help="the Engine API's, as Docker publishes it (api/swagger.yaml)",
    )
    asked = words.parse_args()
    parts = (asked.only,) if asked.only else PARTS
    seconds = asked.minutes * 60 / len(parts)
    if "specification" in parts and not asked.specification.exists():
        words.error(f"there is no {asked.specification}: name one with --specification")
    print(f"seed {asked.seed}, {seconds:.0f} s for each of {', '.join(parts)}", flush=True)
    findings = Findings()
    if "specification" in parts or "connections" in parts:
        _fuzz_engine(asked, parts, seconds, findings)
    if "parsers" in parts:
        _fuzz_parsers(seconds, asked.seed, findings)
    for kind, count in findings.seen.most_common():
        print(f"{count:6d} × {kind[:200]}")
    print(f"{len(findings.seen)} kinds of trouble found")
    return 1 if findings.seen else 0


def _fuzz_engine(
    asked: argparse.Namespace, parts: tuple[str, ...], seconds: float, findings: Findings
) -> None:
    with tempfile.TemporaryDirectory(prefix="mdocker-fuzz-") as place:
        engine = WatchedEngine(Path(place), findings, asked.backend)
        try:
            if "specification" in parts:
                # schemathesis takes two seconds to import.
                from tests.fuzz import specification

                driver = specification.run(
                    engine,
                    findings,
                    asked.specification,
                    Path(place) / "sandbox",
                    seconds,
                    asked.seed,
                )
                statuses = ", ".join(
                    f"{count} × {status}" for status, count in sorted(driver.statuses.items())
                )
                print(f"specification: {driver.sent} requests: {statuses}", flush=True)
                print(f"  holds more than before: {engine.leaks() or 'nothing'}", flush=True)
            if "connections" in parts:
                sent = connections.run(engine, findings, seconds, asked.seed)
                print(f"connections: {sent} streams of bytes", flush=True)
                print(f"  holds more than before: {engine.leaks() or 'nothing'}", flush=True)
        finally:
            engine.close()


def _fuzz_parsers(seconds: float, number: int, findings: Findings) -> None:
    names = subprocess.run(
        [
            sys.executable,
            "-c",
            "from tests.fuzz.parsers import TARGETS; print(*TARGETS, sep='\\n')",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in names:
        each = max(1, int(seconds / len(names)))
        with tempfile.TemporaryDirectory(prefix="mdocker-fuzz-") as place:
            began = time.monotonic()
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "tests.fuzz.parsers", name, f"{place}/corpus"),
                    *(f"-max_total_time={each}", f"-timeout={TEXT_S}", f"-seed={number % 2**31}"),
                    *(f"-artifact_prefix={place}/", "-print_final_stats=1", "-max_len=4096"),
                ],
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
            told = done.stdout + done.stderr
            runs = [line for line in told.splitlines() if "number_of_executed_units" in line]
            count = runs[0].split()[-1] if runs else "?"
            print(f"parser {name}: {count} texts in {time.monotonic() - began:.0f} s", flush=True)
            if done.returncode:
                texts = [path.read_bytes() for path in Path(place).glob("*-*") if path.is_file()]
                words = [
                    line for line in told.splitlines() if not line.startswith(("INFO", "WARN"))
                ]
                findings.note(f"parser {name}", "\n".join(words)[:2500], repr(texts)[:1500])


if __name__ == "__main__":
    sys.exit(main())
