"""What a phase has to take back if it fails or is cancelled half-way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import structlog

log = structlog.get_logger()

UNDO_LIMIT_S = 10.0
"""A clean-up that hangs is given up after this and reported; the next start-up sweeps."""


class Undo:
    """A stack of steps to take back, run in reverse order.

    Use as an async context manager: leaving it by any exception (cancellation too) runs the
    steps in a shield with a deadline; `keep()` forgets them, once the phase has succeeded.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[str, Callable[[], Awaitable[None] | None]]] = []

    def push(self, what: str, step: Callable[[], Awaitable[None] | None]) -> None:
        """Remember a step; `what` says in the log what could not be undone."""
        self._steps.append((what, step))

    def keep(self) -> None:
        """The phase has succeeded: nothing is taken back."""
        self._steps.clear()

    async def __aenter__(self) -> Undo:
        return self

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is not None:
            await self.run()

    async def run(self) -> None:
        """Take back every step, whatever the others do."""
        while self._steps:
            what, step = self._steps.pop()
            with anyio.move_on_after(UNDO_LIMIT_S, shield=True) as scope:
                try:
                    waiting = step()
                    if waiting is not None:
                        await waiting
                except OSError as error:
                    log.error("undo.failed", step=what, error=str(error))
            if scope.cancelled_caught:
                log.error("undo.timed_out", step=what, limit_s=UNDO_LIMIT_S)
