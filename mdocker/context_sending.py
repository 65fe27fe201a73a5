"""A directory becomes a build's context: a tar, piece by piece, as the engine takes it.

Owners are left behind, as everybody's checkout shall build the same image, and so are sockets,
which no archive can hold.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Collection, Iterator, Mapping
from itertools import chain

from mdocker.copy_rules import words
from mdocker.copy_sending import Sending
from mdocker.dockerignore import Rules
from mdocker.errors import CliError

_LEAST = 64 * 1024


class Unreadable(CliError):
    """A file of the context can't be read."""


class ContextSending(Sending):
    """One context."""

    def __init__(
        self,
        root: str,
        rules: Rules,
        always: Collection[str] = (),
        written: Mapping[str, bytes] | None = None,
    ) -> None:
        """Begin one.

        Args:
            root: The directory.
            rules: What of it is left out.
            always: Names that are not, whatever the rules say.
            written: Files by name whose content is this, whether they are there or not.
        """
        super().__init__(_nobody, _nobody)
        self._root = root
        self._rules = rules
        self._always = frozenset(always)
        self._written = dict(written or {})
        self._above: set[str] = set()

    def context(self) -> Iterator[bytes]:
        """The archive, with its end mark; the same for the same files. No piece is empty.

        Raises:
            Unreadable: A file can't be read. One that is gone meanwhile is left out.
        """
        return _gathered(self._context())

    def _context(self) -> Iterator[bytes]:
        todo = self._inside("")
        while todo:
            name = todo.pop()
            if name in self._written:
                continue
            path = os.path.join(self._root, name)
            try:
                status = os.lstat(path)
                directory = stat.S_ISDIR(status.st_mode)
                if name in self._always or not self._rules.excludes(name):
                    yield from self._missing_above(name)
                    yield from self._member(path, name, status)
                elif directory and self._leads_on(name):
                    self._above.add(name)
                else:
                    continue
                if directory:
                    todo.extend(self._inside(name))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise Unreadable(
                    f"error checking context: unable to read '{path}': {words(error)}"
                ) from error
        for name, content in sorted(self._written.items()):
            yield from _file(name, content)
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _inside(self, name: str) -> list[str]:
        """What is in a directory, the last one first."""
        try:
            found = os.listdir(os.path.join(self._root, name))
        except OSError as error:
            if name and isinstance(error, FileNotFoundError):
                return []
            raise Unreadable(
                f"error checking context: unable to read '{os.path.join(self._root, name)}': "
                f"{words(error)}"
            ) from error
        return sorted((f"{name}/{one}" if name else one for one in found), reverse=True)

    def _leads_on(self, name: str) -> bool:
        """Whether a directory that is left out may hold what is not."""
        return self._rules.may_keep_below(name) or any(
            one.startswith(f"{name}/") for one in self._always
        )

    def _missing_above(self, name: str) -> Iterator[bytes]:
        """The directories above, which were left out so far."""
        parts = name.split("/")
        for end in range(1, len(parts)):
            above = "/".join(parts[:end])
            if above in self._above:
                self._above.remove(above)
                path = os.path.join(self._root, above)
                yield from self._member(path, above, os.lstat(path))

    def _entry(self, name: str, status: os.stat_result) -> tarfile.TarInfo:
        entry = super()._entry(name, status)
        entry.uid = entry.gid = 0
        return entry

    def _keeps(self, attribute: str) -> bool:
        # As in Docker: the others belong to this machine's file system.
        return attribute == "security.capability"


def _file(name: str, content: bytes) -> Iterator[bytes]:
    entry = tarfile.TarInfo(name)
    entry.mode = 0o600
    entry.size = len(content)
    yield entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    yield content
    yield bytes(-len(content) % tarfile.BLOCKSIZE)


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Small pieces together: many small files have many headers, each worth no system call."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _LEAST:
            yield b"".join(held)
            held, size = [], 0
    if size:
        yield b"".join(held)


def single(name: str, content: bytes) -> Iterator[bytes]:
    """The archive of one file. No piece is empty."""
    return _gathered(chain(_file(name, content), [bytes(2 * tarfile.BLOCKSIZE)]))


def _nobody(_text: str) -> None:
    """Nobody is told of what is left out."""
