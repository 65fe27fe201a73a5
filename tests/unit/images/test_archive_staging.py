"""The outer tar of an archive of images becomes numbered files; hostile ones become one line."""

import bz2
import contextlib
import gzip
import hashlib
import lzma
import os
import tarfile
import threading

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.images import archive_staging
from runtime.images.archive_members import StagedArchive, of_report
from runtime.images.archive_staging import Staging
from runtime.images.errors import ImportRefused
from runtime.images.tar_source import Archive, Refusal
from tests.real.image_store import archive, entry

LINK, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE


def read_away(staging):
    """Have its thread end: the process that it is made for would."""
    with contextlib.suppress(Refusal):
        staging._source.drain()
    staging._source.diff_id()


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Stages bytes in a directory of the test's own."""
    (tmp_path / "fs").mkdir()
    monkeypatch.chdir(tmp_path / "fs")

    def staged(data):
        reading, writing = os.pipe()

        def feed():
            with os.fdopen(writing, "wb") as file:
                file.write(data)

        thread = threading.Thread(target=feed)
        thread.start()
        archive = Archive(reading)
        archive.load()
        staging = Staging(archive)
        try:
            return StagedArchive(tmp_path, of_report(staging.run()), lambda path: None)
        finally:
            read_away(staging)
            os.close(reading)
            thread.join()

    return staged


def text(staged, name):
    member = staged.find(name)
    return None if member is None else staged.read(name, member)


PACKED = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
}


@pytest.mark.parametrize("kind", PACKED)
def test_files_of_any_compression(stage, kind):
    data = archive(entry("d", tarfile.DIRTYPE), (entry("d/a"), b"A" * 1000), (entry("./b"), b""))
    staged = stage(PACKED[kind](data))
    assert text(staged, "d/a") == text(staged, "./d//a") == b"A" * 1000
    assert staged.find("d/a").digest == f"sha256:{hashlib.sha256(b'A' * 1000).hexdigest()}"
    assert text(staged, "b") == b""
    assert staged.find("d") is None
    assert staged.find("c") is None


def test_links_lead_to_files_in_any_order(stage):
    staged = stage(
        archive(
            entry("1/layer.tar", LINK, "../2/layer.tar"),
            (entry("2/layer.tar"), b"two"),
            entry("3", HARD, "2/layer.tar"),
            entry("4", LINK, "1"),
            (entry("2/layer.tar"), b"later"),
        )
    )
    assert text(staged, "1/layer.tar") == b"later"
    assert text(staged, "4/layer.tar") == b"later"
    assert text(staged, "3") == b"two"


def test_of_two_entries_the_later_counts(stage):
    staged = stage(archive((entry("a"), b"1"), (entry("a"), b"2"), entry("b", LINK, "a")))
    assert text(staged, "a") == text(staged, "b") == b"2"
    staged = stage_again(stage, archive((entry("a"), b"1"), entry("a", LINK, "c")))
    assert staged.find("a") is None


def stage_again(stage, data):
    for path in os.listdir("."):
        os.unlink(path)
    return stage(data)


REFUSED = {
    "out by name": (archive((entry("../evil"), b"x")), "../evil: the name leads out"),
    "absolute": (archive((entry("/etc/evil"), b"x")), "/etc/evil: absolute names"),
    "out by link": (
        archive(entry("l", LINK, "../../etc/shadow")),
        "l: symbolic link leads out of the image",
    ),
    "out by hard link": (
        archive(entry("h", HARD, "../../etc/shadow")),
        "h: hard link leads out",
    ),
    "hard link to nothing": (
        archive(entry("h", HARD, "etc/shadow")),
        "h: hard link to etc/shadow, which is not in the archive before it",
    ),
    "device": (
        archive(entry("d", tarfile.BLKTYPE, devmajor=8, devminor=0)),
        "d: no file, directory or link, which no archive of images has",
    ),
    "fifo": (archive(entry("f", tarfile.FIFOTYPE)), "f: no file, directory or link"),
    "sparse": (
        archive(
            (
                entry("s", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "99999999999"}),
                b"x",
            )
        ),
        "s: a sparse file",
    ),
    "root": (archive((entry("."), b"x")), ".: the archive's root is no directory"),
    "nothing": (b"", "the archive is empty"),
    "text": (b"hello\n" * 200, "this is not a tar archive"),
    "cut in a file": (archive((entry("a"), b"x" * 5000))[:2000], "unexpected EOF: "),
    "cut behind a file": (archive((entry("a"), b"x" * 512))[:1024], "unexpected EOF: "),
    "cut gzip": (gzip.compress(os.urandom(5000))[:-600], "this is not a tar archive"),
    "cut in gzip": (
        gzip.compress(archive((entry("a"), os.urandom(20000))))[:-5000],
        "unexpected EOF: ",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_archives(stage, case):
    data, words = REFUSED[case]
    with pytest.raises(Refusal) as refusal:
        stage(data)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_too_many_members(stage, monkeypatch):
    monkeypatch.setattr(archive_staging, "MOST_MEMBERS", 10)
    entries = [entry(f"d{number}", tarfile.DIRTYPE) for number in range(11)]
    stage(archive(*entries[:10]))
    with pytest.raises(Refusal, match="d10: more entries than an archive of images has"):
        stage(archive(*entries))


def test_names_that_fill_memory(stage, monkeypatch):
    monkeypatch.setattr(archive_staging, "_MOST_NAMES", 1000)
    with pytest.raises(Refusal, match="more entries than"):
        stage(archive(*(entry(f"{number}" * 90, tarfile.DIRTYPE) for number in range(1, 13))))


def test_a_bomb(stage, monkeypatch, tmp_path):
    monkeypatch.setattr(archive_staging, "_FREELY", 1 << 20)
    bomb = gzip.compress(archive((entry("zeros"), bytes(64 << 20))))
    with pytest.raises(Refusal, match="unpacks to more than 100 times its size"):
        stage(bomb)
    assert sum(path.stat().st_size for path in (tmp_path / "fs").iterdir()) < 32 << 20


def test_a_document_of_100_mb_is_not_read(stage, monkeypatch):
    monkeypatch.setattr("runtime.images.archive_members.LARGEST_DOCUMENT", 1000)
    staged = stage(archive((entry("manifest.json"), b" " * 1001)))
    with pytest.raises(ImportRefused, match=r"manifest\.json has 1001 bytes"):
        text(staged, "manifest.json")


def test_links_in_circles(stage):
    staged = stage(archive(entry("a", LINK, "b"), entry("b", LINK, "a"), entry("c", LINK, "c/x")))
    for name in "ac":
        with pytest.raises(ImportRefused, match="too many levels of symbolic links"):
            staged.find(name)
    with pytest.raises(ImportRefused, match="leads out"):
        staged.find("../a")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_refused_or_harmless(tmp_path_factory, data):
    whole = archive((entry("a"), b"x" * 700), entry("l", LINK, "a"), (entry("b"), b"y" * 1500))
    damaged = bytearray(whole)
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    cut = damaged[: data.draw(st.integers(0, len(whole)))]
    directory = tmp_path_factory.mktemp("staging")
    reading, writing = os.pipe()
    os.write(writing, cut)
    os.close(writing)
    before = os.getcwd()
    os.chdir(directory)
    staging = Staging(Archive(reading))
    try:
        told = staging.run()
    except Refusal as refusal:
        assert "\n" not in str(refusal)
    else:
        of_report(told)
    finally:
        os.chdir(before)
        read_away(staging)
        os.close(reading)
