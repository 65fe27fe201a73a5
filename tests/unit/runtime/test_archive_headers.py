"""Headers as tarfile, which knows the formats, reads them; and Go's file modes."""

import io
import stat
import tarfile

import pytest

from runtime import archive_headers as headers
from runtime.archive_paths import archive_name, clean, go_mode


def read(data):
    with tarfile.open(
        fileobj=io.BytesIO(data + headers.END), encoding="utf-8", errors="surrogateescape"
    ) as archive:
        (entry,) = archive.getmembers()
        content = archive.extractfile(entry).read() if entry.isreg() else b""
    return entry, content


def entry(name=b"name", kind=headers.REGULAR, mode=0o644, mtime_ns=10**9, **fields):
    made = headers.Entry(name, kind, mode, 1, 2, mtime_ns)
    for key, value in fields.items():
        setattr(made, key, value)
    return made


def test_a_plain_file_needs_no_records():
    spelled = entry(size=3).spell()
    assert len(spelled) == headers.BLOCK
    found, content = read(spelled + headers.padded(b"abc"))
    assert (found.name, found.mode, found.uid, found.gid, found.mtime) == ("name", 0o644, 1, 2, 1)
    assert content == b"abc"


@pytest.mark.parametrize(
    "name",
    [b"a" * 100, b"a" * 101, b"b/" * 3000 + b"c", "späße".encode(), b"\xff\xfe\n", b"n\nl", b"=1"],
)
def test_any_name(name):
    found, _ = read(entry(name=name, size=0).spell())
    assert found.name.encode("utf-8", "surrogateescape") == name


@pytest.mark.parametrize("target", [b"x" * 500, b"../\xff", b"/abs"])
def test_any_target(target):
    found, _ = read(entry(kind=headers.SYMLINK, target=target).spell())
    assert found.linkname.encode("utf-8", "surrogateescape") == target


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (981173106_123456789, "981173106.123456789"),
        (-1_500_000_000, "-1.500000000"),
        (10**9 * 2**34, f"{2**34}.000000000"),
    ],
)
def test_any_time(ns, text):
    found, _ = read(entry(mtime_ns=ns).spell())
    assert found.pax_headers["mtime"] == text


def test_numbers_beyond_the_fields():
    made = entry(kind=headers.DIRECTORY, name=b"d/")
    made.uid, made.gid = 2**31, 2**32 - 2
    found, _ = read(made.spell())
    assert (found.uid, found.gid, found.isdir()) == (2**31, 2**32 - 2, True)


def test_attributes_are_bytes():
    attributes = {b"user.a=b%": b"\x00\xff=\n", b"user.plain": b""}
    found, _ = read(entry(attributes=attributes).spell())
    value = found.pax_headers["SCHILY.xattr.user.a%3Db%25"]
    assert value.encode("utf-8", "surrogateescape") == b"\x00\xff=\n"


def test_a_sparse_file_is_read_with_its_holes():
    pieces = [(1 << 20, 5), (3 << 20, 0)]
    table = headers.sparse_map(pieces)
    spelled = entry(real_size=3 << 20, size=len(table) + 5).spell()
    found, content = read(spelled + headers.padded(table + b"hello"))
    assert (found.name, len(content)) == ("name", 3 << 20)
    assert content.strip(b"\0") == b"hello"
    assert content.index(b"hello") == 1 << 20


@pytest.mark.parametrize("length", range(80, 110))
def test_a_record_counts_its_own_digits(length):
    found, _ = read(entry(attributes={b"user.x": b"v" * length}).spell())
    assert len(found.pax_headers["SCHILY.xattr.user.x"]) == length


@pytest.mark.parametrize(
    ("mode", "go"),
    [
        (stat.S_IFREG | 0o644, 0o644),
        (stat.S_IFDIR | 0o1777, 1 << 31 | 1 << 20 | 0o777),
        (stat.S_IFREG | 0o6755, 1 << 23 | 1 << 22 | 0o755),
        (stat.S_IFLNK | 0o777, 1 << 27 | 0o777),
        (stat.S_IFCHR | 0o600, 1 << 26 | 1 << 21 | 0o600),
        (stat.S_IFBLK | 0o600, 1 << 26 | 0o600),
        (stat.S_IFIFO | 0o600, 1 << 25 | 0o600),
        (stat.S_IFSOCK | 0o600, 1 << 24 | 0o600),
    ],
)
def test_go_modes(mode, go):
    assert go_mode(mode) == go


@pytest.mark.parametrize(
    ("path", "cleaned", "name"),
    [
        (b"/a/b", b"/a/b", b"b"),
        (b"a/../b/", b"/b/", b"b"),
        (b"//a/./.", b"/a/.", b"."),
        (b"/", b"/", b""),
        (b"/.", b"/.", b"."),
        (b"/../..", b"/", b""),
        (b"/a/..", b"/", b""),
    ],
)
def test_paths_are_cleaned_as_go_does(path, cleaned, name):
    assert (clean(path), archive_name(clean(path))) == (cleaned, name)
