"""The built-in image `host`."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import time
from pathlib import Path

import pytest

from runtime.images.errors import BuiltInImage
from runtime.images.host_tree import HostTree
from runtime.images.store import ImageStore
from runtime.spec import Bind
from tests.real.image_store import clean_store, described


@pytest.fixture
def store(tmp_path):
    with clean_store(tmp_path / "store") as store:
        yield store


def tree_of(store) -> Path:
    return Path(store.layers(store.host()).lower[0])


def test_what_it_is(store):
    image = store.refresh_host()
    assert image.tags == ("host:latest",)
    assert image.built_in
    assert image.id.startswith("sha256:")
    assert image.config["Cmd"] in (["/bin/bash"], ["/bin/sh"])
    assert image.config["Env"] == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    ]
    assert [store.resolve(name) for name in ("host", "host:latest", image.id)] == [image] * 3
    assert store.images() == [image]
    assert store.layers(image).binds[0] == Bind("/usr", "/usr", readonly=True, shifted=True)
    assert all(bind.readonly for bind in store.layers(image).binds)


def test_the_tree(store):
    tree = tree_of(store)
    found = described(tree)
    assert all(what["owner"] == (0, 0) for what in found.values())
    for name, mode in {"tmp": 0o1777, "var/tmp": 0o1777, "root": 0o700, "etc": 0o755}.items():
        assert stat.S_IMODE((tree / name).stat().st_mode) == mode
    for name in ("proc", "sys", "dev", "run", "home", "mnt", "opt", "srv", "usr", "var/log"):
        assert (tree / name).is_dir()
    for name in ("bin", "lib", "sbin"):
        if Path("/", name).is_symlink():
            assert os.readlink(tree / name) == os.readlink(Path("/", name))
    assert os.readlink(tree / "var/run") == "/run"
    assert not (tree / "etc/shadow").exists()
    assert not (tree / "etc/ssl/private").exists()
    assert stat.S_IMODE(tree.stat().st_mode) == 0o755
    size = sum(
        path.stat().st_size for path in tree.rglob("*") if path.is_file() and not path.is_symlink()
    )
    assert store.host().size == size < 16 << 20


def test_nothing_private_is_copied(store):
    """Only what all may read; links lead into /usr, /proc, /run or the tree's own /etc."""
    tree = tree_of(store)
    for path in tree.rglob("*"):
        if path.is_symlink():
            target = os.readlink(path)
            allowed = ("/usr/", "usr/", "/run", "/proc/", "/etc/")
            assert target.startswith(allowed), (path, target)
        elif path.is_file():
            source = Path("/") / path.relative_to(tree)
            assert not source.exists() or source.stat().st_mode & stat.S_IROTH, path
    people = {line.split(":")[0] for line in (tree / "etc/passwd").read_text().splitlines()}
    assert {"root", "daemon", "nobody"} <= people
    assert all(len(line.split(":")) == 7 for line in (tree / "etc/passwd").read_text().splitlines())
    assert "0:0" in (tree / "etc/passwd").read_text().splitlines()[0]


def test_programs_of_the_machine_run_in_it(store, tmp_path):
    """Under its own mounts; what they need of /etc is there, and /usr can't be written."""
    layers = store.layers(store.host())
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()
    script = f"""
        set -e
        mount -t overlay overlay -o \
            lowerdir={":".join(layers.lower)},upperdir={tmp_path}/upper,workdir={tmp_path}/work \
            {tmp_path}/merged
        mount --rbind /usr {tmp_path}/merged/usr
        mount -o remount,bind,ro {tmp_path}/merged/usr
        exec chroot {tmp_path}/merged /bin/sh -c '
            id -un; getent hosts localhost | grep -c localhost; echo a | awk "{{print \\$1}}"
            touch /usr/x 2>/dev/null || echo read-only; touch /tmp/x /root/x /var/x && echo private'
    """
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert done.stdout.split() == ["root", "1", "a", "read-only", "private"], done.stderr
    assert not (tree_of(store) / "tmp/x").exists()


def test_nothing_is_built_again_while_nothing_changes(store):
    image = store.refresh_host()
    tree = tree_of(store)
    best = min(_milliseconds(store.refresh_host) for _ in range(5))
    assert best < 5
    again = ImageStore(store.root)
    assert min(_milliseconds(again.refresh_host) for _ in range(1)) < 50
    assert (again.refresh_host(), tree_of(again)) == (image, tree)


def _milliseconds(call):
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1000


def altered_record(store, **changes):
    path = store.root / "host/current.json"
    record = json.loads(path.read_bytes())
    record.update(changes)
    path.write_text(json.dumps(record))
    return record


def test_built_again_when_the_machine_changed(store):
    """The id stays, the tree is a new one, and the old one stays as long as containers may."""
    image = store.refresh_host()
    tree = tree_of(store)
    inputs = json.loads((store.root / "host/current.json").read_bytes())["inputs"]
    inputs["/etc/passwd"][2] -= 1
    altered_record(store, inputs=inputs)
    again = ImageStore(store.root)
    assert again.refresh_host().id == image.id
    assert again.refresh_host().created_ns == image.created_ns
    assert tree_of(again) != tree
    assert tree.is_dir()
    assert described(tree_of(again)).keys() == described(tree).keys()


def test_a_boot_later_old_trees_go(store):
    store.refresh_host()
    tree = tree_of(store)
    (tree.parent / "boot_id").write_text("an earlier boot")
    altered_record(store, boot_id="an earlier boot")
    again = ImageStore(store.root)
    again.refresh_host()
    assert not tree.parent.exists()
    assert tree_of(again).is_dir()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 99}', '{"version": 1}'])
def test_a_damaged_record_is_built_again(store, text):
    store.refresh_host()
    (store.root / "host/current.json").write_text(text)
    assert tree_of(ImageStore(store.root)).is_dir()


def test_it_cannot_be_deleted(store):
    image = store.refresh_host()
    for reference in ("host", "host:latest", image.id, image.short_id):
        for force in (False, True):
            with pytest.raises(BuiltInImage) as refusal:
                store.delete(reference, force=force)
    assert refusal.value.status == 409
    assert "conflict: unable to delete host:latest (cannot be forced)" in str(refusal.value)


def test_an_outdated_tree_counts_while_no_new_one_can_be_built(store, monkeypatch):
    """A full disk must not keep an engine from coming back to its containers."""
    image = store.refresh_host()
    tree = tree_of(store)
    altered_record(store, inputs={"/etc/passwd": None})

    def fail(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(HostTree, "build", fail)
    again = ImageStore(store.root)
    assert again.refresh_host() == image
    assert tree_of(again) == tree
    monkeypatch.undo()
    again.refresh_host()
    assert tree_of(again) != tree


def test_without_any_tree_the_failure_is_told(store, monkeypatch):
    def fail(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(HostTree, "build", fail)
    with pytest.raises(OSError, match="No space left"):
        store.refresh_host()


def test_roots_that_are_no_links_are_bound(store, tmp_path, monkeypatch):
    """A machine whose /bin is a directory of its own."""
    monkeypatch.setattr("runtime.images.host_tree.ROOT_LINKS", ("sys", "bin"))
    monkeypatch.setattr("runtime.images.host_tree._DIRECTORIES", {"etc": 0o755, "var": 0o755})
    layers = store.layers(store.refresh_host())
    assert layers.binds == (
        Bind("/usr", "/usr", readonly=True, shifted=True),
        Bind("/sys", "/sys", readonly=True, shifted=True),
    )
    assert (Path(layers.lower[0]) / "sys").is_dir()
