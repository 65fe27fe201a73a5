"""Rotated files that a follower has yet to read, and how much of them may be held for it.

The writer never waits for a follower. A file whose name is gone lives on while a follower that
lags refers to it, by itself or by the files before it. That costs disk and descriptors, so it is
bounded: what is beyond the bounds is let go of, and the follower is told how much it has missed.
"""

from __future__ import annotations

import weakref

from logs.log_file import LogFile, Remembered
from logs.options import LogOptions

MOST_BYTES = 256 << 20
"""Of files that no name leads to any more; the one that a follower is reading comes on top."""

MOST_FILES = 64
SMALL = 1 << 17
MOST_REMEMBERED = 32 << 20
"""Bytes of files up to `SMALL` that are held in memory, when there are more than `MOST_FILES`."""


class WaitingFiles:
    """The rotated files of one log that somebody still refers to. The writer's; it is no lock."""

    __slots__ = ("_files", "_keep", "_new_bytes", "_new_files")

    def __init__(self, options: LogOptions) -> None:
        # A file that has its name still costs nothing; compressed, it has lost it.
        self._keep = 0 if options.compress else options.max_file - 1
        self._files: list[weakref.ref[LogFile]] = []
        self._new_files = self._new_bytes = 0

    def add(self, file: LogFile) -> None:
        """A file has been rotated. The caller holds it until its successor is set."""
        self._files.append(weakref.ref(file))
        self._new_files += 1
        self._new_bytes += file.size

    def bound(self) -> None:
        """Let go of what is too much. Call it when the newest file's successor is set.

        It looks at all files that are held, so it looks at every few rotations only.
        """
        if self._new_files * 4 < MOST_FILES and self._new_bytes * 8 < MOST_BYTES:
            return
        self._new_files = self._new_bytes = 0
        files = [file for ref in self._files if (file := ref()) is not None]
        nameless = files[: max(0, len(files) - self._keep)]
        if len(nameless) > 1:
            files[: len(nameless)] = _bounded(nameless)
        self._files = [weakref.ref(file) for file in files]


def _bounded(files: list[LogFile]) -> list[LogFile]:
    """Replace or skip files from the second on: the first is being read by somebody.

    Those that nobody reads end by that. One that another follower is reading stays in the list, so
    that its successor can be replaced for that follower too.
    """
    in_memory = sum(file.size for file in files if isinstance(file, Remembered))
    on_disk = sum(file.size for file in files) - in_memory
    descriptors = sum(1 for file in files if not isinstance(file, Remembered))
    done = files[:1]
    for file in files[1:]:
        if isinstance(file, Remembered):
            if in_memory > MOST_REMEMBERED:
                in_memory -= file.size
                _skip(done, file)
        elif descriptors > MOST_FILES or on_disk > MOST_BYTES:
            on_disk -= file.size
            descriptors -= 1
            if file.size <= SMALL:
                copy = Remembered(file)
                in_memory += copy.size
                _replace(done, file, copy, 0)
                done.append(copy)
            else:
                _skip(done, file)
        done.append(file)
    return done


def _skip(before: list[LogFile], file: LogFile) -> None:
    assert file.after is not None
    successor, lost = file.after
    _replace(before, file, successor, file.size + lost)


def _replace(before: list[LogFile], file: LogFile, other: LogFile, lost: int) -> None:
    for earlier in before:
        if earlier.after is not None and earlier.after[0] is file:
            earlier.after = (other, earlier.after[1] + lost)
