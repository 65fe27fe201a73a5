"""ADD of an archive: its entries go into a layer, each where the image has that directory."""

from __future__ import annotations

import os
import posixpath
import tarfile
from typing import cast

from runtime import archive_headers as headers
from runtime.archive_order import REFUSED, Refused
from runtime.building.copying import LayerCopying
from runtime.building.sources import Source
from runtime.images.attributes import kept_attributes
from runtime.images.entry_names import shown
from runtime.images.entry_numbers import check_numbers, mtime_ns
from runtime.images.tar_entries import entries
from runtime.images.tar_source import Archive, Refusal, TarSource, Truncated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS = {
    tarfile.REGTYPE: headers.REGULAR,
    tarfile.AREGTYPE: headers.REGULAR,
    tarfile.CONTTYPE: headers.REGULAR,
    tarfile.GNUTYPE_SPARSE: headers.REGULAR,
    tarfile.LNKTYPE: headers.HARD_LINK,
    tarfile.SYMTYPE: headers.SYMLINK,
    tarfile.CHRTYPE: headers.CHARACTER,
    tarfile.BLKTYPE: headers.DEVICE,
    tarfile.DIRTYPE: headers.DIRECTORY,
    tarfile.FIFOTYPE: headers.FIFO,
}


def unpack(source: Source, layer: LayerCopying, destination: bytes) -> bool:
    """Put what an archive holds into a layer.

    Returns:
        Whether the source is an archive; nothing has happened where it is none.

    Raises:
        Refused: It is damaged, or holds what can't be in an image.
        OSError: It can't be read.
    """
    archive = Archive(source.open_file())  # closed with the process: a thread reads it
    archive.load()
    tar = TarSource(archive)
    found = entries(tar, end_mark=False)
    try:
        first = next(found, None)
    except Refusal:
        return False
    if first is None:
        return False
    try:
        _Unpacking(tar, layer, destination).run(first, found)
    except Refusal as refusal:
        raise Refused(REFUSED, f"{os.fsdecode(source.path)}: {refusal}") from None
    return True


class _Unpacking:
    """One archive."""

    def __init__(self, source: TarSource, layer: LayerCopying, destination: bytes) -> None:
        self._source = source
        self._layer = layer
        self._top = destination.strip(b"/")
        layer.make(layer.places.real(self._top))

    def run(self, first: tarfile.TarInfo, rest: Iterator[tarfile.TarInfo]) -> None:
        self._put(first)
        for entry in rest:
            self._put(entry)
        self._source.drain()

    def _put(self, entry: tarfile.TarInfo) -> None:
        check_numbers(entry)
        name = self._relative(entry.name)
        if not name:
            return  # the destination stays as it is
        kind = _KINDS.get(entry.type)
        if kind is None:
            words = entry.type.decode("ascii", "backslashreplace")
            raise Refusal(f"{shown(entry.name)}: unknown entry type '{shown(words)}'")
        place = self._place(name)
        self._layer.enter(place)
        uid, gid = self._layer.owner_of(entry.uid, entry.gid)
        if kind == headers.DIRECTORY:
            place += b"/"
        made = headers.Entry(place, kind, entry.mode & 0o7777, uid, gid, mtime_ns(entry))
        made.attributes = {os.fsencode(key): value for key, value in kept_attributes(entry).items()}
        if kind == headers.SYMLINK:
            made.target = os.fsencode(entry.linkname)
        elif kind == headers.HARD_LINK:
            made.target = self._place(self._relative(entry.linkname))
        elif kind in (headers.CHARACTER, headers.DEVICE):
            made.device = entry.devmajor, entry.devminor
        if kind == headers.REGULAR:
            self._put_file(made, entry)
        else:
            self._layer.add(made)

    def _relative(self, name: str) -> bytes:
        """A name without dots; b"" for the top."""
        if "\0" in name:
            raise Refusal(f"{shown(name)}: the name holds a NUL character")
        cleaned = posixpath.normpath(name.lstrip("/") or ".")
        if cleaned == ".." or cleaned.startswith("../"):
            raise Refusal(f"{shown(name)}: the name leads out of the archive ('..')")
        return b"" if cleaned == "." else os.fsencode(cleaned)

    def _place(self, name: bytes) -> bytes:
        above, _, base = name.rpartition(b"/")
        found = self._layer.places.real_directory(self._top + b"/" + above)
        return found + b"/" + base if found else base

    def _put_file(self, made: headers.Entry, entry: tarfile.TarInfo) -> None:
        sparse = cast("list[tuple[int, int]] | None", entry.sparse)
        length = entry.size
        table = b""
        if sparse is not None:
            # Formats, the old GNU one among them, end their maps by empty parts.
            pieces = [piece for piece in sparse if piece[1]]
            length = sum(size for _, size in pieces)
            table = headers.sparse_map(pieces or [(entry.size, 0)])
            made.real_size = entry.size
        made.size = len(table) + length
        self._layer.add(made)
        self._layer.write(table)
        while length:
            piece = self._source.take(length)
            if not piece:
                raise Truncated(f"the archive is truncated within {shown(entry.name)}")
            length -= len(piece)
            self._layer.write(bytes(piece))
        self._layer.write(bytes(-made.size % headers.BLOCK))
