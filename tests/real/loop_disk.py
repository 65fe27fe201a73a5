"""A disk of a test's own that can hang: an ext4 image on a loop device, frozen by fsfreeze(8).

A frozen file system also holds up `sync` and whoever writes there: it is always thawed, and soon.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path


def command(*words):
    subprocess.run(words, check=True, capture_output=True)


class LoopDisk:
    """An ext4 file system of its own, mounted at `path`."""

    def __init__(self, base, megabytes=512):
        self.base = Path(base)
        self.path = self.base / "mount"
        self._mounts = []
        self.path.mkdir(parents=True)
        image = self.base / "image"
        with image.open("wb") as file:
            file.truncate(megabytes << 20)
        command("mkfs.ext4", "-q", "-O", "^has_journal", str(image))
        command("mount", "-o", "loop", str(image), str(self.path))
        self._mounts.append(self.path)

    def hold(self, directory):
        """Put a directory, with all that is in it, on this disk; its name stays."""
        place = self.path / directory.name
        shutil.copytree(directory, place, symlinks=True)
        command("mount", "--bind", str(place), str(directory))
        self._mounts.append(directory)

    def release(self, directory):
        """Take it back from `hold`."""
        self._mounts.remove(directory)
        # Lazily: what holds it for a moment longer is none of this test's business.
        command("umount", "-l", str(directory))

    @contextlib.contextmanager
    def frozen(self):
        """While this lasts, whoever writes here hangs."""
        command("fsfreeze", "-f", str(self.path))
        try:
            yield
        finally:
            self.thaw()

    def thaw(self):
        """Let it go on. Once more does no harm."""
        subprocess.run(["fsfreeze", "-u", str(self.path)], check=False, capture_output=True)

    def close(self):
        self.thaw()
        for mount in reversed(self._mounts):
            command("umount", "-l", str(mount))


def wait_until_stuck(pid):
    """Wait until a thread of a process is in uninterruptible sleep, on a frozen file system."""
    while True:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                state = (task / "stat").read_text().rpartition(")")[2].split()[0]
                if state == "D" and "percpu_rwsem" in (task / "wchan").read_text():
                    return
