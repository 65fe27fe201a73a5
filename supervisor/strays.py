"""Ending what is in a container's cgroup and that nobody holds.

A shim that dies while it clones, or together with the supervisor, leaves processes that no pidfd
of ours belongs to. Their cgroup still tells which they are.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from pathlib import Path

import anyio
import structlog

from runtime import kernel
from runtime.cgroups import Cgroups

log = structlog.get_logger()

LIMIT_S = 10.0
"""What outlives SIGKILL this long is in uninterruptible sleep: reported, not awaited."""


async def clear_cgroup(cgroups: Cgroups, container_id: str) -> None:
    """Kill all that is in a container's cgroup, wait (bounded) for its end, remove the cgroup.

    Raises:
        OSError: It is still in use (EBUSY): something outlives SIGKILL.
    """
    try:
        cgroups.remove(container_id)  # nearly always it is empty; this takes no descriptor
        return
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
    await kill_strays(cgroups, container_id)
    cgroups.remove(container_id)


async def clear_below(cgroups: Cgroups, place: str) -> None:
    """Kill all that is in a cgroup below a container's, wait (bounded) for its end, remove it.

    Args:
        place: `ID/NAME`, as `Cgroups.below` has made it; it may be gone already.

    Raises:
        OSError: It is still in use (EBUSY): something outlives SIGKILL.
    """
    try:
        cgroups.remove_below(place)  # nearly always it is empty
        return
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
    await kill_strays(cgroups, place)
    cgroups.remove_below(place)


async def kill_strays(cgroups: Cgroups, place: str, *, expected: bool = False) -> None:
    """Kill all that is in a cgroup, and wait (bounded) for its end.

    Args:
        place: A container's id, or `ID/NAME` for a cgroup below its.
        expected: That there is something is nothing to warn of.
    """
    level = logging.DEBUG if expected else logging.WARNING
    with anyio.move_on_after(LIMIT_S, shield=True):
        while pids := cgroups.pids(place):
            log.log(level, "cgroup.strays_killed", container=place[:12], pids=sorted(pids))
            with contextlib.ExitStack() as stack:
                pidfds = []
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        pidfds.append(os.pidfd_open(pid))
                        stack.callback(os.close, pidfds[-1])
                cgroups.kill(place)
                for pidfd in pidfds:
                    await anyio.wait_readable(pidfd)
                    with contextlib.suppress(ChildProcessError):
                        kernel.wait_pidfd(pidfd)  # a dead shim's inits are our children


async def end_left_over(cgroups: Cgroups, container_id: str, first: int) -> None:
    """End what a container leaves behind whose first process was the first of no pid namespace:
    only its cgroup still says what is its own.

    What nobody adopted becomes ours, as we are the shim's subreaper, and is buried.

    Args:
        first: The pid of its first process, which has ended. If its shim has died it is ours, too,
            and not to be buried before its end is on record.
    """
    try:
        await kill_strays(cgroups, container_id, expected=True)
        with anyio.move_on_after(LIMIT_S, shield=True):
            # A process that ends leaves its cgroup before it leaves its children to us.
            while orphans := set(_orphans(cgroups, container_id)) - {first}:
                for pid in orphans:
                    await _bury(pid)
    except OSError as error:
        log.error("cgroup.not_killed", container=container_id[:12], error=str(error))


async def _bury(pid: int) -> None:
    """Wait for the end of a child of ours that was killed, and reap it."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        pidfd = os.pidfd_open(pid)
        try:
            await anyio.wait_readable(pidfd)
            kernel.wait_pidfd(pidfd)
        finally:
            os.close(pidfd)


def bury_orphans(cgroups: Cgroups, place: str, spared: int = 0) -> None:
    """Reap our children that died in a cgroup before anybody told us of them.

    A dead shim's become ours, as we are its subreaper. A zombie is still where it died
    (cgroups(7), /proc/PID/cgroup), and while one is left its pid namespace can't end.

    Args:
        place: `ID/NAME`, or a container's id for all that are in or below its cgroup.
        spared: One whose end somebody else is to learn.
    """
    for pid in _orphans(cgroups, place):
        if pid != spared:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _orphans(cgroups: Cgroups, place: str) -> list[int]:
    """Our children that are, or died, in this cgroup or below it."""
    theirs = f"/{cgroups.path(place)}"
    found = []
    for tasks in Path("/proc/self/task").iterdir():
        for pid in (tasks / "children").read_text().split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                where = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
                # Of a zombie that has outlived its cgroup it says so, behind the name.
                lines = [line.removesuffix(" (deleted)") for line in where if line[:3] == "0::"]
                if any(line.endswith(theirs) or f"{theirs}/" in line for line in lines):
                    found.append(int(pid))
    return found
