"""Having an init cloned, whatever becomes of the shim meanwhile.

A shim that dies between the request and its answer leaves a question: did it clone? The container's
cgroup, which is new for each start, knows: an init that lives is in it, and where nothing ever was,
nothing ran.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import structlog

from runtime import process_stat
from runtime.cgroups import Cgroups
from runtime.process_stat import start_ticks
from runtime.shim_protocol import SHIM_NAME
from supervisor.shim_answers import ShimDied, Spawned
from supervisor.shim_link import ShimLink

log = structlog.get_logger()

MOST_ATTEMPTS = 4


class NeverExecuted(Exception):
    """The shim died over a start, and what it had cloned never became the payload."""


async def check_executed(shim: ShimLink, init: Spawned, deaths: int) -> None:
    """Make sure of an execve of which nothing is known but that nobody reports a failure any more.

    The end of the status pipe means success, as execve closes it; but it also ends where the init
    was killed, for the words of its failure to be found by a shim that then died itself.

    Args:
        deaths: `ShimLink.deaths` before the start.

    Raises:
        NeverExecuted: It still has the shim's name (/proc/PID/comm, which execve sets, proc(5)),
            and the shim has died.
    """
    try:
        name = process_stat.name(init.pid)
    except (FileNotFoundError, ProcessLookupError):
        return  # it has ended and was reaped, by a shim that lived on
    # A payload may be called so, too: then the shim lives.
    if name == SHIM_NAME and await shim.dies_after(deaths):
        raise NeverExecuted


async def spawn(
    shim: ShimLink,
    cgroups: Cgroups,
    container_id: str,
    descriptors: tuple[int, ...],
    stdin: tuple[int, ...] = (),
    apart: bool = True,
) -> Spawned:
    """Have an init cloned, by another shim where one dies over it.

    Args:
        descriptors: As for `ShimLink.spawn`.
        stdin: The same.
        apart: It is the first process of a pid namespace of its own.

    Raises:
        OSError: The kernel refused, or what was cloned has ended unseen, or each shim dies.
    """
    for _ in range(MOST_ATTEMPTS):
        try:
            return await shim.spawn(container_id, descriptors, stdin)
        except ShimDied:
            found = find_init(cgroups, container_id, apart)
            log.warning("start.shim_died", container=container_id[:12], found=found is not None)
            if found is not None:
                await shim.take(container_id, found, *descriptors[-2:], stdin[1] if stdin else -1)
                return found
            if cgroups.has_run(container_id) or cgroups.pids(container_id):
                raise OSError(
                    errno.ECONNRESET,
                    "the shim died while it started the container, and what it had started has "
                    "ended unseen; look at its log before you start it again",
                ) from None
    raise OSError(errno.ECONNRESET, f"{MOST_ATTEMPTS} shims died while they started it")


def find_init(cgroups: Cgroups, container_id: str, apart: bool = True) -> Spawned | None:
    """The init in a container's cgroup, whoever cloned it: the first of its pid namespace.

    Args:
        apart: It has one of its own. Otherwise it is the oldest one there.
    """
    pids = cgroups.pids(container_id)
    for pid in pids if apart else _oldest(pids):
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not apart or _is_first(pid):
                return Spawned(pid, start_ticks(pid), pidfd)
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has ended meanwhile
        os.close(pidfd)
    return None


def _oldest(pids: set[int]) -> list[int]:
    """The one of them that began first, if there is any. Of those that began in the same 10 ms the
    lowest number: what it has forked has come after it."""
    found = []
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append((start_ticks(pid), pid))
    return [pid for _, pid in sorted(found)[:1]]


def _is_first(pid: int) -> bool:
    """NSpid of /proc/PID/status (proc(5)): its number in each namespace, ours first."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return line.split()[-1] == "1" and len(line.split()) > 2
    return False
