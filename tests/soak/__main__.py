"""`python -m tests.soak`: see the package."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.soak.soak import Plan, Soak


def main():
    """Run a soak by the command line's wishes; returns 1 where anything was lost or left."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0, help="how long; default 180")
    parser.add_argument("--seed", type=int, help="default: one is drawn, and printed")
    parser.add_argument("--slots", type=int, default=200, help="containers at once; default 200")
    parser.add_argument(
        "--every", type=float, default=1.0, help="mean seconds between two kills; 0: none"
    )
    parser.add_argument("--supervisor", type=float, default=6.0, help="weight of killing it")
    parser.add_argument("--shim", type=float, default=1.0, help="weight of killing the shim")
    parser.add_argument(
        "--no-respawn", action="store_true", help="start it from here, not the shim"
    )
    parser.add_argument("--backend", default="asyncio", choices=("asyncio", "trio", "uvloop"))
    parser.add_argument("--keep", action="store_true", help="keep its directory and its log")
    asked = parser.parse_args()
    if not 0 < asked.seconds < float("inf") or asked.slots < 1 or not asked.every >= 0:
        parser.error("--seconds and --slots have to be more than 0, --every 0 or more")
    seed = random.SystemRandom().randrange(1 << 32) if asked.seed is None else asked.seed
    directory = Path(tempfile.mkdtemp(prefix="mdocker-soak-"))
    print(f"soak: seed {seed}, {asked.seconds:g} s, in {directory}", flush=True)
    plan = Plan(
        asked.seconds,
        seed,
        slots=asked.slots,
        victims={"supervisor": asked.supervisor, "shim": asked.shim},
        every_s=asked.every,
        backend=asked.backend,
        respawn=not asked.no_respawn,
    )
    soak = Soak(plan, directory, say=lambda words: print(words, flush=True))
    passed = soak.run()
    print(soak.closing_count(), flush=True)
    if not asked.keep:
        shutil.rmtree(directory, ignore_errors=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
