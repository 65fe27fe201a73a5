"""Who has hung up? One epoll and one task for all connections that wait without reading.

A request such as `wait`, `logs -f` or `events` has been read to its end, and its answer may take
days: only the kernel knows whether the client is still there. Reading to find out would swallow
pipelined requests and would take a half-closed client (`docker attach` closes its sending side
at once) for a gone one. epoll reports EPOLLHUP unasked (epoll_ctl(2)), and on a unix socket that
means both directions are shut, so a registration for no event at all is the question we have.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Iterator

import anyio

from supervisor.api.sockets import ByteSocket


class Hangups:
    """Cancels the scope of a request whose client is gone. `run` must be running."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._scopes: dict[int, anyio.CancelScope] = {}

    async def run(self) -> None:
        """Watch until cancelled, then close."""
        try:
            while True:
                await anyio.wait_readable(self._epoll.fileno())
                for descriptor, _ in self._epoll.poll(0):
                    # Level-triggered: left in, a hang-up would be reported for ever.
                    self._epoll.unregister(descriptor)
                    scope = self._scopes.pop(descriptor, None)
                    if scope is not None:
                        scope.cancel()
        finally:
            anyio.notify_closing(self._epoll.fileno())
            self._epoll.close()

    def watches(self, descriptor: int) -> bool:
        """Whether a request that takes long is under way on this connection."""
        return descriptor in self._scopes

    @contextlib.contextmanager
    def cancelling(self, connection: ByteSocket) -> Iterator[anyio.CancelScope]:
        """Cancel what runs inside when the client hangs up."""
        descriptor = connection.fileno()
        with anyio.CancelScope() as scope:
            self._scopes[descriptor] = scope
            self._epoll.register(descriptor, 0)
            try:
                yield scope
            finally:
                # At a shutdown the watching may end before what it watches over.
                if self._scopes.pop(descriptor, None) is not None and not self._epoll.closed:
                    self._epoll.unregister(descriptor)
