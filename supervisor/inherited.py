"""Descriptors that this process was started with, because its predecessor had them.

A supervisor that the shim starts gets the listening socket; one that an upgrade executed gets the
locks too. `MDOCKER_INHERITED` names them: `listener=3,lock=7,lock=8`.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping
from pathlib import Path

from runtime.succession import INHERITED


class Inherited:
    """What was passed on. Each descriptor is taken once, by whoever knows what it is."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Read and remove the variable; children of ours are not meant."""
        self._named: list[tuple[str, int]] = []
        self._upgraded = False
        for word in environment.pop(INHERITED, "").split(","):
            name, _, number = word.partition("=")
            if name and number.isdecimal():
                with contextlib.suppress(OSError):  # it isn't open: then it was none of ours
                    os.set_inheritable(int(number), False)
                    self._named.append((name, int(number)))
                    self._upgraded |= name == "lock"

    def listener(self, path: Path) -> socket.socket | None:
        """The socket that clients of `path` still wait at, if there is one."""
        for descriptor in self._take("listener"):
            found = socket.socket(fileno=descriptor)
            if found.getsockname() == str(path) and path.is_socket():
                found.setblocking(False)
                return found
            found.close()
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


def passing(listener: socket.socket, *, ours: bool, locks: list[int]) -> str:
    """The variable's value for a program that this process executes; makes them inheritable."""
    named = [("listener" if ours else "activated", listener.fileno())]
    named += [("lock", descriptor) for descriptor in locks]
    for _, descriptor in named:
        os.set_inheritable(descriptor, True)
    return ",".join(f"{name}={descriptor}" for name, descriptor in named)
