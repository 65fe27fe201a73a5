"""Who holds a lock file: written into it by the holder, read by whoever is refused."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from runtime.signalling import signal_if


def sign(lock: int, run_dir: Path) -> None:
    """Write into a lock file that we hold who we are. Raises OSError."""
    words = f"{os.getpid()} {run_dir}\n".encode()
    os.ftruncate(lock, 0)
    os.pwrite(lock, words, 0)


def words_about(lock: int) -> str:
    """Say which process holds a lock file, as far as it has said so and still lives."""
    number, run_dir = _signed(lock)
    if not number:
        return "another supervisor"
    try:
        words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return f"another supervisor (pid {number}, which is ending)"
    command = " ".join(word.decode(errors="replace") for word in words if word)
    return f"another supervisor (pid {number}, run directory {run_dir}: {command})"


def call_back(lock: int, run_dir: Path) -> bool:
    """Have the holder of a lock file make its names in RUN_DIR anew, which we could lock beside it:
    somebody has cleaned them away.

    It executes itself, as for an upgrade, and finds that they are gone. Containers go on.

    Returns:
        Whether it is told so: it is alive, and this was its run directory.
    """
    number, signed = _signed(lock)
    if not number or os.path.realpath(signed) != os.path.realpath(run_dir):
        return False
    # It may have ended, and another process have got its number.
    return signal_if(number, signal.SIGHUP, lambda: _has_open(number, lock))


def _signed(lock: int) -> tuple[int, str]:
    """The pid and run directory that a lock file names; 0 where nobody has signed."""
    text = os.pread(lock, 4096, 0).decode(errors="replace").strip()
    number, _, run_dir = text.partition(" ")
    return (int(number), run_dir) if number.isascii() and number.isdigit() else (0, "")


def _has_open(pid: int, lock: int) -> bool:
    place, ours = f"/proc/{pid}/fd", os.fstat(lock)
    for name in os.listdir(place):
        with contextlib.suppress(FileNotFoundError):  # closed as we look
            if os.path.samestat(os.stat(f"{place}/{name}"), ours):
                return True
    return False
