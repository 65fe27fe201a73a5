"""Trees that somebody changes while they are weighed or removed."""

import errno
import os
import threading

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


# -- many at once


@pytest.fixture
def slow(monkeypatch):
    """A disk that makes each removal wait; gives a list of the threads that have removed."""
    monkeypatch.setattr(trees, "PATIENCE_S", 0.0)
    monkeypatch.setattr(trees, "SLOW_S", 1e-12)
    seen = []

    def watched(call):
        def wrapped(name, **options):
            seen.append(threading.current_thread())
            if name == "broken":
                raise OSError(errno.EIO, os.strerror(errno.EIO), name)
            call(name, **options)

        return wrapped

    for name in ("unlink", "rmdir"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    return seen


def grown(root):
    """A tree, wide and deep, and what an earlier attempt has left in it."""
    for place in ("a/b/c/d/e/f", "a/b/x", "a/y", "z", ".share-left"):
        (root / place).mkdir(parents=True)
    for directory, _, _ in os.walk(root):
        for number in range(9):
            os.close(os.open(f"{directory}/{number}", os.O_CREAT))
        os.symlink("/", f"{directory}/link")
    return root


def test_a_slow_removal_is_done_by_several(tmp_path, slow):
    trees.remove_tree(grown(tmp_path / "tree"))
    assert os.listdir(tmp_path) == []
    assert len(set(slow)) > 1
    assert {one.name for one in threading.enumerate()}.isdisjoint({"removal"})


@pytest.mark.parametrize("where", ["broken", "a/broken", "a/b/c/d/e/f/broken"])
def test_what_one_of_several_can_not_remove_is_told_once_all_are_done(tmp_path, slow, where):
    root = grown(tmp_path / "tree")
    (root / where).touch()
    with pytest.raises(OSError, match="Input/output error"):
        trees.remove_tree(root)
    assert {one.name for one in threading.enumerate()}.isdisjoint({"removal"})
    assert len(list(root.rglob("broken"))) == 1
