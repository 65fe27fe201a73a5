"""Was a file written to? Asked of inotify(7), which sees writes to cgroup files too."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_IN_MODIFY = 0x2
_LIBC = ctypes.CDLL(None, use_errno=True)


class Writes:
    """Watches one file as long as the block lasts."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> Writes:
        self._fd = _checked(_LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        _checked(_LIBC.inotify_add_watch(self._fd, os.fsencode(self._file), _IN_MODIFY))
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def any(self) -> bool:
        """Whether there was a write since the block began, or since the last call."""
        # An event is 16 bytes and a name; one that isn't IN_MODIFY says that the watch ended.
        try:
            events = os.read(self._fd, 4096)
        except BlockingIOError:
            return False
        masks = [
            int.from_bytes(events[at + 4 : at + 8], "little") for at in range(0, len(events), 16)
        ]
        return any(mask & _IN_MODIFY for mask in masks)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
