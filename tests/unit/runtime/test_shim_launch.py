"""Launching the shim: what can go wrong before it lives."""

from __future__ import annotations

import pytest

from runtime import shim_launch
from runtime.errors import ShimUnstartable


def test_a_run_directory_that_is_not_there(tmp_path):
    with pytest.raises(ShimUnstartable, match=r"can.t start the shim in .*: .*No such file"):
        shim_launch.launch(tmp_path / "missing")


def test_a_path_too_long_for_a_socket(tmp_path):
    run_dir = tmp_path / ("long" * 30)
    run_dir.mkdir()
    with pytest.raises(ShimUnstartable, match="AF_UNIX path too long"):
        shim_launch.launch(run_dir)
