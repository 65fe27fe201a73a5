"""Descriptors that this process was started with, because its predecessor had them.

A supervisor that the shim starts gets the listening sockets; one that an upgrade executed gets the
locks too. `MDOCKER_INHERITED` names them: `listener=3,listener=4,lock=7,lock=8`.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping, Sequence
from pathlib import Path

from runtime.succession import INHERITED
from supervisor.listening import Address, Door, bound_to


class Inherited:
    """What was passed on. Each descriptor is taken once, by whoever knows what it is.

    Attributes:
        succeeds: We follow a supervisor, without anybody's having asked for us.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Read and remove the variable; children of ours are not meant."""
        self._named: list[tuple[str, int]] = []
        self._upgraded = False
        self.succeeds = False
        for word in environment.pop(INHERITED, "").split(","):
            name, _, number = word.partition("=")
            if name and number.isdecimal():
                with contextlib.suppress(OSError):  # it isn't open: then it was none of ours
                    os.set_inheritable(int(number), False)
                    self._named.append((name, int(number)))
                    self._upgraded |= name == "lock"
                    self.succeeds = True

    def listener(self, address: Address) -> socket.socket | None:
        """The socket that clients of an address still wait at, if there is one.

        Port 0 stands for whichever the kernel has given our predecessor.
        """
        for name, descriptor in self._named:
            if name != "listener":
                continue
            found = socket.socket(fileno=descriptor)
            if _is_at(found, address):
                self._named.remove((name, descriptor))
                found.setblocking(False)
                return found
            found.detach()
        return None

    def activated(self) -> list[int]:
        """Sockets that a service manager had passed to our predecessor."""
        return self._take("activated")

    def lock(self, path: Path) -> int | None:
        """The descriptor by which our predecessor, whose process we are, holds this lock."""
        for name, descriptor in self._named:
            with contextlib.suppress(FileNotFoundError):
                if name == "lock" and os.path.samestat(os.fstat(descriptor), path.stat()):
                    self._named.remove((name, descriptor))
                    return descriptor
        return None

    @property
    def by_upgrade(self) -> bool:
        """Our predecessor was this process: it has executed us."""
        return self._upgraded

    def close(self) -> None:
        """Close what nobody took."""
        while self._named:
            os.close(self._named.pop()[1])

    def _take(self, wanted: str) -> list[int]:
        taken = [descriptor for name, descriptor in self._named if name == wanted]
        self._named = [one for one in self._named if one[0] != wanted]
        return taken


def passing(doors: Sequence[Door], *, locks: list[int]) -> str:
    """The variable's value for a program that this process executes; makes them inheritable."""
    named = [("listener" if door.ours else "activated", door.socket.fileno()) for door in doors]
    named += [("lock", descriptor) for descriptor in locks]
    for _, descriptor in named:
        os.set_inheritable(descriptor, True)
    return ",".join(f"{name}={descriptor}" for name, descriptor in named)


def _is_at(listener: socket.socket, address: Address) -> bool:
    bound = bound_to(listener)
    if isinstance(bound, str):
        return bound == address and Path(bound).is_socket()
    return bound == address or (bound[0], 0) == address
