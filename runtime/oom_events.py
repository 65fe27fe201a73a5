"""Hearing of it when memory runs out in a container, by a descriptor that can be waited for.

On v2 `memory.events` itself wakes who polls it, once it was read (cgroups(7)). On v1 an eventfd is
registered (the kernel's cgroup-v1/memory, "OOM Control"): it rings when memory has run out, which
is before anything was killed for it, and once more when the cgroup goes.
"""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path

from runtime.cgroups import Cgroups, oom_kills_of


class Subscription:
    """One container's.

    Attributes:
        fd: Becomes ready for `events` when memory has run out.
        early: It rings before the kill is counted.
    """

    def __init__(self, file: Path, fd: int, early: bool) -> None:
        self._file = file
        self.fd = fd
        self.early = early
        self.events = select.EPOLLIN if early else select.EPOLLPRI

    def kills(self) -> int:
        """How many processes were killed so far; it listens for the next one from then on.

        Raises:
            OSError: The cgroup is gone.
        """
        if not self.early:
            return oom_kills_of(os.pread(self.fd, 4096, 0).decode())
        with contextlib.suppress(BlockingIOError):  # it has not rung
            os.eventfd_read(self.fd)
        return oom_kills_of(self._file.read_text())

    def close(self) -> None:
        """Listen no more."""
        os.close(self.fd)


def subscribe(cgroups: Cgroups, container_id: str) -> Subscription | None:
    """Listen for a container's; None where nothing counts its memory.

    Raises:
        OSError: No descriptors, or the kernel refused.
    """
    file = cgroups.oom_file(container_id)
    if file is None:
        return None
    try:
        control = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if file.name != "memory.oom_control":
        return Subscription(file, control, early=False)
    try:
        bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            registry = os.open(file.parent / "cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(registry, b"%d %d" % (bell, control))
            finally:
                os.close(registry)
        except BaseException:
            os.close(bell)
            raise
    finally:
        os.close(control)
    return Subscription(file, bell, early=True)
