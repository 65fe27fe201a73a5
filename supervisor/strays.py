"""Ending what is in a container's cgroup and that nobody holds.

A shim that dies while it clones, or together with the supervisor, leaves processes that no pidfd
of ours belongs to. Their cgroup still tells which they are.
"""

from __future__ import annotations

import contextlib
import errno
import os

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
    with anyio.move_on_after(LIMIT_S, shield=True):
        while pids := cgroups.pids(container_id):
            log.warning("cgroup.strays_killed", container=container_id[:12], pids=sorted(pids))
            with contextlib.ExitStack() as stack:
                pidfds = []
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        pidfds.append(os.pidfd_open(pid))
                        stack.callback(os.close, pidfds[-1])
                cgroups.kill(container_id)
                for pidfd in pidfds:
                    await anyio.wait_readable(pidfd)
                    with contextlib.suppress(ChildProcessError):
                        kernel.wait_pidfd(pidfd)  # a dead shim's inits are our children
    cgroups.remove(container_id)
