"""Finding a shim whose name is gone from RUN_DIR, and having it make its names anew.

A shim without a supervisor hears of nothing: it can't know that somebody has cleaned its names away
and that the next supervisor looks for them. SIGHUP tells it to look (`runtime.run_dir`).
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from runtime.shim_protocol import SHIM_NAME


def wake(run_dir: Path) -> bool:
    """Have the shim of a run directory see to its names; tell whether one lives.

    What is just being cloned by it looks like it, and is woken too: that changes nothing there.
    """
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return sum(_wake(pid, run_dir) for pid in pids) > 0


def _wake(pid: int, run_dir: Path) -> bool:
    place = Path(f"/proc/{pid}")
    try:
        if (place / "comm").read_bytes().rstrip(b"\n") != SHIM_NAME:
            return False
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False  # it has ended meanwhile, or is a thread
    try:
        words = (place / "cmdline").read_bytes().split(b"\0")
        if os.fsencode(run_dir) not in words or not _sees_our_files(place):
            return False
        signal.pidfd_send_signal(pidfd, signal.SIGHUP)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return True


def _sees_our_files(place: Path) -> bool:
    """Whether a process is in our mount namespace; another engine's, in a container, is not."""
    return (place / "ns/mnt").readlink() == Path("/proc/self/ns/mnt").readlink()
