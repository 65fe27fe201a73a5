"""A container's changes become a layer: what overlayfs shows of both is the same, file by file.

The two processes and the store are asked directly, on an overlay that the test mounts itself.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from runtime.archive_job import ArchiveJob
from runtime.images.configuration import Step
from runtime.images.errors import ImageConflict, ImageNotFound
from runtime.images.model import Deleted, ImageUser, Untagged
from runtime.images.store import ImageStore
from runtime.images.trees import remove_tree
from tests.real.file_trees import add_socket, make, snapshot
from tests.real.image_store import archive, clean_store, entry


@pytest.fixture
def store(tmp_path):
    with clean_store(tmp_path / "store") as store:
        yield store


@pytest.fixture
def base(store, tmp_path):
    """An image with a little of everything to change."""
    source = make(tmp_path / "source")
    # What leads out, no import takes.
    for name in ("broken", ".wh.not-a-whiteout"):
        (source / name).unlink()
    (source / "deep/er").mkdir(parents=True)
    (source / "deep/er/file").write_text("1")
    (source / "deep/other").write_text("2")
    path = tmp_path / "base.tar"
    subprocess.run(
        ["tar", "--xattrs", "--sparse", "--format=pax", "-C", source, "-cf", path, "."], check=True
    )
    return store.import_file(path, "base:1")


class Overlay:
    """A container's layers without a container."""

    def __init__(self, store, image, base):
        self.store, self.image = store, image
        self.directory = base / f"container-{len(list(base.iterdir()))}"
        for name in ("upper", "work", "merged"):
            (self.directory / name).mkdir(parents=True)
        (self.directory / "upper").chmod(0o755)

    def run(self, work, options=""):
        """Mount it, in a place of this test's, while `work` gets its root."""
        lower = ":".join(self.store.layers(self.image).lower)
        merged = self.directory / "merged"
        words = f"lowerdir={lower},upperdir={self.directory}/upper,workdir={self.directory}/work"
        subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", words + options, merged], check=True
        )
        try:
            return work(merged)
        finally:
            subprocess.run(["umount", merged], check=True)

    def shell(self, script, options=""):
        self.run(lambda root: subprocess.run(["sh", "-ec", script], cwd=root, check=True), options)

    def shown(self):
        """All but the root itself: each container has one of its own."""
        found = self.run(snapshot)
        del found[b"."]
        return found

    def order(self, hidden=()):
        view = {
            "lower": list(self.store.layers(self.image).lower),
            "upper": str(self.directory / "upper"),
            "merged": str(self.directory / "merged"),
        }
        return {"kind": "layer", "hidden": list(hidden), "view": view}

    def commit(self, name="", hidden=(), **step):
        job = self.store.begin_commit(self.image, {"Cmd": ["x"]}, Step("", **step), name)
        try:
            told = packed(self.order(hidden), job.stdin_fd)
            job.close_stdin()
            assert told == {"done": {}}, told
            return job.finish()
        finally:
            job.abort()


def packed(order, output):
    """Have a helper write a layer; its last answer."""
    job = ArchiveJob(order, output=output)
    try:
        told = b""
        while select.select([job.result_fd], [], [], 20)[0]:
            with contextlib.suppress(BlockingIOError):
                piece = os.read(job.result_fd, 1 << 16)
                if not piece:
                    break
                told += piece
        return json.loads(told.splitlines()[-1])
    finally:
        job.close()
        job.reap()


def tar_of(overlay, tmp_path, hidden=()):
    """The layer's archive itself."""
    path = tmp_path / "layer.tar"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        assert packed(overlay.order(hidden), fd) == {"done": {}}
    finally:
        os.close(fd)
    with tarfile.open(path, errors="surrogateescape") as tar:
        return tar.getmembers()


def again(overlay, image, base):
    """What a container of the committed image sees."""
    return Overlay(overlay.store, image, base).shown()


