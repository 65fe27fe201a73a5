"""What a container can't do with the list of its changes: fill the memory of who asks for it."""

import os

import pytest

from runtime import changes
from runtime.archive_order import Refused


def compared(tmp_path):
    (tmp_path / "image").mkdir(exist_ok=True)
    layers = (tmp_path / "upper", tmp_path / "image")
    return changes.compare(*(os.open(layer, os.O_RDONLY) for layer in layers))


def nested(directory, name, levels):
    """Make directories within one another, also beyond what a path can name."""
    directory.mkdir()
    fd = os.open(directory, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def test_paths_that_nobody_can_name_are_refused_in_words(tmp_path):
    nested(tmp_path / "upper", "x" * 255, 15)
    assert len(compared(tmp_path)) == 15
    nested(tmp_path / "upper" / "y", "x" * 255, 16)
    with pytest.raises(Refused, match=r"y/x+….*file name too long: a path has 4095 bytes at most"):
        compared(tmp_path)


def test_more_than_can_be_listed_is_refused_in_words(tmp_path, monkeypatch):
    (tmp_path / "upper").mkdir()
    for name in ("one", "two", "six"):
        (tmp_path / "upper" / name).touch()
    monkeypatch.setattr(changes, "MOST_BYTES", 12)
    assert len(compared(tmp_path)) == 3
    monkeypatch.setattr(changes, "MOST_BYTES", 11)
    with pytest.raises(Refused, match="too many changes to list"):
        compared(tmp_path)
