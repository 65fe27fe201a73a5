"""What a store holds, in memory and on disk."""

from __future__ import annotations

import stat

from runtime.images.contents import Contents


def test_nobody_but_root_reaches_into_a_store(tmp_path):
    """Layers hold setuid programs, and a directory above them that is made on the way is open."""
    Contents(tmp_path / "store")
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700