CHANGES = {
    "nothing": "true",
    "a file anew": "echo new >plain; rm setuid; rm -r directory",
    "a file made a directory and back": "rm old; mkdir old; touch old/in; rm -r deep; ln -s x deep",
    "a directory made anew": "rm -r deep; mkdir -m 700 deep; echo 3 >deep/own; mkdir deep/er",
    "all in it gone": "rm -r deep/*; touch deep/new",
    "other rights": "chmod 1733 directory; chown 7:8 plain",
    "links": "ln plain deep/hard; ln soft soft2; ln -s ../../../../out out; echo x >>zz-hard",
    "odd names": """touch -- '-a b' "$(printf 'new\\nline2')"; mv späße "$(printf 'x\\377')" """,
    "nodes": "mkfifo pipe; mknod dev2 c 5 1; rm device; touch -d @-5 ancient",
    "holes": "truncate -s 200M holes; printf end >>holes",
    "attributes": f"""{sys.executable} -c 'import os
os.setxattr("directory", "user.new", b"1")
os.removexattr("plain", "user.colour")'""",
    "moved": "mv deep shallow; mv shallow/er er; mkdir deep",
    "moved and changed": "mv deep there; echo x >there/er/own; rm there/other; mv there/er there/e",
}


@pytest.mark.parametrize("options", ["", ",redirect_dir=on"], ids=["plain", "renames"])
def test_the_image_shows_what_the_container_does(store, base, tmp_path, options):
    """Each change in a tree of its own."""
    trees = Overlay(store, base, tmp_path)
    for number in range(len(CHANGES)):
        trees.shell(f"mkdir -p {number}; cp -a -- [!0-9]* {number}; rm {number}/sparse")
    trees = Overlay(store, trees.commit(), tmp_path)
    for number, script in enumerate(CHANGES.values()):
        trees.shell(f"cd {number}\n{script}", options)
    before = trees.shown()
    shown = again(trees, trees.commit("made:1"), tmp_path)
    for number, change in enumerate(CHANGES):
        prefix = b"%d/" % number
        told, now = (
            {n: s for n, s in one.items() if n.startswith(prefix)} for one in (before, shown)
        )
        assert told == now, change
    assert shown == before


def test_everything_that_a_tar_can_hold(store, tmp_path):
    """Onto an empty image, with links that lead out, which a payload may make."""
    path = tmp_path / "empty.tar"
    path.write_bytes(archive(entry("x")))
    overlay = Overlay(store, store.import_file(path), tmp_path)

    def fill(root):
        tree = make(root / "all")
        (tree / ".wh.not-a-whiteout").unlink()
        os.setxattr(
            tree / "plain",
            "security.capability",
            bytes.fromhex("010000020000000000000000" * 2 + "00" * 4)[:20],
        )
        add_socket(tree)

    overlay.run(fill)
    before = overlay.shown()
    image = overlay.commit()
    del before[b"all/socket"]
    assert again(overlay, image, tmp_path) == before
    # Holes stay holes: it is a file of 400 MB.
    assert store.root.stat().st_dev == tmp_path.stat().st_dev
    layer = Path(store.layers(image).lower[0])
    assert (layer / "all/sparse").stat().st_blocks < 1000


def test_layers_upon_layers(store, base, tmp_path):
    scripts = (
        "rm deep/other; echo 1 >one",
        "echo again >deep/other; rm -r directory one",
        "mkdir directory; rm deep/other; rm -r deep/er",
        "true",
        "mkdir deep/er; echo 5 >deep/er/five",
    )
    image = base
    for number, script in enumerate(scripts):
        overlay = Overlay(store, image, tmp_path)
        overlay.shell(script)
        before = overlay.shown()
        parent, image = image, overlay.commit(author="me", created_by=f"step {number}")
        assert again(overlay, image, tmp_path) == before, script
        assert image.parent == parent.id
    assert len(image.diff_ids) == 1 + len(scripts) - 1
    told = [(one.get("created_by"), one.get("empty_layer")) for one in image.history]
    assert told == [(None, None), *((f"step {n}", True if n == 3 else None) for n in range(5))]
    assert (image.author, image.size) == ("me", sum(store.layer_sizes(image)))
    reopened = ImageStore(store.root)
    assert reopened.resolve(image.id) == image
    assert store.sweep() == reopened.sweep() == []


