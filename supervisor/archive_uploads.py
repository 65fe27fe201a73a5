"""Who writes into which container's files from outside, one at a time.

What is unpacked goes through a mount of the container's layer. A second one beside it, that of the
next start or of another upload, would leave both with an undefined view (overlayfs.rst, "Sharing
and copying layers"), so they take turns. A removal does not wait: it ends the upload.

Whoever waits must not wait for a client that sends nothing: while somebody does, an upload that is
silent for `SILENCE_S` is ended.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import anyio

SILENCE_S = 10.0
"""How long a client may pause while somebody waits for the end of its upload."""

END_LIMIT_S = 10.0


class _Turns:
    __slots__ = ("lock", "scope", "users")

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.scope: anyio.CancelScope | None = None
        self.users = 0


class Uploads:
    """The uploads of one engine, by container."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turns] = {}

    def __len__(self) -> int:
        return len(self._turns)

    @contextlib.asynccontextmanager
    async def turn(self, container_id: str) -> AsyncGenerator[anyio.CancelScope, None]:
        """Wait for one's turn, and have it while inside.

        The scope is cancelled by a removal.
        """
        async with self._waiting(container_id) as turns, turns.lock:
            with anyio.CancelScope() as turns.scope:
                try:
                    yield turns.scope
                finally:
                    turns.scope = None

    def somebody_waits(self, container_id: str) -> bool:
        """Whether others wait for the end of the upload under way."""
        turns = self._turns.get(container_id)
        return turns is not None and turns.lock.statistics().tasks_waiting > 0

    async def over(self, container_id: str) -> None:
        """Wait until nobody writes into a container; at once where nobody does."""
        if container_id in self._turns:
            async with self._waiting(container_id) as turns, turns.lock:
                return

    async def end(self, container_id: str) -> None:
        """End the upload under way, and wait (bounded) until it has let go."""
        turns = self._turns.get(container_id)
        if turns is None:
            return
        if turns.scope is not None:
            turns.scope.cancel("the container is removed")
        with anyio.move_on_after(END_LIMIT_S):
            await self.over(container_id)

    @contextlib.asynccontextmanager
    async def _waiting(self, container_id: str) -> AsyncGenerator[_Turns, None]:
        turns = self._turns.setdefault(container_id, _Turns())
        turns.users += 1
        try:
            yield turns
        finally:
            turns.users -= 1
            if not turns.users:
                del self._turns[container_id]
