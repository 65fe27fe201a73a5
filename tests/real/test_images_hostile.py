"""Archives that want out, lie or are damaged: one clear line, and nothing left."""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from runtime.images.errors import ImageNotFound, ImportRefused
from tests.real.image_store import archive, clean_store, entry


@pytest.fixture
def store(tmp_path):
    with clean_store(tmp_path / "store") as store:
        yield store


def refusal_of(store, data: bytes) -> str:
    """The refusal's text; the store must be as empty as before."""
    job = store.begin_import("hostile", "", [])
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(job.stdin_fd, view) :]
    except BrokenPipeError:
        pass
    job.close_stdin()
    with pytest.raises(ImportRefused) as refusal:
        job.finish()
    assert list((store.root / "staging").iterdir()) == []
    assert list((store.root / "layers").iterdir()) == []
    assert list((store.root / "blobs/sha256").iterdir()) == []
    assert not (store.root / "repositories.json").exists()
    with pytest.raises(ImageNotFound):
        store.resolve("hostile")  # no prefix of any id: "bad" was one, once in 4096 runs
    text = str(refusal.value)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


def raw_header(**fields) -> bytes:
    """A header that tarfile would not write, with a valid checksum."""
    block = bytearray(tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT))
    for offset, value in fields.values():
        block[offset : offset + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


NUMBER = b"\x80" + b"\xff" * 11
END = bytes(1024)

# Newer versions of tarfile see it themselves.
NEGATIVE_SIZE = ("t: impossible size -512", "damaged archive: no valid header")

LEADS_OUT = {
    "dots": ([entry("../evil")], "../evil: the name leads out of the image ('..')"),
    "dots within": ([entry("a/../../evil")], "a/../../evil: the name leads out"),
    "absolute": ([entry("/etc/evil")], "/etc/evil: absolute names are not allowed"),
    "absolute directory": ([entry("/evil", tarfile.DIRTYPE)], "/evil: absolute names"),
    "symlink up": ([entry("l", tarfile.SYMTYPE, "../up")], "l: symbolic link leads out"),
    "symlink further up": (
        [entry("a/b", tarfile.SYMTYPE, "../../up")],
        "a/b: symbolic link leads out of the image (../../up)",
    ),
    "symlink down and up": ([entry("l", tarfile.SYMTYPE, "a/../../up")], "symbolic link leads out"),
    "symlink through a link": (
        [
            entry("deep/er/l", tarfile.SYMTYPE, "/"),
            entry("deep/er/l/out", tarfile.SYMTYPE, "../../up"),
        ],
        "symbolic link leads out",
    ),
    "write through": (
        [entry("l", tarfile.SYMTYPE, "../../tmp"), (entry("l/evil"), b"x")],
        "l: symbolic link leads out",
    ),
    "hard link absolute": (
        [entry("h", tarfile.LNKTYPE, "/etc/shadow")],
        "h: hard link leads out of the image (/etc/shadow)",
    ),
    "hard link up": ([entry("h", tarfile.LNKTYPE, "../etc/shadow")], "h: hard link leads out"),
    "hard link to nothing": (
        [entry("h", tarfile.LNKTYPE, "etc/shadow")],
        "h: hard link to etc/shadow, which is not in the archive before it",
    ),
    "hard link through a link to nothing": (
        [entry("l", tarfile.SYMTYPE, "/etc"), entry("h", tarfile.LNKTYPE, "l/shadow")],
        "h: hard link to l/shadow, which is not in the archive before it",
    ),
    "hard link to itself": ([entry("h", tarfile.LNKTYPE, "h")], "not in the archive before it"),
    "hard link to a directory": (
        [entry("d", tarfile.DIRTYPE), entry("h", tarfile.LNKTYPE, "d")],
        "h: hard link to a directory",
    ),
    "hard link lifts a link out": (
        [entry("a/b/l", tarfile.SYMTYPE, "../../x"), entry("l", tarfile.LNKTYPE, "a/b/l")],
        "l: symbolic link leads out",
    ),
    "link loop": (
        [
            entry("a", tarfile.SYMTYPE, "b"),
            entry("b", tarfile.SYMTYPE, "a"),
            (entry("a/f"), b"x"),
        ],
        "a: too many levels of symbolic links",
    ),
    "link without target": ([entry("l", tarfile.SYMTYPE, "")], "without a valid target"),
    "root is a file": ([(entry("."), b"x")], ".: the root of an image must be a directory"),
    "root is a link": ([entry("./", tarfile.SYMTYPE, "/etc")], "the root of an image"),
    "file as parent": ([(entry("f"), b"x"), (entry("f/g"), b"x")], "f/g: not a directory"),
    "fifo as parent": ([entry("f", tarfile.FIFOTYPE), (entry("f/g"), b"x")], "f/g: not a dir"),
    "unknown kind": ([entry("v", b"V")], "v: unknown entry type 'V'"),
    "too long a name": ([entry("n" * 256)], "file name too long"),
    "control characters": ([entry("../\x1b[2J\n")], r"../\x1b[2J\n: the name leads out"),
    "major": (
        [entry("c", tarfile.CHRTYPE, devmajor=4096, devminor=0)],
        "c: impossible device 4096:0",
    ),
    "time": ([entry("t", pax_headers={"mtime": "1e400"})], "t: impossible time 1e400"),
    "not a time": ([entry("t", pax_headers={"mtime": "nan"})], "t: impossible time nan"),
    "negative uid": ([entry("t", pax_headers={"uid": "-5"})], "t: impossible uid -5"),
    "negative size": ([entry("t", pax_headers={"size": "-512"})], NEGATIVE_SIZE),
    "enormous size": ([entry("t", pax_headers={"size": "9" * 30})], "t: impossible size"),
    "attribute": (
        [entry("t", pax_headers={"SCHILY.xattr.security.capability": "garbage"})],
        "t: cannot set the attribute security.capability: invalid argument",
    ),
}


@pytest.mark.parametrize("case", LEADS_OUT)
def test_entries_that_are_refused(store, case):
    entries, words = LEADS_OUT[case]
    text = refusal_of(store, archive((entry("fine"), b"f"), *entries))
    assert any(choice in text for choice in ([words] if isinstance(words, str) else words))


RAW = {
    "nothing": (b"", "the archive is empty: not a single byte came"),
    "one byte": (b"x", "this is not a tar archive"),
    "text": (b"hello\n" * 1000, "this is not a tar archive"),
    "an ELF program": (Path("/bin/busybox").read_bytes()[:100_000], "this is not a tar archive"),
    "zstd that just stops": (b"\x28\xb5\x2f\xfd" + bytes(600), "its zstd data ends too early"),
    "gzip of nothing": (gzip.compress(b""), "the archive is empty"),
    "gzip of text": (gzip.compress(b"hello" * 500), "this is not a tar archive"),
    "only a gzip magic": (b"\x1f\x8b", "gzip data ends too early"),
    "garbage in gzip": (b"\x1f\x8b\x08" + bytes(7) + b"\xff" * 600, "gzip data is damaged"),
    "no end mark": (
        archive((entry("a"), b"x" * 512))[:1024],
        "the archive is truncated: its end mark is missing (after a)",
    ),
    "damage between entries": (
        archive((entry("a"), b"x"))[:1024] + b"garbage!" * 64 + END,
        "damaged archive: no valid header (after a)",
    ),
    "size beyond all": (raw_header(s=(124, NUMBER)) + END, "impossible size"),
    "uid beyond all": (raw_header(s=(108, b"\x80" + b"\x7f" * 7)) + END, "impossible uid"),
    "mtime beyond all": (raw_header(s=(136, b"\x80" + b"\x7f" * 11)) + END, "impossible time"),
    "a header of gigabytes": (
        raw_header(t=(156, b"x"), s=(124, b"77777777777\0")) + END,
        "a header claims",
    ),
    "a long name of gigabytes": (
        raw_header(t=(156, b"L"), s=(124, b"77777777777\0")) + END,
        "a header claims",
    ),
    "headers without end": (
        raw_header(t=(156, b"L"), s=(124, b"00000000000\0")) * 5000 + END,
        "damaged archive: headers without end",
    ),
    "sparse map that overlaps": (
        archive(
            (
                entry(
                    "s",
                    pax_headers={
                        "GNU.sparse.map": "0,10,5,10",
                        "GNU.sparse.size": "20",
                        "GNU.sparse.name": "s",
                    },
                ),
                b"x" * 20,
            )
        ),
        "s: impossible map of a sparse file",
    ),
    "sparse map beyond the data": (
        archive(
            (
                entry(
                    "s",
                    pax_headers={"GNU.sparse.map": "0,9000", "GNU.sparse.size": "9000"},
                ),
                b"x" * 20,
            )
        ),
        "",
    ),
}


@pytest.mark.parametrize("case", RAW)
def test_bytes_that_are_refused(store, case):
    data, words = RAW[case]
    assert words in refusal_of(store, data)


def sample() -> bytes:
    generator = random.Random(7)
    entries = [entry("d", tarfile.DIRTYPE), entry("l", tarfile.SYMTYPE, "d")]
    entries += [(entry(f"d/{number}"), generator.randbytes(700)) for number in range(4)]
    entries.append((entry("n" * 150, pax_headers={"comment": "c" * 600}), b"long"))
    return archive(*entries, format=tarfile.PAX_FORMAT)


SAMPLE = sample()
# The end mark is two blocks of zeros, padded to a record; with half a mark all is there.
END_OF_DATA = len(SAMPLE.rstrip(b"\0")) // 512 * 512 + 512


@pytest.mark.parametrize("length", [*range(0, END_OF_DATA, 512), *range(100, END_OF_DATA, 997)])
def test_truncated_anywhere(store, length):
    text = refusal_of(store, SAMPLE[:length])
    assert "truncated" in text or "empty" in text or length < 512


PACKED = gzip.compress(SAMPLE)


@pytest.mark.parametrize(
    "length", [*range(3, len(PACKED), len(PACKED) // 20), len(PACKED) - 1, len(PACKED) - 8]
)
def test_truncated_gzip(store, length):
    assert "truncated: its gzip data ends too early" in refusal_of(store, PACKED[:length])


@pytest.mark.parametrize("seed", range(12))
def test_damaged_bytes_end_in_an_image_or_one_line(store, seed):
    """Whatever a flipped bit makes of a header, there is an answer and no half image."""
    generator = random.Random(seed)
    data = bytearray(SAMPLE)
    for _ in range(6):
        data[generator.randrange(END_OF_DATA)] ^= 1 << generator.randrange(8)
    job = store.begin_import("hostile", "", [])
    try:
        stream = io.BytesIO(data)
        while piece := stream.read(4096):
            os.write(job.stdin_fd, piece)
    except BrokenPipeError:
        pass
    try:
        job.finish()
    except ImportRefused as refusal:
        assert "\n" not in str(refusal)
        assert "cannot unpack: " not in str(refusal), "a bug, not a refusal"
        assert list((store.root / "layers").iterdir()) == []


def test_a_tree_deeper_than_any_path_can_name(store):
    """What the chroot could hold must be removable from outside of it."""
    deep = "d/" * 2000
    text = refusal_of(store, archive((entry(f"{deep}f"), b"x"), entry("../evil")))
    assert "the name leads out" in text


def test_a_deep_directory_gives_way_to_a_file(store):
    deep = "d/" * 2000
    entries = [(entry(f"{deep}f"), b"x"), (entry("d"), b"a file"), entry("../evil")]
    assert "the name leads out" in refusal_of(store, archive(*entries))


CHECKOUT = str(Path(__file__).resolve().parents[2])
CONFINED = """
import sys
sys.path += sys.argv[2:]
from runtime.images.confinement import confine
sys.path.append("/stranger")
confine(sys.argv[1])
try:
    import isal_of_a_stranger
except ImportError:
    print("refused")
"""


def test_a_confined_child_imports_nothing_of_a_layers(tmp_path):
    """Found: the checker's second look at a layer asks for a decompressor that may not be here."""
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger/isal_of_a_stranger.py").write_text("print('caught')\n")
    words = [sys.executable, "-I", "-S", "-E", "-c", CONFINED, str(tmp_path), CHECKOUT]
    assert subprocess.run(words, capture_output=True, text=True).stdout == "refused\n"
