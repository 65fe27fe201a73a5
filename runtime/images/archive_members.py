"""The files of an image archive, which lie in staging by number; what they are called is data.

An archive of images (docker's, or an OCI image layout) holds a few documents and the archives of
layers. Entries may be links to one another: `docker save` before version 25 writes a layer that two
images share once, with a symbolic link in the other's place.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from runtime.images.entry_names import Links, checked_name, shown
from runtime.images.errors import ImportRefused
from runtime.images.tar_source import Refusal
from runtime.images.trees import remove_tree
from runtime.images.unpacking import Report, UnpackJob

# Made by a child that reads what strangers wrote: should it ever do something else, no link of its
# is followed here, and no pipe waited for.
_DOCUMENT = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

LARGEST_DOCUMENT = 8 << 20
"""Bytes of a document: containerd reads no larger ones from registries either."""


class Member(NamedTuple):
    """One file.

    Attributes:
        number: Which one it is in staging.
        size: Bytes.
        digest: `sha256:…` of its content.
    """

    number: int
    size: int
    digest: str


class Members:
    """Names and what they mean."""

    def __init__(self, files: Mapping[str, Member], links: Mapping[str, str]) -> None:
        """Both by normalised names; a name is in one of them."""
        self._files = files
        self._links = Links()
        for name, target in links.items():
            self._links.add(name, target)

    def find(self, name: str) -> Member | None:
        """The file that a name means, links followed; None if there is none.

        Raises:
            ImportRefused: It leads out of the archive, or in circles.
        """
        try:
            return self._files.get(self._links.resolve_directory(checked_name(name)))
        except Refusal as refusal:
            raise ImportRefused(f"invalid archive: {refusal}") from None


def of_report(reported: Mapping[str, Sequence[object]]) -> Members:
    """Members from what the child has told; see `archive_staging`."""
    files: dict[str, Member] = {}
    links: dict[str, str] = {}
    for name, told in reported.items():
        if len(told) == 1:
            links[name] = str(told[0])
        else:
            number, size, digits = told
            files[name] = Member(int(str(number)), int(str(size)), f"sha256:{digits}")
    return Members(files, links)


class StagedArchive:
    """An archive's files in staging. `remove` must be called in the end."""

    def __init__(self, directory: Path, members: Members, forget: Callable[[Path], None]) -> None:
        """Those in `directory`/fs.

        Args:
            forget: Told once the directory is gone.
        """
        self._directory = directory
        self._members = members
        self._forget = forget

    def find(self, name: str) -> Member | None:
        """As `Members.find`."""
        return self._members.find(name)

    def path(self, member: Member) -> Path:
        """Where its content is."""
        return self._directory / "fs" / str(member.number)

    def read(self, name: str, member: Member) -> bytes:
        """A document.

        Raises:
            ImportRefused: It is too large to be one.
        """
        if member.size > LARGEST_DOCUMENT:
            raise ImportRefused(
                f"invalid archive: {shown(name)} has {member.size} bytes, a document has "
                f"{LARGEST_DOCUMENT} at most"
            )
        fd = os.open(self.path(member), _DOCUMENT)
        with open(fd, "rb") as file:
            return file.read(member.size)

    def remove(self) -> None:
        """Removes all files: worker thread. Again is harmless."""
        with contextlib.suppress(OSError):  # the sweep of the next start-up tries again
            remove_tree(self._directory)
        self._forget(self._directory)


class StagingJob(UnpackJob[StagedArchive]):
    """An archive of images being taken apart."""

    def __init__(
        self,
        directory: Path,
        kept: Path,
        forget: Callable[[Path], None],
    ) -> None:
        """Starts the child.

        Args:
            directory: Where it works; gone at its end.
            kept: Where the files are to be after that.
            forget: Told of either, once it is gone.

        Raises:
            OSError: No descriptors, no disk, no process; nothing is left.
        """
        self._kept = kept
        self._begin(directory, forget, "archive")

    def _made(self, report: Report) -> StagedArchive:
        self._directory.rename(self._kept)
        return StagedArchive(self._kept, of_report(report["members"]), self._forget)

    def _remove(self) -> None:
        super()._remove()
        if not self._kept.exists():
            self._forget(self._kept)
