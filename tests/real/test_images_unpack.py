"""What an import unpacks is what `tar xf` unpacks."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import stat
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.real.image_store import archive, clean_store, described, entry

# struct vfs_cap_data of <linux/capability.h>, revision 2: CAP_NET_RAW, permitted and effective.
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


@pytest.fixture
def store(tmp_path):
    with clean_store(tmp_path / "store") as store:
        yield store


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A root file system with one of everything."""
    root = tmp_path_factory.mktemp("tree")
    for name in ("bin", "etc", "tmp", "dev", "var/empty", "long"):
        (root / name).mkdir(parents=True)
    (root / "bin/tool").write_bytes(b"#!/bin/sh\n" * 1000)
    os.chmod(root / "bin/tool", 0o4755)
    os.setxattr(root / "bin/tool", "security.capability", CAPABILITY)
    (root / "bin/group").write_bytes(b"x")
    os.chown(root / "bin/group", 1234, 54321)
    os.chmod(root / "bin/group", 0o2711)
    os.link(root / "bin/tool", root / "bin/tool-again")
    os.symlink("tool", root / "bin/link")
    os.link(root / "bin/link", root / "bin/link-again", follow_symlinks=False)
    os.symlink("/bin/tool", root / "etc/absolute")
    os.symlink("../bin/tool", root / "etc/relative")
    os.symlink("nowhere", root / "etc/dangling")
    os.lchown(root / "etc/dangling", 77, 88)
    (root / "etc/empty").touch(mode=0o600)
    os.chmod(root / "tmp", 0o1777)
    os.chmod(root / "var/empty", 0o500)
    os.chown(root / "var/empty", 99, 99)
    os.chmod(root / "var", 0o2775)
    (root / "etc/attributes").write_text("a")
    os.setxattr(root / "etc/attributes", "user.note", b"with \0 and \xff and =\n")
    os.setxattr(root / "etc", "user.on-directory", b"d")
    os.mkfifo(root / "dev/fifo", 0o620)
    os.mknod(root / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "dev/disk", stat.S_IFBLK | 0o660, os.makedev(259, 70000))
    with open(root / "etc/sparse", "wb") as file:
        file.write(b"head")
        file.seek(5 << 20)
        file.write(b"middle")
        file.truncate(9 << 20)
    (root / "long" / ("n" * 255)).write_text("long")
    deep = root / "long"
    for _ in range(3):
        deep = deep / ("d" * 120)
        deep.mkdir()
    (deep / "file").write_text("deep")
    os.symlink("x" * 300, deep / "link")
    (root / "etc" / "ümläut ☃ \n tab\t").write_text("unicode")
    Path(os.fsdecode(os.fsencode(root) + b"/etc/latin-\xe4")).write_text("latin")
    for number, path in enumerate(sorted(everything_below(root))):
        time = 1_600_000_000_123_456_789 + number * 1_000_000_007
        os.utime(path, ns=(time, time), follow_symlinks=False)
    os.utime(root / "etc/empty", ns=(-86_400_000_000_000, -86_400_000_000_000))
    return root


def everything_below(root):
    """Not rglob: before Python 3.11.3 it stumbles over links that lead nowhere."""
    for directory, subdirectories, files in os.walk(root):
        for name in (*subdirectories, *files):
            yield Path(directory, name)


