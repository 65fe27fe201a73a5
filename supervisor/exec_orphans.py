"""Commands in containers that have become our children without our knowing them.

A `lasting` one is the shim's child. If that dies it is ours, as we are its subreaper, and a
supervisor that has executed another version of itself since knows nothing of it. It must be reaped
all the same: while its zombie is there, its container's pid namespace can't end.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from runtime import endings

MARK = "/exec-"
"""What the names of their cgroups begin with (`supervisor/exec_sessions.py`)."""


def foster(tasks: TaskGroup, known: Collection[int]) -> None:
    """Look after those of our children that run in a container and are not among `known`."""
    for entry in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            for word in (entry / "children").read_text().split():
                if int(word) not in known and _is_command(word):
                    with contextlib.suppress(ProcessLookupError):
                        tasks.start_soon(_look_after, os.pidfd_open(int(word)))


def _is_command(pid: str) -> bool:
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(line.startswith("0::") and MARK in line for line in lines)


async def _look_after(pidfd: int) -> None:
    try:
        await anyio.wait_readable(pidfd)
        endings.bury(pidfd)
    finally:
        os.close(pidfd)
