"""Stopping all of a container's processes where they are, and letting them go on.

The v2 tree's freezer (cgroup.freeze, cgroups(7), needs no controller, Linux 5.2): a frozen process
is in no signal handler and in no system call that can't be broken off; SIGKILL still ends it.
Whatever is forked or enters while the cgroup is frozen is frozen too, and so is every cgroup below.
"""

from __future__ import annotations

import os
import select
from pathlib import Path

from runtime.cgroup_limits import write


def freeze(directory: Path) -> None:
    """Have all processes of a v2 cgroup stop; `Freezing` tells when they have.

    Raises:
        OSError: The cgroup is gone, or the kernel has no freezer.
    """
    write(directory / "cgroup.freeze", "1")


def thaw(directory: Path) -> None:
    """Let the processes of a v2 cgroup go on.

    Raises:
        OSError: The cgroup is gone.
    """
    write(directory / "cgroup.freeze", "0")


def is_to_be_frozen(directory: Path) -> bool:
    """Whether somebody has asked for its freezing; soon, or already, it is frozen."""
    try:
        return (directory / "cgroup.freeze").read_bytes().strip() == b"1"
    except FileNotFoundError:
        return False


class Freezing:
    """Tells when all processes of a cgroup have stopped. Close it.

    Whenever its descriptor is readable something has changed (cgroup.events, in cgroups(7): polled
    for POLLPRI, as it is always readable; so an epoll stands before it).
    """

    __slots__ = ("_epoll", "_events")

    def __init__(self, directory: Path) -> None:
        """Begin to look.

        Raises:
            OSError: The cgroup is gone, or there are no descriptors.
        """
        self._events = os.open(directory / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._epoll = select.epoll()
        except OSError:
            os.close(self._events)
            raise
        self._epoll.register(self._events, select.EPOLLPRI)

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._epoll.fileno()

    def is_over(self) -> bool:
        """Whether all have stopped, or none is left."""
        try:
            words = os.pread(self._events, 4096, 0).split()
        except OSError:
            return True  # ENODEV: it was removed
        values = dict(zip(words[::2], words[1::2], strict=False))
        return values.get(b"frozen") == b"1" or values.get(b"populated") == b"0"

    def close(self) -> None:
        """Look no more."""
        self._epoll.close()
        os.close(self._events)
