"""Every limit on work at the same time, by name and with its reason."""

from __future__ import annotations

import anyio

from supervisor.archive_uploads import Uploads
from supervisor.health import Pace

STARTS_AT_ONCE = 48
"""A start holds about ten descriptors and a process that is mounting: more than this at once
makes none of them ready sooner on any machine we measured, and costs descriptors."""

RESTARTS_AT_ONCE = 2
"""Restarts of containers that have ended by themselves. Each is followed by a rest of its own
length, so that any number of them that crash all the time leave half of a core to the others."""

COMEBACKS_AT_ONCE = 8
"""Starts after a reboot: at full speed, and yet most of the starts are left to those who ask."""

REMOVALS_AT_ONCE = 8
"""Threads that delete container directories: disk work, and each holds a directory stream."""

UPDATES_AT_ONCE = 4
"""Threads that change the limits of what runs: the kernel may have to get memory back first."""

LISTINGS_AT_ONCE = 4
"""Processes of `top`: each looks at every process of the machine."""

READERS_AT_ONCE = 16
"""Threads that read old log records for clients."""

SOURCES_AT_ONCE = 32
"""Threads that look at what containers are to have mounted. They may be held up by disks of which
nothing is known, so nothing else waits for them."""

HELPERS_AT_ONCE = 8
"""Threads that start processes for containers' files (`cp`, `diff`, `export`): a few ms each. How
many such processes there are is not limited: a slow client must not keep others from copying."""

STORE_AT_ONCE = 8
"""Threads that read and write the image store for pulls and pushes: disk work, and compression."""

DOWNLOADS_AT_ONCE = 3
"""Layers that are downloaded, and unpacked, at the same time: more share the same network and
disk (Docker's default)."""

UPLOADS_AT_ONCE = 5
"""Layers that are uploaded at the same time (Docker's default)."""


class Limits:
    """The limiters of one engine; made inside its event loop."""

    def __init__(self, downloads: int = DOWNLOADS_AT_ONCE, uploads: int = UPLOADS_AT_ONCE) -> None:
        """Make them all.

        Args:
            downloads: Layers from registries at the same time.
            uploads: Layers to registries at the same time.
        """
        self.starts = anyio.Semaphore(STARTS_AT_ONCE, fast_acquire=True)
        self.restarts = anyio.Semaphore(RESTARTS_AT_ONCE, fast_acquire=True)
        self.comebacks = anyio.Semaphore(COMEBACKS_AT_ONCE, fast_acquire=True)
        self.removals = anyio.CapacityLimiter(REMOVALS_AT_ONCE)
        self.updates = anyio.CapacityLimiter(UPDATES_AT_ONCE)
        self.listings = anyio.Semaphore(LISTINGS_AT_ONCE)
        self.probes = Pace()
        self.readers = anyio.CapacityLimiter(READERS_AT_ONCE)
        self.sources = anyio.CapacityLimiter(SOURCES_AT_ONCE)
        self.helpers = anyio.CapacityLimiter(HELPERS_AT_ONCE)
        self.images = anyio.CapacityLimiter(STORE_AT_ONCE)
        self.downloads = anyio.Semaphore(downloads, fast_acquire=True)
        self.uploads_to_registries = anyio.Semaphore(uploads, fast_acquire=True)
        self.uploads = Uploads()
