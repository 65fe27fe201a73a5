"""Trees of many levels, and those that change meanwhile."""

import os
import tarfile
import tracemalloc

from runtime.archive_packing import Packing


def test_deep_trees_cost_no_memory_for_each_level_s_name(tmp_path):
    top = fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(200):
        os.mkdir("x" * 250, dir_fd=fd)
        below = os.open("x" * 250, os.O_RDONLY, dir_fd=fd)
        if fd != top:
            os.close(fd)
        fd = below
    os.close(fd)
    out = os.open("/dev/null", os.O_WRONLY)
    tracemalloc.start()
    try:
        Packing(out).below(top, b"")
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
        os.close(out)


def test_a_link_that_becomes_a_directory_is_left_out(tmp_path, monkeypatch):
    (tmp_path / "a").symlink_to("nowhere")
    (tmp_path / "b").write_text("kept")
    readlink = os.readlink

    def exchanged(name, *, dir_fd):
        os.unlink(name, dir_fd=dir_fd)
        os.mkdir(name, dir_fd=dir_fd)
        return readlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "readlink", exchanged)
    packed = tmp_path.with_name("packed.tar")
    with packed.open("wb") as file:
        packing = Packing(file.fileno())
        packing.below(os.open(tmp_path, os.O_RDONLY), b"")
        packing.end()
    with tarfile.open(packed) as archive:
        assert archive.getnames() == ["b"]