_AT_THE_BOTTOM = """
import os, stat
top = os.open(".", os.O_RDONLY)
for _ in range(30):
    os.makedirs("n" * 200, exist_ok=True)
    os.chdir("n" * 200)
"""
_FILLED = """
open("file", "w").write("deep"); os.link("file", "hard"); os.link("file", "high", dst_dir_fd=top)
os.symlink("nowhere", "soft"); os.mkfifo("pipe"); os.mkdir("sub"); open("sub/old", "w")
os.setxattr("sub", "user.of", b"it"); os.chmod("sub", 0o1710); os.utime("soft", ns=(1, 2),
follow_symlinks=False)
"""
_CHANGED = """
import shutil
os.unlink("hard"); shutil.rmtree("sub"); os.mkdir("sub"); open("sub/new", "w"); os.unlink("pipe")
os.mkdir("pipe"); os.chmod("file", 0o600)
"""
_SEEN = """
for path in sorted([*os.listdir(), *(f"sub/{name}" for name in os.listdir("sub"))]):
    about = os.lstat(path)
    link = os.readlink(path) if stat.S_ISLNK(about.st_mode) else ""
    print(path, oct(about.st_mode), about.st_nlink, about.st_size, about.st_mtime_ns, link)
print(open("file").read(), os.path.samestat(os.stat("file"), os.stat("high", dir_fd=top)))
"""


def test_what_lies_deeper_than_a_path_is_long(store, base, tmp_path):
    def at_the_bottom(overlay, script):
        words = [sys.executable, "-c", _AT_THE_BOTTOM + script]

        def work(root):
            return subprocess.run(words, cwd=root, check=True, stdout=subprocess.PIPE).stdout

        return overlay.run(work)

    image = base
    for script in (_FILLED, _CHANGED):
        overlay = Overlay(store, image, tmp_path)
        at_the_bottom(overlay, script)
        before = at_the_bottom(overlay, _SEEN)
        image = overlay.commit()
        assert at_the_bottom(Overlay(store, image, tmp_path), _SEEN) == before
        assert before.endswith(b"deep True\n" if script == _FILLED else b"deep False\n")
    # What clears pytest's folders away can't go so deep.
    for one in tmp_path.glob("container-*"):
        remove_tree(one)
    remove_tree(store.root / "layers")


def test_the_same_change_twice_is_one_layer(store, base, tmp_path):
    """overlayfs mounts no directory twice."""
    image = base
    for _ in range(2):
        overlay = Overlay(store, image, tmp_path)
        overlay.shell("rm -f same; : >same; touch -d @7 same; touch -d @8 .")
        image = overlay.commit()
    assert image.diff_ids[1] == image.diff_ids[2]
    assert b"same" in again(overlay, image, tmp_path)


def test_places_for_mounts_are_not_in_it(store, base, tmp_path):
    hidden = ("/proc", "/sys", "/etc/hosts", "/etc/hostname", "/deep/mnt/point")
    places = "mkdir -p proc sys etc deep/mnt/point; touch etc/hosts etc/hostname"
    overlay = Overlay(store, base, tmp_path)
    overlay.shell(places)
    assert overlay.commit(hidden=hidden).diff_ids == base.diff_ids
    overlay.shell("touch etc/own; chmod 711 deep")
    assert [one.name for one in tar_of(overlay, tmp_path, hidden)] == ["deep", "etc", "etc/own"]
    overlay.shell("echo mine >etc/hosts; touch sys/file")
    assert [one.name for one in tar_of(overlay, tmp_path, hidden)] == [
        *("deep", "etc", "etc/hosts", "etc/own", "sys", "sys/file")
    ]


def test_the_archive_is_a_layer_as_oci_has_it(store, base, tmp_path):
    overlay = Overlay(store, base, tmp_path)
    overlay.shell("rm plain deep/other; rm -r directory; mkdir directory; touch directory/new")
    told = {one.name: (one.type, one.size) for one in tar_of(overlay, tmp_path)}
    assert told == {
        ".wh.plain": (tarfile.REGTYPE, 0),
        "deep": (tarfile.DIRTYPE, 0),
        "deep/.wh.other": (tarfile.REGTYPE, 0),
        "directory": (tarfile.DIRTYPE, 0),
        "directory/.wh..wh..opq": (tarfile.REGTYPE, 0),
        "directory/new": (tarfile.REGTYPE, 0),
    }
    image = overlay.commit()
    layer = Path(store.layers(image).lower[0])
    assert os.getxattr(layer / "directory", "trusted.overlay.opaque") == b"y"
    gone = (layer / "deep/other").lstat()
    assert (stat.S_ISCHR(gone.st_mode), gone.st_rdev) == (True, 0)
    # Nothing of the overlay that it was made in.
    assert os.listxattr(layer / "deep") == []


