"""How inits end that no shim tells of: what is held of each, and who else knows."""

from __future__ import annotations

import os
import time

import anyio
import structlog
from anyio.abc import TaskGroup

from runtime import endings, process_stat
from runtime import shim_protocol as protocol
from runtime.exit_events import ExitEvents
from supervisor.holdings import Holding

log = structlog.get_logger()

TELLING_S = 0.5
"""The proc connector tells an exit a moment after the pidfd does."""


class Ends:
    """What is in hands of each init.

    Attributes:
        held: By container id.
    """

    def __init__(self) -> None:
        self.held: dict[str, Holding] = {}
        self._ears: ExitEvents | None = None
        self._heard = anyio.Event()

    async def learn(self, holding: Holding) -> None:
        """Find out how an init ended whose shim is dead; it has ended."""
        status = self.status(holding)
        if status is None and self._ears is not None:
            with anyio.move_on_after(TELLING_S):
                while status is None:
                    await self._heard.wait()
                    status = self._ears.take(holding.pid)
        if holding.wait_status is None:
            known = protocol.UNKNOWN_STATUS if status is None else status
            holding.ended(known, time.time_ns())

    def status(self, holding: Holding) -> int | None:
        """wait(2)'s status of an init that has ended, None where nobody knows (yet)."""
        status = None
        if holding.pidfd >= 0:
            status = endings.status_of(holding.pid, holding.start_ticks, holding.pidfd)
        if self._ears is not None:
            # It knows better than a zombie whose first thread was not the last to end.
            heard = self._ears.take(holding.pid)
            status = status if heard is None else heard
        return status

    def listen_for_orphans_of(self, shim: int, tasks: TaskGroup) -> None:
        """Listen, if its orphans won't be ours and this kernel forgets how they end."""
        if self._ears is not None or endings.is_told_after_reaping() or _is_our_child(shim):
            return
        try:
            self._ears = ExitEvents()
        except OSError as error:
            log.warning("shim.orphans_unheard", error=str(error))
            return
        tasks.start_soon(self._hear, self._ears)

    def close(self) -> None:
        """Listen no more."""
        if self._ears is not None:
            self._ears.close()

    async def _hear(self, ears: ExitEvents) -> None:
        while True:
            await anyio.wait_readable(ears.fileno())
            ears.hear({one.pid for one in self.held.values()})
            self._heard.set()
            self._heard = anyio.Event()


def _is_our_child(pid: int) -> bool:
    try:
        return int(process_stat.fields(pid)[process_stat.PARENT]) == os.getpid()
    except OSError:
        return False
