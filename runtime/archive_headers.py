"""Headers of tar entries, byte by byte: ustar with PAX records (pax(1), "pax Interchange Format").

tarfile could make them too, but it knows names as text and times as floats, and importing it takes
longer than copying a file. What PAX alone can say stands in records: times to the nanosecond, names
beyond 100 bytes or beyond ASCII (raw, whatever their encoding: GNU tar, Go and Python read them
so), big numbers, extended attributes as `SCHILY.xattr.NAME`, and the holes of sparse files as GNU
tar's format 1.0 has them.
"""

from __future__ import annotations

BLOCK = 512
END = bytes(2 * BLOCK)

REGULAR, HARD_LINK, SYMLINK, CHARACTER, DEVICE, DIRECTORY, FIFO = (
    b"0", b"1", b"2", b"3", b"4", b"5", b"6",
)  # fmt: skip

_PAX = b"x"
_SHORT = 100
_MOST_ID = 0o7777777
_MOST = 0o77777777777
_NANO = 1_000_000_000


class Entry:
    """What a header says.

    Attributes:
        name: As it stands in the archive; that of a directory ends in a slash.
        kind: One of the constants above.
        mode: Permissions with the setuid, setgid and sticky bits.
        size: Bytes of content that follow, padding aside.
        mtime_ns: ns since the epoch.
        target: Of a link.
        device: (major, minor) of a node.
        attributes: Extended ones.
        real_size: Of a sparse file, whose content begins with the map of its pieces; else -1.
    """

    __slots__ = (
        "attributes",
        "device",
        "gid",
        "kind",
        "mode",
        "mtime_ns",
        "name",
        "real_size",
        "size",
        "target",
        "uid",
    )

    def __init__(
        self, name: bytes, kind: bytes, mode: int, uid: int, gid: int, mtime_ns: int
    ) -> None:
        self.name = name
        self.kind = kind
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime_ns = mtime_ns
        self.size = 0
        self.target = b""
        self.device = (0, 0)
        self.attributes: dict[bytes, bytes] = {}
        self.real_size = -1

    def spell(self) -> bytes:
        """The header, its PAX records before it."""
        records = self._records()
        head = b""
        if records:
            data = b"".join(_record(key, value) for key, value in records)
            head = _block(b"PaxHeaders/entry", _PAX, 0o644, 0, 0, len(data), 0) + padded(data)
        seconds = self.mtime_ns // _NANO
        return head + _block(
            self.name,
            self.kind,
            self.mode,
            self.uid if self.uid <= _MOST_ID else 0,
            self.gid if self.gid <= _MOST_ID else 0,
            self.size if self.size <= _MOST else 0,
            seconds if 0 <= seconds <= _MOST else 0,
            self.target,
            self.device,
        )

    def _records(self) -> list[tuple[bytes, bytes]]:
        records = []
        name = self.name
        if self.real_size >= 0:
            records += [
                (b"GNU.sparse.major", b"1"),
                (b"GNU.sparse.minor", b"0"),
                (b"GNU.sparse.name", self.name),
                (b"GNU.sparse.realsize", b"%d" % self.real_size),
            ]
        elif _is_long(name):
            records.append((b"path", name))
        if _is_long(self.target):
            records.append((b"linkpath", self.target))
        seconds, rest = divmod(self.mtime_ns, _NANO)
        if rest or not 0 <= seconds <= _MOST:
            records.append((b"mtime", spell_time(self.mtime_ns)))
        for key, number, most in (
            (b"size", self.size, _MOST),
            (b"uid", self.uid, _MOST_ID),
            (b"gid", self.gid, _MOST_ID),
        ):
            if number > most:
                records.append((key, b"%d" % number))
        for key, value in self.attributes.items():
            escaped = key.replace(b"%", b"%25").replace(b"=", b"%3D")
            records.append((b"SCHILY.xattr." + escaped, value))
        return records


def spell_time(ns: int) -> bytes:
    """A time in ns as PAX has it: seconds with a fraction, which a sign before both belongs to."""
    seconds, rest = divmod(abs(ns), _NANO)
    return b"%s%d.%09d" % (b"-" if ns < 0 else b"", seconds, rest)


def sparse_map(pieces: list[tuple[int, int]]) -> bytes:
    """The map that a sparse file's content begins with, as (offset, length)."""
    lines = [len(pieces), *(number for piece in pieces for number in piece)]
    return padded(b"".join(b"%d\n" % number for number in lines))


def padded(data: bytes) -> bytes:
    """Filled up to whole blocks."""
    return data + bytes(-len(data) % BLOCK)


def _is_long(name: bytes) -> bool:
    return len(name) > _SHORT or not name.isascii()


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE\\n`, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _block(
    name: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    seconds: int,
    target: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    before = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        name[:_SHORT].ljust(_SHORT, b"\0"),
        mode,
        uid,
        gid,
        size,
        seconds,
    )
    after = b"%b%bustar\x0000%b%07o\0%07o\0" % (
        kind,
        target[:_SHORT].ljust(_SHORT, b"\0"),
        bytes(64),
        *device,
    )
    after = after.ljust(BLOCK - len(before) - 8, b"\0")
    total = sum(before) + sum(after) + 8 * ord(" ")
    return b"%b%06o\0 %b" % (before, total, after)
