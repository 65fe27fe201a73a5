"""Ready network namespaces with loopback up, made ahead of need.

A new network namespace costs more than half of a container's start (1.5 ms of kernel time). The
shim makes a few while it has nothing else to do; an init joins one with setns(2). When none is left
the init makes its own.
"""

from __future__ import annotations

import os

from runtime import flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.kernel import Kernel

_OWN = b"/proc/self/ns/net"
_OPEN = os.O_RDONLY | os.O_CLOEXEC


class NamespacePool:
    """A few descriptors of unused network namespaces.

    Attributes:
        wants_more: There is room; `make_one` when there is time.
    """

    def __init__(self, door: Kernel, size: int) -> None:
        self._door = door
        self._size = size
        self._ready: list[int] = []
        self._home = door.open(_OWN, _OPEN)
        self.wants_more = size > 0

    def make_one(self) -> None:
        """Add one, if the machine gives one; if not, the next try follows the next `take`."""
        try:
            self._ready.append(self._make())
        except OSError:
            # No descriptors, no memory, too many namespaces: an init that has to make its own will
            # say which, in words that reach a person.
            self.wants_more = False
        else:
            self.wants_more = len(self._ready) < self._size

    def _make(self) -> int:
        self._door.unshare(flags.CLONE_NEWNET)
        try:
            self._door.loopback_up()
            return self._door.open(_OWN, _OPEN)
        finally:
            # Can't fail: the descriptor is a network namespace and we are root in it.
            self._door.setns(self._home, flags.CLONE_NEWNET)

    def take(self) -> int:
        """A ready namespace's descriptor, now the caller's; -1 if there is none."""
        self.wants_more = self._size > 0
        return self._ready.pop() if self._ready else -1

    def drain(self) -> None:
        """Give the ready ones back, so that their descriptors can serve better; none is made until
        the next `take`."""
        while self._ready:
            self._door.close(self._ready.pop())
        self.wants_more = False
