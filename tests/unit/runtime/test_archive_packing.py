"""Trees of many levels: what they cost the process that packs them."""

import os
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
