"""The files of a log on disk: `NAME` is being written, `NAME.1` the one before it, and so on.

A kill between any two steps leaves readable files in their order:

    0  the oldest goes, if all numbers are taken
    1  a new file is made as NAME.new: if this fails, nothing has changed
    2  the numbered files move up by one, the oldest first, as far as to the first gap
    3  NAME becomes NAME.1 (with max-file=1 there is no such step)
    4  NAME.new becomes NAME

Who finds no NAME makes an empty one. Numbers with a gap are in order all the same. Compressing
writes NAME.gz-new, which becomes NAME.k.gz in one rename before NAME.k goes; if both are there they
are the same, and the plain one counts.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
import zlib
from typing import BinaryIO

import structlog

from logs import background, index
from logs.log_file import QUICKLY_DELETED, WRITE_FLAGS, LogFile

log = structlog.get_logger()

_NEW, _PACKING, _DEAD = ".new", ".gz-new", ".dead"
_CHUNK = 1 << 20
_LEVEL = 3
"""Logs shrink to a tenth by it, at three times the speed of Docker's 6."""


class Names:
    """The names of one log's files. All that changes or lists them holds its lock.

    Attributes:
        path: The file that is being written.
    """

    __slots__ = (
        "__weakref__",
        "_dead",
        "_directory",
        "_lock",
        "_name",
        "_numbered",
        "_packing",
        "_swept",
        "path",
    )

    def __init__(self, path: str) -> None:
        self.path = path
        self._directory, self._name = os.path.split(path)
        self._lock = threading.Lock()
        self._packing = False
        self._swept = False
        self._numbered: dict[int, str] | None = None
        self._dead = 0

    def numbered(self) -> dict[int, str]:
        """The rotated files by their number. The lock must be held, or nobody be rotating.

        Raises:
            OSError: the directory can't be read.
        """
        found: dict[int, str] = {}
        for name in os.listdir(self._directory):
            number, packed = self._number(name)
            if number and (number not in found or not packed):
                found[number] = os.path.join(self._directory, name)
        return found

    def rotate(self, keep: int) -> LogFile:
        """Begin a new file, and keep `keep` old ones.

        Raises:
            OSError: it could not be done, and the old file is still the one to write.
        """
        with self._lock:
            numbered, self._numbered = self._numbered, None
            if numbered is None:
                self._sweep()
                numbered = self.numbered()
            free = next((n for n in range(1, keep + 1) if n not in numbered), keep + 1)
            for number in [n for n in numbered if n > keep or n == keep < free]:
                self._bury(numbered.pop(number))
            new = self.path + _NEW
            file = _new_file(new)
            try:
                for number in range(min(free, keep) - 1, 0, -1):
                    old = numbered.pop(number)
                    packed = ".gz" if old.endswith(".gz") else ""
                    with contextlib.suppress(FileNotFoundError):  # somebody has deleted it
                        numbered[number + 1] = f"{self.path}.{number + 1}{packed}"
                        self._rename(old, numbered[number + 1])
                first = f"{self.path}.1"
                if keep:
                    with contextlib.suppress(FileNotFoundError):
                        numbered[1] = first
                        self._rename(self.path, first)
                replaced = 0 if keep else _inode(self.path)
                try:
                    self._rename(new, self.path)
                except OSError:
                    if keep:
                        os.rename(first, self.path)
                    raise
                if replaced:
                    index.drop(self._directory, replaced)
            except BaseException:
                file.close()
                with contextlib.suppress(OSError):
                    os.unlink(new)
                raise
            self._numbered = numbered
            return file

    def snapshot(self) -> contextlib.AbstractContextManager[object]:
        """Within it no name changes by us."""
        return self._lock

    def compress(self) -> None:
        """Have all rotated files compressed, by and by, in the background."""
        with self._lock:
            if self._packing:
                return
            self._packing = True
        background.submit(self._pack_all)

    def _pack_all(self) -> None:
        try:
            while self._pack_one():
                pass
        except OSError as error:
            # The files stay as they are; the next rotation has it tried again.
            log.warning("log.not_compressed", path=self.path, error=error.strerror)
            with self._lock:
                self._packing = False

    def _pack_one(self) -> bool:
        with self._lock:
            try:
                plain = [path for path in self.numbered().values() if not path.endswith(".gz")]
                source = open(plain[0], "rb") if plain else None  # noqa: SIM115
            except FileNotFoundError:
                source = None  # the container is gone
            if source is None:
                self._packing = False
                return False
        packed = self.path + _PACKING
        with source:
            status = os.fstat(source.fileno())
            try:
                _pack(source, packed)
                os.utime(packed, ns=(status.st_atime_ns, status.st_mtime_ns))
                with self._lock:
                    dead = self._put(packed, status.st_ino)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(packed)
                raise
        with contextlib.suppress(FileNotFoundError):
            os.unlink(dead)
        return True

    def _put(self, packed: str, inode: int) -> str:
        """Put a compressed file in its plain one's place. Returns what is to be deleted then."""
        for number, path in self.numbered().items():
            if os.stat(path).st_ino == inode:
                self._numbered = None
                os.rename(packed, f"{self.path}.{number}.gz")
                index.drop(self._directory, inode)
                dead = self._dead_name()
                os.rename(path, dead)
                return dead
        return packed  # rotated away meanwhile

    def _bury(self, path: str) -> None:
        """Take a file's name away at once, and its blocks when there is time."""
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(path)
            index.drop(self._directory, status.st_ino)
            if status.st_size <= QUICKLY_DELETED:
                os.unlink(path)
                return
        dead = self._dead_name()
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, dead)
            background.submit(lambda: _delete(dead))

    def _dead_name(self) -> str:
        self._dead += 1
        return f"{self.path}{_DEAD}{self._dead}"

    def _rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def _number(self, name: str) -> tuple[int, bool]:
        """The number in the name of a rotated file, else 0, and whether it is compressed."""
        if not name.startswith(self._name + "."):
            return 0, False
        rest = name[len(self._name) + 1 :]
        packed = rest.endswith(".gz")
        digits = rest.removesuffix(".gz")
        return (int(digits), packed) if digits.isdecimal() and digits.isascii() else (0, False)

    def _sweep(self) -> None:
        """Delete what a kill has left half-done, once for each process."""
        if self._swept:
            return
        plain, packed, indexes = set[int](), set[int](), set[int]()
        for name in os.listdir(self._directory):
            number, is_packed = self._number(name)
            path = os.path.join(self._directory, name)
            if number and is_packed:
                packed.add(number)
            elif number:
                plain.add(number)
            elif path.startswith((self.path + _DEAD, self.path + _NEW)):
                _delete(path)
            else:
                indexes.add(index.inode_of(name))
        for number in plain & packed:
            _delete(f"{self.path}.{number}")
        kept = {_inode(f"{self.path}.{number}") for number in plain - packed}
        for inode in indexes - kept - {0, _inode(self.path)}:
            index.drop(self._directory, inode)
        self._swept = True


_known: weakref.WeakValueDictionary[str, Names] = weakref.WeakValueDictionary()
_known_lock = threading.Lock()


def names_of(path: str) -> Names:
    """The names of a log: the same object for all who use it now."""
    with _known_lock:
        names = _known.get(path)
        if names is None:
            names = _known[path] = Names(path)
        return names


def _pack(source: BinaryIO, path: str) -> None:
    packer = zlib.compressobj(_LEVEL, wbits=16 + zlib.MAX_WBITS)  # with gzip's head and checksum
    with open(path, "wb", opener=_private) as target:
        while chunk := source.read(_CHUNK):
            with background.lowered():
                packed = packer.compress(chunk)
            target.write(packed)
        target.write(packer.flush())


def _new_file(path: str) -> LogFile:
    try:
        return LogFile(os.open(path, WRITE_FLAGS | os.O_EXCL, 0o640))
    except FileExistsError:  # of a rotation that failed
        os.unlink(path)
        return LogFile(os.open(path, WRITE_FLAGS | os.O_EXCL, 0o640))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)


def _inode(path: str) -> int:
    """A file's, or 0 where there is none."""
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0


def _delete(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