@pytest.mark.parametrize("form", ["posix", "gnu"])
def test_the_same_tree_as_tar_xf(tree, tmp_path, store, form):
    path = tmp_path / "tree.tar"
    attributes = ["--xattrs", "--xattrs-include=*"] if form == "posix" else []
    words = ["--numeric-owner", *attributes]
    subprocess.run(
        ["tar", f"--format={form}", "--sparse", *words, "-C", tree, "-cf", path, "."], check=True
    )
    reference = tmp_path / "reference"
    reference.mkdir()
    subprocess.run(["tar", "-C", reference, "-xpf", path, *words], check=True)
    image = store.import_file(path, "tree")
    ours = described(Path(store.layers(image).lower[0]))
    theirs = described(reference)
    assert ours.keys() == theirs.keys()
    for name, what in theirs.items():
        assert ours[name] == what, name
    assert image.diff_ids == (f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",)
    assert image.tags == ("tree:latest",)


def test_cpio_style_ustar(tmp_path, store):
    """An archive of another tool: busybox tar, ustar without PAX records."""
    (tmp_path / "in/d").mkdir(parents=True)
    (tmp_path / "in/d/f").write_text("busybox")
    path = tmp_path / "b.tar"
    subprocess.run(["/bin/busybox", "tar", "-C", tmp_path / "in", "-cf", path, "d"], check=True)
    image = store.import_file(path)
    assert (Path(store.layers(image).lower[0]) / "d/f").read_text() == "busybox"
    assert image.tags == ()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_archives_are_the_same_layer(tmp_path, store, pack):
    plain = archive((entry("a"), b"content" * 1000))
    (tmp_path / "plain").write_bytes(plain)
    (tmp_path / "packed").write_bytes(pack(plain))
    first = store.import_file(tmp_path / "plain", "x:1")
    second = store.import_file(tmp_path / "packed", "x:2")
    assert first.diff_ids == second.diff_ids
    assert len(list((tmp_path / "store/layers").iterdir())) == 1
    store.delete("x:1")
    assert (Path(store.layers(second).lower[0]) / "a").exists()


def imported(store, tmp_path, *entries, **options):
    path = tmp_path / "made.tar"
    path.write_bytes(archive(*entries, **options))
    return Path(store.layers(store.import_file(path, "made")).lower[0])


def test_the_later_entry_wins(store, tmp_path):
    layer = imported(
        store,
        tmp_path,
        (entry("f"), b"old and long"),
        (entry("f"), b"new"),
        entry("l", tarfile.SYMTYPE, "f"),
        (entry("l"), b"a file now, and f is as it was"),
        entry("d", tarfile.DIRTYPE, mode=0o700),
        (entry("d/kept"), b"k"),
        entry("d", tarfile.DIRTYPE, mode=0o751),
        entry("gone", tarfile.DIRTYPE),
        (entry("gone/x"), b"x"),
        (entry("gone"), b"no directory any more"),
        (entry("now-dir"), b"x"),
        entry("now-dir", tarfile.DIRTYPE),
        entry("linked-dir", tarfile.SYMTYPE, "d"),
        entry("linked-dir", tarfile.DIRTYPE),
        (entry("linked-dir/y"), b"y"),
        entry("h", tarfile.LNKTYPE, "f"),
        entry("h", tarfile.LNKTYPE, "h"),
    )
    assert (layer / "f").read_bytes() == b"new"
    assert (layer / "l").read_bytes() == b"a file now, and f is as it was"
    assert (layer / "d/kept").read_bytes() == b"k"
    assert stat.S_IMODE((layer / "d").stat().st_mode) == 0o751
    assert (layer / "gone").read_bytes() == b"no directory any more"
    assert (layer / "now-dir").is_dir()
    assert sorted(os.listdir(layer / "d")) == ["kept"]
    assert (layer / "linked-dir/y").read_bytes() == b"y"
    assert (layer / "h").samefile(layer / "f")


def test_missing_parents_are_made(store, tmp_path):
    layer = imported(
        store,
        tmp_path,
        entry("lib", tarfile.SYMTYPE, "usr/lib"),
        (entry("lib/deep/f"), b"f"),
        (entry("a/b/c"), b"c"),
        entry("x/y/z", tarfile.DIRTYPE),
        entry("p/q", tarfile.FIFOTYPE),
        entry("s/t", tarfile.SYMTYPE, "/anywhere"),
        entry("u/v", tarfile.LNKTYPE, "a/b/c"),
    )
    assert (layer / "usr/lib/deep/f").read_bytes() == b"f"
    assert stat.S_IMODE((layer / "a/b").stat().st_mode) == 0o755
    assert (layer / "u/v").samefile(layer / "a/b/c")
    assert (layer / "x/y/z").is_dir()
    assert (layer / "p/q").is_fifo()


def test_links_are_followed_inside_the_layer_only(store, tmp_path):
    """An absolute link to /etc means the layer's: nothing of the machine is written."""
    mark = f"mdocker-test-{os.getpid()}"
    layer = imported(
        store,
        tmp_path,
        entry("abs", tarfile.SYMTYPE, "/tmp"),
        (entry(f"abs/{mark}"), b"x"),
        entry("abs2", tarfile.SYMTYPE, str(tmp_path)),
        (entry("abs2/inside"), b"x"),
    )
    assert (layer / "tmp" / mark).read_bytes() == b"x"
    assert not (Path("/tmp") / mark).exists()
    assert not (tmp_path / "inside").exists()
    assert (layer / str(tmp_path).lstrip("/") / "inside").exists()


def test_what_follows_the_end_is_read_away(store, tmp_path):
    path = tmp_path / "made.tar"
    path.write_bytes(archive((entry("a"), b"a")) + os.urandom(3_000_000))
    image = store.import_file(path)
    assert image.diff_ids == (f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",)


def test_an_empty_archive_is_an_empty_image(store, tmp_path):
    layer = imported(store, tmp_path)
    assert list(layer.iterdir()) == []
    assert stat.S_IMODE(layer.stat().st_mode) == 0o755


def test_what_cannot_be_kept_is_counted(store, tmp_path):
    """Overlay's own attributes would change what the layer means; whiteouts have nothing below."""
    data = archive(
        (
            entry(
                "f",
                pax_headers={
                    "SCHILY.xattr.trusted.overlay.redirect": "/etc",
                    "SCHILY.xattr.user.overlay.opaque": "y",
                    "SCHILY.xattr.trusted.note": "n",
                    "SCHILY.acl.access": "user::rw-",
                },
            ),
            b"f",
        ),
        entry(".wh.gone"),
        format=tarfile.PAX_FORMAT,
    )
    job = store.begin_import("w", "", [])
    os.write(job.stdin_fd, data)
    job.close_stdin()
    image = job.finish()
    layer = Path(store.layers(image).lower[0])
    assert sorted(os.listdir(layer)) == ["f", "gone"]
    assert os.listxattr(layer / "f") == []
    assert job.warnings == {
        "attributes of overlayfs are not kept": 2,
        "trusted.* attributes can't be kept here": 1,
        "access control lists are not kept": 1,
    }


def test_the_child_has_no_way_out(store):
    """Confined before the first byte: another root, six capabilities, the pipes alone."""
    job = store.begin_import("w", "", [])
    try:
        # It has read this much, so it is past its confinement.
        os.set_blocking(job.stdin_fd, False)
        data = archive((entry("a"), bytes(4_000_000)))
        sent = 0
        while sent < 3_000_000:
            try:
                sent += os.write(job.stdin_fd, data[sent : sent + 65536])
            except BlockingIOError:
                continue
        process = Path(f"/proc/{job.pid}")
        assert os.readlink(process / "root").startswith(str(store.root / "staging"))
        status = dict(
            line.split(":\t", 1) for line in (process / "status").read_text().splitlines()
        )
        kept = sum(1 << number for number in (0, 1, 3, 4, 27, 31))
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == kept
        assert status["NoNewPrivs"] == "1"
        targets = {fd: os.readlink(process / "fd" / fd) for fd in os.listdir(process / "fd")}
        inside = [target for target in targets.values() if target.startswith(str(store.root))]
        assert len(targets) == 4 + len(inside)
        assert targets["1"] == targets["2"] == "/dev/null"
        assert targets.pop("0").startswith("pipe:")
    finally:
        job.abort()


def test_a_reader_sees_an_image_or_nothing(store, tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(archive((entry("a"), b"a" * 100)))
    image = store.import_file(path, "x:1", message="made here", changes=['CMD ["/a"]', "ENV A=1"])
    again = type(store)(store.root)
    assert again.resolve("x:1") == image
    assert again.resolve(image.id) == again.resolve(image.short_id) == image
    assert image.comment == "made here"
    assert image.config == {"Cmd": ["/a"], "Env": ["A=1"]}
    assert image.size == 100
    assert io.BytesIO((store.root / "blobs/sha256" / image.hex).read_bytes()).read(1) == b"{"
