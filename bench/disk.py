"""A file system of its own for a run: empty, the same for all competitors, gone afterwards.

ext4 does not reuse an inode in the minutes after its deletion and looks at each such one again
whenever it makes a new one (`recently_deleted` of fs/ext4/ialloc.c). Where tests have just deleted
some ten thousand files a `mkdir` costs a millisecond and not 20 µs, and a benchmark would measure
that.
"""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

from bench.harness import BenchError, warn
from bench.machine import find
from bench.namespace import unmount_below
from bench.processes import run

SIZE = 24 << 30  # sparse: what is written takes room and nothing else


class FreshDisk:
    """An ext4 in a file below `directory`, mounted there; `path` is a plain directory without one.

    Attributes:
        path: Where to put things.
        fresh: Whether there is a file system of our own.
    """

    def __init__(self, directory: Path) -> None:
        self._image = directory / "disk.img"
        self.path = directory / "disk"
        self.path.mkdir()
        try:
            self._make()
            self.fresh = True
        except (BenchError, OSError, subprocess.SubprocessError) as error:
            warn(f"no file system of our own, so other people's deletions slow us down: {error}")
            self._image.unlink(missing_ok=True)
            self.fresh = False

    def _make(self) -> None:
        maker, mounter = find("mkfs.ext4"), find("mount")
        if maker is None or mounter is None:
            raise BenchError("mkfs.ext4 or mount is not installed")
        with self._image.open("wb") as file:
            file.truncate(SIZE)
        # no zeroing in the background, which would be there just while we measure
        run([maker, "-q", "-F", "-E", "lazy_itable_init=1,nodiscard", str(self._image)])
        run([mounter, "-o", "loop,noinit_itable,noatime", str(self._image), str(self.path)])

    def close(self) -> None:
        """Unmounts it and deletes the file."""
        unmount_below(self.path.parent)
        with contextlib.suppress(OSError):
            self.path.rmdir()
        self._image.unlink(missing_ok=True)
