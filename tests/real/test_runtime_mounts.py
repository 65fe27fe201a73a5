"""What is mounted into a container beside its own file systems, by both inits."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess

import pytest

from runtime import copy_up, flags
from runtime.spec import Bind, Tmpfs
from tests.real.conftest import our_mounts


def test_a_tmpfs_has_its_options_and_no_devices(driver):
    tmpfs = Tmpfs("/made/here", ("size=64k", "mode=700", "uid=7"), flags.MOUNT_ATTR_NOEXEC)
    script = """
        grep ' /made/here ' /proc/mounts | cut -d' ' -f3,4; stat -c '%a %u' /made/here
        head -c 100000 /dev/zero > /made/here/x 2>/dev/null; stat -c %s /made/here/x
        mknod /made/here/zero c 1 5; head -c 1 /made/here/zero 2>&1; true
    """
    kind, told, size, device = driver.run(script, binds=(tmpfs,)).splitlines()
    assert kind.startswith("tmpfs ")
    assert {"rw", "nodev", "noexec", "size=64k"} <= set(kind.split()[1].split(","))
    assert (told, size) == ("700 7", "65536")
    assert "Permission denied" in device


def test_a_tmpfs_has_the_mode_of_what_it_covers(driver):
    script = "stat -c %a /closed /fresh"
    assert driver.run(script, binds=(Tmpfs("/closed"), Tmpfs("/fresh"))).split() == ["700", "1777"]


def test_a_wrong_tmpfs_option_is_told(driver):
    report = driver.start("true", binds=(Tmpfs("/x", ("size=much",)),)).failure()
    assert report["step"] == "bind"
    assert "tmpfs option" in report["words"]
    assert "size=much" in report["words"]


def test_mounts_are_made_in_order(driver, tmp_path):
    (tmp_path / "file").write_text("below\n")
    binds = (Tmpfs("/a"), Bind(str(tmp_path), "/a/b", directory=True), Tmpfs("/a/b/c"))
    assert driver.run("cat /a/b/file; touch /a/b/c/x; ls /a/b", binds=binds).split() == [
        "below",
        "c",
        "file",
    ]
    assert list((tmp_path / "c").iterdir()) == []


def test_a_read_only_root(driver, tmp_path):
    binds = (Bind(str(tmp_path), "/data", directory=True), Tmpfs("/t"))
    script = """
        for f in /x /etc/x /bin/x /sys/x /proc/sys/kernel/hostname; do
            ( echo > $f ) 2>&1 | grep -o 'Read-only.*'; done
        touch /data/x /t/x /dev/shm/x /dev/x && echo > /dev/null && echo written
        grep -c ' / overlay ro' /proc/mounts
    """
    seen = driver.run(script, binds=binds, readonly_root=True).splitlines()
    assert seen == ["Read-only file system"] * 5 + ["written", "1"]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_bind_without_what_is_mounted_below(driver, shared):
    (shared / "inner").mkdir()
    with mounted(shared / "inner"):
        (shared / "inner/mark").touch()
        for recursive, seen in ((True, "mark\n"), (False, "")):
            bind = Bind(str(shared), "/b", directory=True, recursive=recursive)
            assert driver.run("ls /b/inner", binds=(bind,)) == seen


@contextlib.contextmanager
def mounted(place):
    subprocess.run(["mount", "-t", "tmpfs", "test", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.fixture
def shared(tmp_path):
    """A mount of the test's own that is shared."""
    place = tmp_path / "shared"
    place.mkdir()
    with mounted(place):
        subprocess.run(["mount", "--make-shared", place], check=True)
        yield place


