"""Where an archive may just stop, and where it may not."""

from __future__ import annotations

import io
import os
import tarfile

import pytest

from runtime.images.tar_entries import entries
from runtime.images.tar_source import Archive, Refusal, TarSource, Truncated


def packed(**files):
    """A tar whose last block is the last file's, without an end mark."""
    out = io.BytesIO()
    for name, content in files.items():
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        out.write(entry.tobuf() + content + bytes(-len(content) % tarfile.BLOCKSIZE))
    return out.getvalue()


def read(tmp_path, data, *, end_mark, content=True):
    """The names of all entries, whose content is read as its user does."""
    path = tmp_path / "data"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        source = TarSource(Archive(fd))
        found = []
        for entry in entries(source, end_mark=end_mark):
            found.append(entry.name)
            if content:
                source.seek(entry.offset_data)
                assert len(source.read(entry.size)) == entry.size
        return found
    finally:
        os.close(fd)


@pytest.mark.parametrize("missing", [0, 1, 411, 412])
def test_an_archive_that_stops_behind_the_last_files_content(tmp_path, missing):
    data = packed(a=b"a" * 512, b=b"b" * 100)
    data = data[: len(data) - missing]
    assert read(tmp_path, data, end_mark=False) == ["a", "b"]
    with pytest.raises(Refusal, match="truncated"):
        read(tmp_path, data, end_mark=True)


def test_one_that_stops_within_a_header(tmp_path):
    data = packed(a=b"a" * 512, b=b"")
    with pytest.raises(Refusal, match=r"truncated.* \(after a\)"):
        read(tmp_path, data[:-400], end_mark=False)


@pytest.mark.parametrize("missing", [512, 600, 1024])
def test_one_that_stops_earlier(tmp_path, missing):
    data = packed(a=b"a" * 512, b=b"b" * 612)
    with pytest.raises(Truncated, match=r"truncated \(after b\)"):
        read(tmp_path, data[: len(data) - missing], end_mark=False, content=False)
