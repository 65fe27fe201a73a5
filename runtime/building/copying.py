"""COPY, ADD and WORKDIR become a layer: a tar of what they put into an image, streamed.

A destination that leads through links of the image is where those lead, inside it. What is above it
and in the image already is told as it is there, as the directories of an upper layer count; what is
missing is made, as root's or whose the copies are to be.
"""

from __future__ import annotations

import os
import stat
import time

from runtime import archive_headers as headers
from runtime.archive_order import REFUSED, Refused
from runtime.archive_packing import Packing, attributes_of
from runtime.building.places import Places
from runtime.images.entry_names import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from runtime.building.sources import Source

_WHITEOUT = b".wh."
_ROOT_RIGHTS = (0o755, 0, 0)
"""Those of a layer's root that its archive does not mention."""

Owner = tuple[int, int]


class LayerCopying(Packing):
    """One layer on its way to a descriptor; the image's root is this process's."""

    def __init__(
        self, out: int, owner: Owner | None, covered: Iterable[bytes], *, keeps_owners: bool
    ) -> None:
        """Begin one.

        Args:
            owner: Of what is copied and made; None for root, or whoever had it.
            keeps_owners: What is copied stays whose it is. What an archive holds does in any case.
            covered: Places where a container shows this machine's own files.
        """
        super().__init__(out, sparse=True)
        self._owner = owner
        self._keeps_owners = keeps_owners
        self._covered = [path.strip(b"/") for path in covered]
        self._now = time.time_ns()
        self.places = Places()
        # Directories that are told of, and headers of those that will be with what is put into
        # them: one that lies in the image changes nothing by itself.
        self._told: set[bytes] = set()
        self._held: list[bytes] = []
        root = os.lstat(b"/")
        if (stat.S_IMODE(root.st_mode), root.st_uid, root.st_gid) != _ROOT_RIGHTS:
            self._held.append(self._there(b"", root))

    def put_in(self, source: Source, destination: bytes, *, as_directory: bool) -> None:
        """Put a source where COPY puts it.

        Args:
            destination: A path; what is in a directory goes into it, a file becomes it, or goes
                into a directory that is there.
            as_directory: It is meant to be one.

        Raises:
            Refused: It can't be put there.
            OSError: The source can't be read.
        """
        place = self.places.real(destination)
        if source.is_directory:
            self.make(place)
            self._under(place)
            self.below(source.open_directory(), place + b"/" if place else b"")
            return
        if as_directory or self.is_directory(place):
            place = (place + b"/" if place else b"") + source.name
            # In the directory it may be a link, which is replaced, as by Docker.
        self.enter(place)
        if source.is_file:
            fd = source.open_file()
            try:
                self._open_file(fd, place)
            finally:
                os.close(fd)
        else:
            self._node(place, source.status)

    def make(self, place: bytes) -> None:
        """Make a directory with those above it, where it is missing.

        Raises:
            Refused: Something else is there.
        """
        self.enter(place + b"/." if place else b"")

    def is_directory(self, place: bytes) -> bool:
        """Whether there is one."""
        if place in self._told:
            return True
        status = None if self.places.has_made(place) else self.places.status(place)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def enter(self, place: bytes) -> None:
        """Have all directories above a place told of, or ready to be.

        Raises:
            Refused: One of them is none, or the machine's own files are there.
        """
        above = b""
        for part in place.split(b"/")[:-1]:
            above += b"/" + part if above else part
            if above in self._told:
                continue
            if self.places.has_made(above):
                raise self._in_the_way(above)
            status = self.places.status(above)
            if status is None:
                self._new_directory(above)
            elif stat.S_ISDIR(status.st_mode):
                self._held.append(self._there(above, status))
                self._told.add(above)
            else:
                raise self._in_the_way(above)

    def add(self, entry: headers.Entry) -> None:
        """Put in an entry whose directory has been entered; what follows it is its content."""
        self._check(entry.name)
        target = entry.target if entry.kind == headers.SYMLINK else None
        self._is_put(entry.name.rstrip(b"/"), entry.kind, target)
        self._write(entry.spell())

    def write(self, data: bytes) -> None:
        """Put in content of the last entry."""
        self._write(data)

    def owner_of(self, uid: int, gid: int) -> Owner:
        """Whose that is which an archive holds."""
        return self._owner or (uid, gid)

    def _new_directory(self, place: bytes) -> None:
        uid, gid = self._owner or (0, 0)
        self.add(headers.Entry(place + b"/", headers.DIRECTORY, 0o755, uid, gid, self._now))

    def _there(self, place: bytes, status: os.stat_result) -> bytes:
        """The header of a directory that the image has."""
        entry = headers.Entry(
            place + b"/" if place else b"./",
            headers.DIRECTORY,
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
        )
        fd = os.open(b"/" + place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            entry.attributes = attributes_of(fd)
        finally:
            os.close(fd)
        return entry.spell()

    def _entry(self, as_name: bytes, status: os.stat_result) -> headers.Entry:
        """What a file of a source is in the layer; it is put there by this."""
        self._check(as_name)
        entry = super()._entry(as_name, status)
        if self._owner or not self._keeps_owners:
            entry.uid, entry.gid = self._owner or (0, 0)
        self._is_put(as_name.rstrip(b"/"), entry.kind)
        return entry

    def _is_put(self, place: bytes, kind: bytes, target: bytes | None = None) -> None:
        self.places.put(place, target)
        if kind == headers.DIRECTORY:
            self._told.add(place)
        else:
            self._told.discard(place)

    def _node(self, as_name: bytes, status: os.stat_result) -> None:
        if stat.S_ISCHR(status.st_mode) and not status.st_rdev:
            raise Refused(
                REFUSED,
                f"/{shown(os.fsdecode(as_name))}: a device 0:0 says in an image what is deleted, "
                "so it can't be copied",
            )
        super()._node(as_name, status)

    def _check(self, name: bytes) -> None:
        words = shown(os.fsdecode(name))
        if name.rstrip(b"/").rpartition(b"/")[2].startswith(_WHITEOUT):
            raise Refused(
                REFUSED,
                f"/{words}: names that begin with .wh. say in an image what is deleted, so it "
                "can't be copied: rename it",
            )
        self._under(name)

    def _under(self, name: bytes) -> None:
        for path in self._covered:
            if name == path or name.startswith(path + b"/"):
                raise Refused(
                    REFUSED,
                    f"/{shown(os.fsdecode(name))}: containers of this image have the machine's own "
                    f"/{os.fsdecode(path)} there, read-only: choose another place",
                )

    @staticmethod
    def _in_the_way(place: bytes) -> Refused:
        return Refused(REFUSED, f"mkdir /{shown(os.fsdecode(place))}: not a directory")

    def _write(self, data: bytes) -> None:
        if self._held:
            data = b"".join(self._held) + data
            self._held.clear()
        super()._write(data)