@pytest.mark.parametrize(
    ("propagation", "optional"), [("slave", "master:"), ("shared", "shared:"), ("", "-")]
)
def test_propagation(driver, shared, tmp_path, propagation, optional):
    (shared / "later").mkdir()
    # Those of the test's own worker: others mount and unmount meanwhile.
    place = str(tmp_path.parent)
    mounts_before = our_mounts(place)
    bind = Bind(str(shared), "/b", directory=True, propagation=propagation)
    go = shared / "go"
    os.mkfifo(go)
    script = "grep ' /b ' /proc/self/mountinfo | cut -d' ' -f7; read _ < /b/go; ls /b/later"
    started = driver.start("sh", "-c", script, binds=(bind,))
    assert started.failure() is None
    assert started.readline().startswith(optional)
    assert our_mounts(place) == mounts_before
    with mounted(shared / "later"):
        (shared / "later/mark").touch()
        go.write_text("go\n")
        assert started.output() == ("mark\n" if propagation else "")
        assert started.status() == 0


def volume(tmp_path):
    made = tmp_path / "volume/_data"
    made.mkdir(parents=True)
    return made


def content(lower):
    """Something of each kind, for a volume to be filled with."""
    data = lower / "srv/data"
    (data / "deep/er").mkdir(parents=True)
    (data / "deep/file").write_text("deep\n")
    os.link(data / "deep/file", data / "again")
    (data / "link").symlink_to("/deep/nowhere")
    os.mkfifo(data / "fifo", 0o620)
    os.mknod(data / "zero", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    with (data / "holes").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    (data / "set").write_text("")
    os.chown(data / "set", 3, 4)
    (data / "set").chmod(0o4755)
    os.setxattr(data / "set", "user.colour", b"red")
    os.lchown(data / "link", 5, 6)
    os.utime(data / "set", ns=(10**18, 10**18 + 7))
    os.chown(data, 1234, 5678)
    data.chmod(0o2750)
    return data


def test_an_empty_volume_gets_what_the_image_has(driver, tmp_path):
    layer = tmp_path / "layer"
    image = content(layer)
    (layer / "moved").symlink_to("srv/data")
    data = volume(tmp_path)
    lower = (str(layer), str(driver.lower))
    inode = data.stat().st_ino
    bind = Bind(str(data), "/moved", directory=True, fill=True)
    assert driver.run("cat /srv/data/deep/file", lower=lower, binds=(bind,)) == "deep\n"
    assert sorted(os.listdir(data)) == sorted(os.listdir(image))
    assert data.stat().st_ino == inode
    about = data.stat()
    assert (about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode)) == (1234, 5678, 0o2750)
    assert (data / "again").stat().st_ino == (data / "deep/file").stat().st_ino
    assert os.readlink(data / "link") == "/deep/nowhere"
    assert (data / "link").lstat().st_uid == 5
    assert stat.S_ISFIFO((data / "fifo").stat().st_mode)
    assert (data / "zero").stat().st_rdev == os.makedev(1, 5)
    holes = (data / "holes").stat()
    assert (holes.st_size, holes.st_blocks * 512 < 1 << 20) == ((1 << 20) + 3, True)
    about = (data / "set").stat()
    assert (about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode)) == (3, 4, 0o4755)
    assert about.st_mtime_ns == 10**18 + 7
    assert os.getxattr(data / "set", "user.colour") == b"red"
    assert [path.name for path in data.parent.iterdir()] == ["_data"]
    # Never over content, and the image's own is as it was.
    (data / "deep/file").write_text("changed\n")
    assert driver.run("cat /srv/data/deep/file", lower=lower, binds=(bind,)) == "changed\n"
    assert (image / "deep/file").read_text() == "deep\n"


def test_a_volume_stays_empty_where_the_image_has_no_directory(driver, tmp_path):
    data = volume(tmp_path)
    for target in ("/nowhere/at/all", "/plain/below"):
        bind = Bind(str(data), target, directory=True, fill=True)
        driver.start("true", binds=(bind,)).failure()
        assert list(data.iterdir()) == []
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "out").symlink_to(f"../../../../../..{tmp_path}")
    bind = Bind(str(data), "/out", directory=True, fill=True)
    driver.start("true", lower=(str(layer), str(driver.lower)), binds=(bind,)).failure()
    assert list(data.iterdir()) == []


