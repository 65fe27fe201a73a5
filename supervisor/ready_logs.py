"""Logs that a create has opened for the start that most likely follows at once.

Create visits the disk's thread anyhow, and a visit costs two waits for an idle processor to wake.
So it does there what the start needs, too: network files and log. For a few at a time and for a
second, so that no descriptors are spent on what nobody starts, and the host's resolv.conf is fresh.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor import network_files
from supervisor.container_logs import open_log_of

if TYPE_CHECKING:
    from logs.drivers import ContainerLog
    from supervisor.container import Container

MOST = 16
KEPT_S = 1.0


def make_ready(container: Container, directory: Path) -> ContainerLog:
    """Write what has to be on disk before anything runs, and open the log. In the disk's thread.

    Raises:
        OSError: The disk refused.
    """
    network_files.write(directory, container)
    return open_log_of(container, directory)


class ReadyLogs:
    """The logs that are open for containers which were created a moment ago."""

    def __init__(self) -> None:
        self._logs: dict[str, tuple[float, str, ContainerLog]] = {}

    def wants(self, container: Container) -> bool:
        """Whether one more is to be opened. Those that nobody has taken in time are let go."""
        due = time.monotonic() - KEPT_S
        for container_id, (since, _, _) in list(self._logs.items()):
            if since > due:
                break
            self.drop(container_id)
        # One that does not block has a thread of its own, not to be begun for nothing.
        return len(self._logs) < MOST and "mode" not in container.config.log_options

    def put(self, container: Container, opened: ContainerLog) -> None:
        """Keep a log until its container's start takes it."""
        self._logs[container.id] = (time.monotonic(), container.name, opened)

    def take(self, container: Container) -> ContainerLog | None:
        """Hand a log over, if it is still what a start would open."""
        found = self._logs.pop(container.id, None)
        if found is None:
            return None
        since, name, opened = found
        # Its records may carry the name.
        is_fresh = since > time.monotonic() - KEPT_S and name == container.name
        return opened if is_fresh and _is_in_its_place(opened) else None

    def drop(self, container_id: str) -> None:
        """Let go of a log: its file is closed with the last reference."""
        self._logs.pop(container_id, None)


def _is_in_its_place(opened: ContainerLog) -> bool:
    """Whether its name still leads to it: somebody may have mounted another disk there."""
    if opened.file is None:
        return True
    try:
        return os.path.samestat(os.stat(opened.path), os.fstat(opened.file.fd))
    except OSError:
        return False
