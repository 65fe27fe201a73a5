"""An archive of images becomes files that are called by numbers. Runs inside the chroot.

Nothing of what comes is a file's name: the names are reported, with each file's size and digest,
and who asked for it follows them in its own memory (`archive_members`).
"""

from __future__ import annotations

import hashlib
import os
import tarfile

from runtime.images.entry_names import check_symlink, checked_link_source, checked_name, shown
from runtime.images.entry_numbers import check_numbers
from runtime.images.tar_entries import entries
from runtime.images.tar_source import Archive, Refusal, TarSource, Truncated

MOST_MEMBERS = 100_000
"""Entries: an archive of 1,000 images has not as many."""

_MOST_NAMES = 16 << 20
"""Bytes of all names and link targets together: the one who asked has them all in memory."""

_FREELY = 1 << 30
_MOST_TIMES = 100
"""Beyond `_FREELY` bytes what comes out must not be this many times what came."""

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Told = dict[str, list[object]]


class Staging:
    """One archive on its way to files."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._source = TarSource(archive)
        self._told: Told = {}
        self._made = 0
        self._names = 0
        self._entries = 0

    def run(self) -> Told:
        """Write all files, to the current directory, and read the source to its end.

        Returns:
            Name -> [number, size, sha256 in hex] of a file, [target] of a symbolic link. Of two
            entries with the same name the later one counts.

        Raises:
            Refusal: The archive is damaged or hostile; the text names the entry.
            OSError: `filename` is the entry's name.
        """
        try:
            for entry in entries(self._source):
                self._take(entry)
            self._source.drain()
        except Truncated as error:
            # The words that Docker's users look for.
            raise Refusal(f"unexpected EOF: {error}") from None
        return self._told

    def _take(self, entry: tarfile.TarInfo) -> None:
        name = checked_name(entry.name)
        check_numbers(entry)
        self._entries += 1
        self._names += len(name) + len(entry.linkname)
        if self._entries > MOST_MEMBERS or self._names > _MOST_NAMES:
            raise Refusal(f"{shown(name)}: more entries than an archive of images has")
        if entry.isdir():
            return
        if not name:
            raise Refusal(f"{shown(entry.name)}: the archive's root is no directory")
        if entry.issym():
            check_symlink(name, entry.linkname)
            self._told[name] = [entry.linkname]
        elif entry.islnk():
            self._told[name] = self._linked(entry)
        elif entry.isreg() and not entry.issparse():
            try:
                self._told[name] = self._file(entry)
            except OSError as error:
                error.filename = entry.name
                raise
        else:
            what = "a sparse file" if entry.issparse() else "no file, directory or link"
            raise Refusal(f"{shown(name)}: {what}, which no archive of images has")

    def _linked(self, entry: tarfile.TarInfo) -> list[object]:
        """What another name for the same file means: also once that name means another one."""
        told = self._told.get(checked_link_source(entry.name, entry.linkname))
        if told is None:
            raise Refusal(
                f"{shown(entry.name)}: hard link to {shown(entry.linkname)}, which is not in the "
                "archive before it"
            )
        return told

    def _file(self, entry: tarfile.TarInfo) -> list[object]:
        number, self._made = self._made, self._made + 1
        digest = hashlib.sha256()
        fd = os.open(str(number), _NEW_FILE, 0o600)
        try:
            left = entry.size
            while left:
                piece = self._source.take(left)
                if not piece:
                    raise Truncated(f"the archive is truncated within {shown(entry.name)}")
                self._check_expansion()
                left -= len(piece)
                digest.update(piece)
                while piece:
                    piece = piece[os.write(fd, piece) :]
        finally:
            os.close(fd)
        return [number, entry.size, digest.hexdigest()]

    def _check_expansion(self) -> None:
        came_out = self._source.tell()
        if came_out > _FREELY and came_out > _MOST_TIMES * self._archive.came:
            raise Refusal(
                f"the archive unpacks to more than {_MOST_TIMES} times its size: if it is meant "
                "so, decompress it first"
            )
