"""Who holds a lock file: written into it by the holder, read by whoever is refused."""

from __future__ import annotations

import os
from pathlib import Path


def sign(lock: int, run_dir: Path) -> None:
    """Write into a lock file that we hold who we are. Raises OSError."""
    words = f"{os.getpid()} {run_dir}\n".encode()
    os.ftruncate(lock, 0)
    os.pwrite(lock, words, 0)


def words_about(lock: int) -> str:
    """Say which process holds a lock file, as far as it has said so and still lives."""
    text = os.pread(lock, 4096, 0).decode(errors="replace").strip()
    number, _, run_dir = text.partition(" ")
    if not (number.isascii() and number.isdigit()):
        return "another supervisor"
    try:
        words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return f"another supervisor (pid {number}, which is ending)"
    command = " ".join(word.decode(errors="replace") for word in words if word)
    return f"another supervisor (pid {number}, run directory {run_dir}: {command})"
