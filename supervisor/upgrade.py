"""Swapping the running supervisor for the installed version, with no request refused.

    asked ──▶ does the new one run at all? ──▶ accept no more; finish what is under way
      │ (POST /mdocker/upgrade, SIGHUP)  │ no: refused, all goes on
      ▼                                                    ▼
    execve of the new version: same process, so the same locks, children, main pid of systemd,
    and the same listening socket, at which clients wait meanwhile

What runs long (logs -f, wait, events, attach) is cut; its clients come back. A disk that hangs
would keep an execve waiting, so then it is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import anyio
import structlog

from supervisor import disk, succession
from supervisor.config import Settings
from supervisor.errors import Conflict, EngineFault

log = structlog.get_logger()

CHECK_LIMIT_S = 30.0

DRAIN_LIMIT_S = 12.0
"""How long requests under way may take; a stop with Docker's ten seconds just fits."""


class Upgrade:
    """The one upgrade that this process may come to.

    Attributes:
        agreed: Set once the new version has been tried and is to take over.
        drained: Set once the requests under way are answered.
    """

    def __init__(self, settings: Settings, stalls: Callable[[], dict[str, float]]) -> None:
        self._settings = settings
        self._stalls = stalls
        self._asking = anyio.Lock()
        self.agreed = anyio.Event()
        self.drained = anyio.Event()

    async def ask(self) -> None:
        """Try the installed version, and begin to make way for it; returns before it takes over.

        Raises:
            Conflict: A disk hangs, with logs in the middle of a write.
            EngineFault: The installed version does not start; its words are told.
        """
        async with self._asking:
            if self.agreed.is_set():
                return
            stalled = self._stalls()
            if stalled:
                names = ", ".join(sorted(one[:12] for one in stalled))
                raise Conflict(
                    f"cannot upgrade now: the disk of these containers' logs hangs: {names}"
                )
            if disk.hanging():
                raise Conflict(f"cannot upgrade now: disk {', '.join(disk.hanging())} hangs")
            await self._try()
            log.info("upgrade.agreed")
            self.agreed.set()

    async def _try(self) -> None:
        command = [*succession.arguments(self._settings), "--check"]
        with anyio.move_on_after(CHECK_LIMIT_S) as scope:
            done = await anyio.run_process(command, check=False, cwd=succession.PACKAGES)
        if scope.cancelled_caught:
            raise EngineFault(f"cannot upgrade: {' '.join(command)} took over {CHECK_LIMIT_S:g} s")
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            words = lines[-1] if lines else f"it ended with {done.returncode}"
            raise EngineFault(f"cannot upgrade: the installed version does not start: {words}")


def execute(settings: Settings, inherited: str) -> None:
    """Become the installed version; does not return.

    Args:
        inherited: `supervisor.inherited.passing`.

    Raises:
        OSError: The kernel refused.
    """
    os.chdir(succession.PACKAGES)
    words = succession.arguments(settings)
    os.execve(words[0], words, {**os.environ, succession.INHERITED: inherited})