def test_a_volume_is_not_filled_from_what_somebody_mounts_over_the_image(driver, tmp_path):
    data = volume(tmp_path)
    (tmp_path / "other/sub").mkdir(parents=True)
    (tmp_path / "other/sub/file").touch()
    image_s = Bind(str(tmp_path / "other"), "/usr2", readonly=True)
    asked = Bind(str(tmp_path / "other"), "/tmp", directory=True)
    for target, first, seen in (("/usr2/sub", image_s, ["file"]), ("/tmp/sub", asked, [])):
        copy_up.remove_tree(os.fsencode(data))
        data.mkdir()
        bind = Bind(str(data), target, directory=True, fill=True)
        assert driver.run("true", binds=(first, bind)) == ""
        assert os.listdir(data) == seen


def test_a_copy_that_was_cut_is_made_again_and_a_whole_one_is_moved_in(tmp_path):
    data = volume(tmp_path)
    image = content(tmp_path / "image")
    source = os.open(image, os.O_RDONLY)
    try:
        draft = data.parent / "_fill.me"
        draft.mkdir()
        (draft / "torn").touch()
        copy_up.fill(source, os.fsencode(data), b"me")
        assert sorted(os.listdir(data)) == sorted(os.listdir(image))
    finally:
        os.close(source)
    copy_up.remove_tree(os.fsencode(data))
    data.mkdir()
    (data / "theirs").write_text("theirs")
    whole = data.parent / "_fill"
    (whole / "theirs").mkdir(parents=True)
    (whole / "ours").write_text("ours")
    whole.chmod(0o711)
    copy_up.move_in(os.fsencode(data))
    assert ((data / "theirs").read_text(), (data / "ours").read_text()) == ("theirs", "ours")
    assert stat.S_IMODE(data.stat().st_mode) == 0o711
    assert os.listdir(data.parent) == ["_data"]
    copy_up.move_in(os.fsencode(data))


def test_a_full_disk_leaves_an_empty_volume(driver, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    layer = tmp_path / "layer"
    (layer / "srv").mkdir(parents=True)
    (layer / "srv/big").write_bytes(b"x" * 200_000)
    with mounted(small):
        subprocess.run(["mount", "-o", "remount,size=64k", small], check=True)
        data = volume(small)
        bind = Bind(str(data), "/srv", directory=True, fill=True)
        started = driver.start("true", lower=(str(layer), str(driver.lower)), binds=(bind,))
        report = started.failure()
        assert report["step"] == "copy the image's files into a volume"
        assert "no space left on device" in report["words"]
        assert os.listdir(data) == []
        assert os.listdir(data.parent) == ["_data"]
        started.exited()


def test_a_part_of_a_volume(driver, tmp_path):
    data = volume(tmp_path)
    (data / "sub/deep").mkdir(parents=True)
    (data / "sub/deep/mark").touch()
    (data / "inner").symlink_to("/sub/deep")
    (data / "out").symlink_to("/../../../../../etc")
    for subpath in ("sub/deep", "inner"):
        bind = Bind(str(data), "/v", directory=True, subpath=subpath)
        assert driver.run("ls /v", binds=(bind,)) == "mark\n"
    for subpath in ("out", "nowhere"):
        bind = Bind(str(data), "/v", directory=True, subpath=subpath)
        report = driver.start("true", binds=(bind,)).failure()
        assert (report["step"], report["exit_code"]) == ("bind", 125)
        assert report["words"] == f"bind: no such file or directory: {data}/{subpath}"


def test_what_does_not_fit_is_told(driver, tmp_path):
    (tmp_path / "file").touch()
    for source, target in ((tmp_path, "/etc/passwd"), (tmp_path / "file", "/etc")):
        bind = Bind(str(source), target, directory=source.is_dir())
        report = driver.start("true", binds=(bind,)).failure()
        assert (report["step"], report["exit_code"]) == ("bind", 125)
        assert "are you trying to mount a directory onto a file" in report["words"]
        assert report["words"].endswith(f": {target}")
    image_s = Bind(str(tmp_path), "/usr", readonly=True)
    bind = Bind(str(tmp_path), "/usr/not/there", directory=True)
    report = driver.start("true", binds=(image_s, bind)).failure()
    assert report["words"] == "bind: read-only file system: /usr/not"
