"""A block device that belongs to a test: a loop device over a file of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SECTOR = b"the quick brown fox"


class LoopDevice:
    """Attached until `close`; its first bytes are `SECTOR`.

    Attributes:
        path: /dev/loopN.
        major: Of the device.
        minor: Of the device.
    """

    def __init__(self, directory: Path) -> None:
        self._image = directory / "image"
        self._image.write_bytes(SECTOR.ljust(65536, b"\0"))
        words = ["losetup", "--find", "--show", str(self._image)]
        self.path = subprocess.check_output(words, text=True).strip()
        number = os.stat(self.path).st_rdev
        self.major, self.minor = os.major(number), os.minor(number)

    def content(self) -> bytes:
        """What its first bytes are now."""
        with open(self.path, "rb") as device:
            return device.read(len(SECTOR))

    def close(self) -> None:
        subprocess.run(["losetup", "--detach", self.path], check=True)
