"""Finding a shim whose name is gone from RUN_DIR, and having it make its names anew.

A shim without a supervisor hears of nothing: it can't know that somebody has cleaned its names away
and that the next supervisor looks for them. SIGHUP tells it to look (`runtime.run_dir`).
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from runtime import process_stat
from runtime.shim_protocol import SHIM_NAME
from runtime.signalling import signal_if


def wake(run_dir: Path) -> bool:
    """Have the shim of a run directory see to its names; tell whether one lives.

    What is just being cloned by it looks like it, and is woken too: that changes nothing there.
    """
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return sum(_wake(pid, run_dir) for pid in pids) > 0


def _wake(pid: int, run_dir: Path) -> bool:
    place = Path(f"/proc/{pid}")

    def is_meant() -> bool:
        words = (place / "cmdline").read_bytes().split(b"\0")
        return os.fsencode(run_dir) in words and _sees_our_files(place)

    try:
        if process_stat.name(pid) != SHIM_NAME:
            return False
    except OSError:
        return False  # it has ended meanwhile
    return signal_if(pid, signal.SIGHUP, is_meant)


def _sees_our_files(place: Path) -> bool:
    """Whether a process is in our mount namespace; another engine's, in a container, is not."""
    return (place / "ns/mnt").readlink() == Path("/proc/self/ns/mnt").readlink()
