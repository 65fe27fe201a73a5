"""A bounded list on disk that outlives the process which wrote it: JSON, an entry a line.

It lies in the run directory (tmpfs on most machines), so an entry costs one write(2) into memory.
Two files take turns, each of `keep` entries: the older is dropped whole, nothing is rewritten. A
kill in the middle of a write leaves a torn last line, which the next process cuts off.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import structlog

log = structlog.get_logger()

Entry = TypeVar("Entry", bound=msgspec.Struct)

ENTRIES = 4096
"""Entries of one file."""

_encoder = msgspec.json.Encoder()


class Journal(Generic[Entry]):
    """Remembers the newest `keep` entries at least, and twice as many at most."""

    def __init__(self, path: Path, kind: type[Entry], keep: int = ENTRIES) -> None:
        """Name the place; nothing is touched yet.

        Args:
            path: The file; the older one stands beside it with `.1` behind its name.
            kind: What an entry is.
            keep: Entries of one file.
        """
        self._path = path
        self._older = path.with_name(path.name + ".1")
        self._decoder = msgspec.json.Decoder(kind)
        self._keep = keep
        self._fd = -1
        self._count = 0
        self._failed = False

    @property
    def turned(self) -> bool:
        """Whether older entries may have been dropped."""
        return self._older.exists()

    def read(self) -> list[Entry]:
        """Return what is there, the oldest first; lines that are no entries are passed over."""
        found = []
        for path in (self._older, self._path):
            try:
                lines = path.read_bytes().split(b"\n")
            except FileNotFoundError:
                continue
            except OSError as error:
                log.error("journal.unreadable", path=str(path), error=error.strerror)
                continue
            for line in filter(None, lines):
                # Torn by a kill, or of another version: what can't be read is not there.
                with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
                    found.append(self._decoder.decode(line))
        return found

    def append(self, entry: Entry) -> bool:
        """Write an entry down; False where the disk refuses it (which is logged, once)."""
        data = _encoder.encode(entry) + b"\n"
        try:
            if self._fd < 0:
                self._open()
            if self._count >= self._keep:
                self._turn()
            written = os.write(self._fd, data)
            if written < len(data):
                # A full disk takes half a line: the other half would come behind other entries.
                os.ftruncate(self._fd, os.lseek(self._fd, 0, os.SEEK_END) - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if not self._failed:
                log.error("journal.not_written", path=str(self._path), error=error.strerror)
            self._failed = True
            return False
        self._failed = False
        self._count += 1
        return True

    def close(self) -> None:
        """Close the file; the next entry opens it again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self._path, flags, 0o600)
        try:
            data = os.pread(fd, os.fstat(fd).st_size, 0)
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                os.ftruncate(fd, whole)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        self._count = data.count(b"\n")

    def _turn(self) -> None:
        os.rename(self._path, self._older)
        self.close()
        self._open()
