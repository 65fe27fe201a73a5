"""All the benchmarks, one after the other: `python -m bench`, minutes; `--full`, much longer."""

from __future__ import annotations

import importlib
import os
import sys
import time

from bench.bed import TROUBLE, answer, arguments, make_bed
from bench.harness import warn

SCRIPTS = (
    "cli_start",
    "start",
    "many",
    "memory",
    "idle_cpu",
    "health",
    "exec",
    "ps",
    "stop",
    "recover",
    "log_throughput",
    "logs_read",
    "follow",
    "images",
)


def main() -> int:
    assert __doc__ is not None
    flags = arguments(__doc__.splitlines()[0])
    if os.geteuid() != 0:
        print("bench: containers need root; run it as root", file=sys.stderr)
        return 1
    begun, failed = time.monotonic(), []
    try:
        with make_bed(flags) as bed:
            for name in SCRIPTS:
                module = importlib.import_module(f"bench.{name}")
                try:
                    answer(bed, name, module.__doc__ or name, module.run)
                except TROUBLE as error:
                    warn(f"{name}: {error}")
                    failed.append(name)
    except KeyboardInterrupt:
        print("bench: interrupted; all that it started is gone again", file=sys.stderr)
        return 130
    print(f"\n{len(SCRIPTS)} questions in {time.monotonic() - begun:.0f} s", end="")
    print(f"; without an answer: {', '.join(failed)}" if failed else "")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
