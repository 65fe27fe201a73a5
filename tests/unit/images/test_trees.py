"""Trees that somebody changes while they are weighed or removed."""

import os

import pytest

from runtime.images import trees
from supervisor.tree_sizes import disk_bytes


@pytest.fixture
def meanwhile(monkeypatch):
    """Have something done once a directory of this name has been listed."""
    scan = os.scandir

    def arrange(name, deed):
        done = []

        def scandir(where):
            path = os.readlink(f"/proc/self/fd/{where}") if isinstance(where, int) else where
            listed = scan(where)
            if not done and os.path.basename(path) == name:
                done.append(path)
                found = list(listed)
                deed()
                listed.close()
                return Listed(found)
            return listed

        monkeypatch.setattr(os, "scandir", scandir)

    return arrange


class Listed(list):
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def beside(tmp_path):
    """A tree, and what is nobody's business beside it."""
    for place in ("tree/in/deep", "tree/in/victim", "outside/victim"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "outside/victim/file").write_bytes(bytes(1 << 20))
    (tmp_path / "tree/in/file").write_bytes(bytes(4096))
    return tmp_path


def test_a_directory_that_becomes_a_link_is_not_weighed(beside, meanwhile):
    def exchange():
        (beside / "tree/in/deep").rmdir()
        (beside / "tree/in/deep").symlink_to(beside / "outside")

    meanwhile("in", exchange)
    assert disk_bytes(beside / "tree") == 4096


@pytest.mark.parametrize("moved", ["deep", "victim"])
def test_a_directory_that_is_moved_away_leads_no_removal_out(beside, meanwhile, moved):
    def move():
        if moved == "victim":
            (beside / "outside/victim").rename(beside / "outside/kept")
        (beside / "tree/in" / moved).rename(beside / "outside/moved")
        (beside / "outside/deep").mkdir()

    meanwhile(moved, move)
    with pytest.raises(OSError, match="it was moved meanwhile"):
        trees.remove_tree(beside / "tree")
    assert len(list((beside / "outside").rglob("file"))) == 1
    assert (beside / "outside/deep").is_dir()


def test_a_directory_that_is_gone_by_its_turn_is_no_fault(beside, meanwhile):
    meanwhile("in", (beside / "tree/in/deep").rmdir)
    trees.remove_tree(beside / "tree")
    assert not (beside / "tree").exists()


def test_a_link_in_the_place_of_a_directory_is_removed_and_not_followed(beside, meanwhile):
    def exchange():
        (beside / "tree/in/deep").rmdir()
        (beside / "tree/in/deep").symlink_to(beside / "outside")

    meanwhile("in", exchange)
    with pytest.raises(OSError, match="not empty"):
        trees.remove_tree(beside / "tree")
    trees.remove_tree(beside / "tree")
    assert (beside / "outside/victim/file").exists()
    assert not (beside / "tree").exists()