def test_a_name_that_no_layer_can_hold(store, base, tmp_path):
    overlay = Overlay(store, base, tmp_path)
    overlay.shell("mkdir -p sub; touch sub/.wh.plain")
    reader, writer = os.pipe()
    try:
        told = packed(overlay.order(), writer)
    finally:
        os.close(reader)
        os.close(writer)
    assert told["kind"] == "refused"
    assert told["error"].startswith("/sub/.wh.plain: names that begin with .wh. ")


def layered(store, parent, data):
    """Unpack a layer that somebody else has made."""
    job = store.begin_commit(parent, {}, Step(""), "")
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(job.stdin_fd, view) :]
        return job.finish()
    finally:
        job.abort()


def test_the_root_itself(store, base, tmp_path):
    overlay = Overlay(store, base, tmp_path)
    overlay.shell("chmod 1711 .; chown 5:6 .")
    status = os.stat(store.layers(overlay.commit()).lower[0])
    assert (oct(status.st_mode), status.st_uid, status.st_gid) == ("0o41711", 5, 6)


def test_layers_of_others(store, base, tmp_path):
    """A whiteout may stand before or behind what is new in its place; odd ones are refused."""
    image = layered(
        store,
        base,
        archive(
            entry(".wh.deep"),
            entry("deep", tarfile.DIRTYPE),
            (entry("deep/mine"), b"1"),
            entry("directory", tarfile.DIRTYPE),
            entry(".wh.directory"),
            (entry("plain"), b"2"),
            entry(".wh.plain"),
            entry("unlisted/empty/.wh..wh..opq"),
        ),
    )
    shown = Overlay(store, image, tmp_path).shown()
    assert {name for name in shown if name.startswith((b"deep", b"directory", b"unlisted"))} == {
        *(b"deep", b"deep/mine", b"directory", b"unlisted", b"unlisted/empty")
    }
    assert shown[b"plain"][-2] == b"2"
    for name in (".wh.", "deep/.wh...", ".wh..wh.plnk"):
        with pytest.raises(Exception, match="a whiteout of nothing"):
            layered(store, base, archive(entry(name)))


def test_an_opaque_mark_follows_no_link(store, base, tmp_path):
    """What marks it has all of CAP_SYS_ADMIN."""
    outside = tmp_path / "outside"
    outside.mkdir()
    data = archive(
        entry("a", tarfile.SYMTYPE, str(outside)), entry("b", tarfile.SYMTYPE, "../../../.."),
        entry("a/.wh..wh..opq"),
    )  # fmt: skip
    with contextlib.suppress(Exception):
        layered(store, base, data)
    assert os.listxattr(outside) == []


def test_deleting_what_others_were_made_of(store, base, tmp_path):
    overlay = Overlay(store, base, tmp_path)
    overlay.shell("touch new")
    child = overlay.commit("child:1")
    with pytest.raises(ImageConflict, match=r"\(cannot be forced\) - image has dependent child"):
        store.delete(base.id, force=True)
    assert store.delete("base:1") == [Untagged("base:1")]
    assert store.resolve(base.id).tags == ()
    assert store.delete("child:1", parents=False) == [
        *(Untagged("child:1"), Deleted(child.id), Deleted(child.diff_ids[1]))
    ]
    again_child = overlay.commit("child:2")
    user = [ImageUser("c" * 64, running=False)]
    store.delete("child:2", in_use=lambda image_id: user if image_id == base.id else ())
    assert store.resolve(base.id) and again_child.parent == base.id
    third = overlay.commit("child:3")
    assert store.delete("child:3") == [
        Untagged("child:3"),
        Deleted(third.id),
        *(Deleted(diff_id) for diff_id in reversed(third.diff_ids)),
        Deleted(base.id),
    ]
    assert list((store.root / "layers").iterdir()) == []
    with pytest.raises(ImageNotFound):
        layered(store, base, archive(entry("x")))


def test_a_layer_is_made_of_nothing_else(store, base):
    """Bytes that are no archive leave no image."""
    known = [image.id for image in store.images()]
    with pytest.raises(Exception, match="not a tar archive"):
        layered(store, base, io.BytesIO(b"x" * 1024).getvalue())
    assert [image.id for image in store.images()] == known
