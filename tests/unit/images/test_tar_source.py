"""The bytes of an archive: decompressed by magic, hashed, forwards only."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import lzma
import os
import random
import sys

import pytest
import zstandard

from runtime.images.tar_source import CHUNK, Archive, Refusal, TarSource, Truncated

DATA = random.Random(1).randbytes(700_000) + bytes(900_000)
PACKERS = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}


@contextlib.contextmanager
def descriptor(tmp_path, data):
    path = tmp_path / "data"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


def opened(*descriptors):
    archive = Archive(*descriptors)
    archive.load()
    return archive


@pytest.mark.parametrize("kind", [None, *PACKERS])
def test_decompressed_and_hashed(tmp_path, kind):
    packed = PACKERS[kind](DATA) if kind else DATA
    with descriptor(tmp_path, packed) as fd:
        source = TarSource(opened(fd))
        assert source.read(512) == DATA[:512]
        assert source.tell() == 512
        source.seek(600_000)
        assert source.read(300_000) == DATA[600_000:900_000]
        source.drain()
        assert source.tell() == len(DATA)
        assert source.read(10) == b""
        assert source.diff_id() == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("kind", PACKERS)
def test_several_streams_in_a_row_and_padding(tmp_path, kind):
    packed = PACKERS[kind](DATA[:1000]) + PACKERS[kind](DATA[1000:]) + bytes(10_000)
    with descriptor(tmp_path, packed) as fd:
        pieces = list(opened(fd).chunks())
        assert b"".join(pieces) == DATA
        assert max(map(len, pieces)) <= CHUNK
        assert os.read(fd, 1) == b""


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("missing", [1, 8, 12, 1000, 300_000])
def test_truncated_compressed_data(tmp_path, kind, missing):
    with (
        descriptor(tmp_path, PACKERS[kind](DATA)[:-missing]) as fd,
        pytest.raises(Truncated, match=f"truncated: its {kind} data ends too early"),
    ):
        list(opened(fd).chunks())


@pytest.mark.parametrize("kind", PACKERS)
def test_damaged_compressed_data(tmp_path, kind):
    packed = bytearray(PACKERS[kind](DATA))
    packed[len(packed) // 2] ^= 0xFF
    with (
        descriptor(tmp_path, bytes(packed)) as fd,
        pytest.raises(Refusal, match=f"{kind} data is damaged"),
    ):
        list(opened(fd).chunks())


@pytest.mark.parametrize("kind", [None, *PACKERS])
def test_what_is_kept_is_what_a_registry_takes(tmp_path, kind):
    packed = PACKERS[kind](DATA) if kind else DATA
    kept_fd = os.open(tmp_path / "kept", os.O_RDWR | os.O_CREAT)
    try:
        with descriptor(tmp_path, packed) as fd:
            kept = opened(fd, kept_fd)
            assert b"".join(kept.chunks()) == DATA
    finally:
        os.close(kept_fd)
    as_it_is = kind in (None, "gzip", "zstd")
    expected = packed if as_it_is else DATA
    assert (tmp_path / "kept").read_bytes() == expected
    suffix = f"+{kind}" if kind and as_it_is else ""
    assert kept.blob(hashlib.sha256(DATA).hexdigest()) == {
        "digest": f"sha256:{hashlib.sha256(expected).hexdigest()}",
        "blob_size": len(expected),
        "media_type": f"application/vnd.oci.image.layer.v1.tar{suffix}",
    }


def test_without_isal_zlib_does_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "isal", None)
    test_decompressed_and_hashed(tmp_path, "gzip")
    test_several_streams_in_a_row_and_padding(tmp_path, "gzip")
    test_truncated_compressed_data(tmp_path, "gzip", 8)
    test_damaged_compressed_data(tmp_path, "gzip")


def test_zstd_frames_that_are_to_be_skipped(tmp_path):
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    packed = PACKERS["zstd"](DATA[:1000]) + PACKERS["zstd"](DATA[1000:]) + skipped
    with descriptor(tmp_path, packed) as fd:
        assert b"".join(opened(fd).chunks()) == DATA


def test_without_its_library_zstd_is_refused_with_words(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with (
        descriptor(tmp_path, PACKERS["zstd"](DATA)) as fd,
        pytest.raises(Refusal, match="pip install zstandard"),
    ):
        list(opened(fd).chunks())


def test_never_backwards_never_absurd(tmp_path):
    with descriptor(tmp_path, DATA) as fd:
        source = TarSource(opened(fd))
        source.read(1024)
        with pytest.raises(Refusal, match="points backwards"):
            source.seek(512)
        for length in (-1, 1 << 40):
            with pytest.raises(Refusal, match="a header claims"):
                source.read(length)
        with pytest.raises(Truncated):
            source.seek(1 << 40)
        source.diff_id()


@pytest.mark.parametrize("kind", ["xz", "zstd"])
def test_a_bomb_is_not_blown_up_in_memory(tmp_path, kind):
    packed = PACKERS[kind](bytes(64 << 20))
    with descriptor(tmp_path, packed) as fd:
        total = 0
        for piece in opened(fd).chunks():
            assert len(piece) <= CHUNK
            total += len(piece)
    assert total == 64 << 20
