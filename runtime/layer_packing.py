"""What a container has changed, as an image layer: a tar of its upper directory, streamed.

The format is OCI's (https://github.com/opencontainers/image-spec/blob/main/layer.md): a file called
`.wh.NAME` says that NAME of the layers below is gone, one called `.wh..wh..opq` that nothing below
is to be seen in its directory. overlayfs has marks of its own for both (`runtime.changes`). A
directory that was renamed, where overlayfs writes down from where, goes in whole.

Places that the engine has made to mount something there belong to no image and are left out, and so
are directories that were made or touched for them alone: then a container that has changed nothing
has an empty layer.
"""

from __future__ import annotations

import os
import stat

from runtime import archive_headers as headers
from runtime import changes
from runtime.archive_order import REFUSED, Refused
from runtime.archive_packing import Packing, attributes_of, entry_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_NOTHING = -1


class LayerPacking(Packing):
    """One layer on its way to a descriptor."""

    def __init__(self, out: int, image: int, hidden: Iterable[bytes] = ()) -> None:
        """Begin one.

        Args:
            image: The root of what the layers below show; closed at the end.
            hidden: Absolute paths that the engine has made to mount something there.
        """
        super().__init__(out, sparse=True)
        self._image = image
        self._hidden = frozenset(path.strip(b"/") for path in hidden)
        # Headers of the directories that lead to here and have nothing in the archive yet.
        self._held: list[bytes] = []

    def all_of(self, upper: int) -> None:
        """Put in all that an upper directory has, and the end. Closes its descriptor.

        Raises:
            Refused: It holds what no layer can.
            OSError: Something can't be read.
        """
        try:
            if _rights(upper) != _rights(self._image):
                self._write(self._head(b"./", upper))
            self._level(b"", upper, self._image, anew=False)
            self.end()
        finally:
            os.close(upper)
            os.close(self._image)

    def _level(self, prefix: bytes, upper: int, below: int, *, anew: bool) -> bool:
        """Put in what is in one directory.

        Args:
            below: What of the image shows in it beside what the upper directory has, or -1.
            anew: The archive hides what the layers below have in its place, and has all of it.

        Returns:
            Whether something was left out.
        """
        left_out = False
        ours = _names(upper)
        for name in sorted(ours | _names(below) if anew else ours):
            as_name = prefix + name
            if as_name in self._hidden and changes.is_bare(upper, name):
                left_out = True
                continue
            if name.startswith(_WHITEOUT):
                raise Refused(
                    REFUSED,
                    f"/{os.fsdecode(as_name)}: names that begin with .wh. say in an image what is "
                    "deleted, so it can't be committed: rename it, or delete it",
                )
            if name not in ours:
                self._whole(below, name, as_name)
            elif (status := changes.look(upper, name)) is None:
                continue  # it has gone meanwhile
            elif stat.S_ISDIR(status.st_mode):
                left_out |= self._changed(upper, name, as_name, below, anew=anew)
            elif not changes.is_whiteout(status):
                self._member(upper, name, as_name)
            elif not anew:
                self._mark(prefix + _WHITEOUT + name)
        return left_out

    def _whole(self, parent: int, name: bytes, as_name: bytes) -> None:
        """Put in what the image has, with all that is in it."""
        inner = self._member(parent, name, as_name)
        if inner != _NOTHING:
            self.below(inner, as_name + b"/")

    def _changed(self, upper: int, name: bytes, as_name: bytes, below: int, *, anew: bool) -> bool:
        """Put in a directory of the upper one; tells whether it was left out."""
        fd = changes.open_directory(upper, name)
        if fd == _NOTHING:
            return False
        inner = _NOTHING
        try:
            is_opaque = changes.attribute(fd, changes.OPAQUE) == b"y"
            was_moved = bool(changes.attribute(fd, changes.REDIRECT))
            if was_moved:
                inner = changes.moved_from(self._image, below, fd)
            elif not is_opaque:
                inner = changes.open_directory(below, name)
            self._held.append(self._head(as_name + b"/", fd))
            depth = len(self._held)
            is_new = is_opaque or was_moved
            if is_new and not anew:
                self._mark(as_name + b"/" + _OPAQUE)
            left_out = self._level(as_name + b"/", fd, inner, anew=anew or is_new)
            if len(self._held) < depth:
                return False  # something in it is in the archive, and so is it
            if left_out and (inner == _NOTHING or _rights(inner) == _rights(fd)):
                self._held.pop()
                return True
            self._write(b"")
            return False
        finally:
            os.close(fd)
            if inner != _NOTHING:
                os.close(inner)

    def _head(self, as_name: bytes, fd: int) -> bytes:
        entry = entry_of(as_name, os.fstat(fd))
        entry.attributes = attributes_of(fd)
        return entry.spell()

    def _mark(self, as_name: bytes) -> None:
        """An empty file whose name is all that counts."""
        self._write(headers.Entry(as_name, headers.REGULAR, 0, 0, 0, 0).spell())

    def _write(self, data: bytes) -> None:
        if self._held:
            data = b"".join(self._held) + data
            self._held.clear()
        super()._write(data)


def _names(fd: int) -> set[bytes]:
    return {os.fsencode(name) for name in os.listdir(fd)} if fd != _NOTHING else set()


def _rights(fd: int) -> tuple[int, int, int, dict[bytes, bytes]]:
    status = os.fstat(fd)
    return status.st_mode, status.st_uid, status.st_gid, attributes_of(fd)
