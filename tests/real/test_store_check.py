"""`system check`: a store that is as it should be, and every way in which one is not."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import select
import shutil
import stat
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from runtime.images.errors import ImageError
from runtime.images.model import ImageUser
from runtime.images.store import ImageStore
from tests.real import file_trees
from tests.real.image_store import archive, children, entry, open_files
from tests.real.made_images import busybox_layers, many_files
from tests.real.oci_layout import OciLayout

HOUR_NS = 3_600_000_000_000


def checked(store):
    """All findings of a whole check; nothing of it is left."""
    before, others = open_files(), children()
    found = findings(store)
    assert (open_files(), children()) == (before, others)
    return found


def findings(store):
    """All findings of a whole check."""
    check = store.check()
    found = check.begin()
    for layer in check.layers:
        job = check.begin_layer(layer)
        if job is not None:
            while job.read():
                select.select([job.result_fd], [], [])
            found += job.finish()
    return [*found, *check.end()]


def unpacked(hold, data):
    job = hold.begin_layer()
    view = memoryview(data)
    while view:
        view = view[os.write(job.stdin_fd, view) :]
    return job.finish()


def stored(store, layout, layers, tag="birds:latest"):
    """Put an image of `add_layer`'s descriptors into a store."""
    image = layout.add_image(layers)
    with store.hold() as hold:
        for descriptor, diff_id in layers:
            assert unpacked(hold, layout.blob_of(descriptor)).diff_id == diff_id
        config, manifest = layout.blob(layout.image_id(image)), layout.blob_of(image)
        return hold.add_image(config, tags=[tag], manifest=manifest)


class Kept:
    """A store with an image of four layers that tests damage and mend."""

    def __init__(self, base):
        self.store = ImageStore(base / "store")
        self.layout = OciLayout(base / "layout")
        tars = [*busybox_layers(), many_files(200)]
        how = ("gzip", "zstd", "", "gzip")
        self.layers = [self.layout.add_layer(*one) for one in zip(tars, how, strict=True)]
        self.image = stored(self.store, self.layout, self.layers)

    def file(self, number, path):
        digits = self.layers[number][1].partition(":")[2]
        return self.store.root / "layers" / digits / "fs" / path

    def blob(self, digest):
        return self.store.root / "blobs/sha256" / digest.partition(":")[2]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    made = Kept(tmp_path_factory.mktemp("kept"))
    yield made
    assert checked(made.store) == []


def test_what_was_stored_is_fine(kept):
    assert checked(kept.store) == []


@contextlib.contextmanager
def instead(path, data):
    """Another content; times, owner and mode stay."""
    before, status = path.read_bytes(), path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    try:
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@contextlib.contextmanager
def moved_away(path):
    """Something is not there for a while; its directory's times stay."""
    store = next(one for one in path.parents if one.name == "store")
    aside = store.parent / f"aside-{secrets.token_hex(4)}"
    with same_times(path.parent):
        path.rename(aside)
    try:
        yield
    finally:
        with same_times(path.parent):
            aside.rename(path)


@contextlib.contextmanager
def same_times(directory):
    status = directory.stat()
    try:
        yield
    finally:
        os.utime(directory, ns=(status.st_atime_ns, status.st_mtime_ns))


@contextlib.contextmanager
def another(path, make):
    """`make(path)` in the place of what is there, or where nothing is."""
    if path.is_symlink() or path.exists():
        with moved_away(path):
            with same_times(path.parent):
                make(path)
            try:
                yield
            finally:
                with same_times(path.parent):
                    remove(path)
        return
    with same_times(path.parent):
        make(path)
    try:
        yield
    finally:
        with same_times(path.parent):
            remove(path)


def remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextlib.contextmanager
def with_mode(path, mode):
    before = stat.S_IMODE(path.stat().st_mode)
    path.chmod(mode)
    try:
        yield
    finally:
        path.chmod(before)


@contextlib.contextmanager
def with_owner(path, uid, gid):
    status = path.stat()
    os.chown(path, uid, gid)
    try:
        yield
    finally:
        os.chown(path, status.st_uid, status.st_gid)
        path.chmod(stat.S_IMODE(status.st_mode))


@contextlib.contextmanager
def later(path):
    status = os.lstat(path)
    times = status.st_atime_ns, status.st_mtime_ns
    os.utime(path, ns=(times[0], times[1] + HOUR_NS), follow_symlinks=False)
    try:
        yield
    finally:
        os.utime(path, ns=times, follow_symlinks=False)


@contextlib.contextmanager
def attribute(path, name, value):
    before = os.getxattr(path, name) if name in os.listxattr(path) else None
    if value is None:
        os.removexattr(path, name)
    else:
        os.setxattr(path, name, value)
    try:
        yield
    finally:
        if before is None:
            os.removexattr(path, name)
        else:
            os.setxattr(path, name, before)


def device(path):
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 7))


def linked_twice(path):
    os.link(path.parent / "000/00002", path)


# What: where (its layer and path), how, and what is to be said of it.
DAMAGE = {
    "content": (
        "3/many/000/00001",
        lambda k: instead(k.file(3, "many/000/00001"), b"?" * 501),
        ["/many/000/00001 has another content than in the archive"],
    ),
    "size": (
        "2/birds/wren",
        lambda k: instead(k.file(2, "birds/wren"), b"third and last"),
        ["/birds/wren has 14 bytes, not 5"],
    ),
    "mode": (
        "2/birds",
        lambda k: with_mode(k.file(2, "birds"), 0o777),
        ["/birds has mode 0777, not 0750"],
    ),
    "setuid": (
        "1/birds/robin",
        lambda k: with_mode(k.file(1, "birds/robin"), 0o755),
        ["/birds/robin has mode 0755, not 4755"],
    ),
    "owner": (
        "2/birds/wren",
        lambda k: with_owner(k.file(2, "birds/wren"), 0, 1000),
        ["/birds/wren belongs to 0:1000, not to 0:0"],
    ),
    "time of a file": (
        "2/birds/wren",
        lambda k: later(k.file(2, "birds/wren")),
        ["/birds/wren was changed at 2023-11-14T23:13:20.000000000Z, not at "
         "2023-11-14T22:13:20.000000000Z"],
    ),
    "time of a link": (
        "2/birds/link",
        lambda k: later(k.file(2, "birds/link")),
        ["/birds/link was changed at 2023-11-14T23:13:20.000000000Z, not at "
         "2023-11-14T22:13:20.000000000Z"],
    ),
    "target": (
        "2/birds/link",
        lambda k: another(k.file(2, "birds/link"), lambda path: path.symlink_to("robin")),
        ["/birds/link leads to robin, not to wren", "/birds/link was changed at"],
    ),
    "kind": (
        "2/birds/wren",
        lambda k: another(k.file(2, "birds/wren"), lambda path: path.mkdir()),
        ["/birds/wren is a directory, not a file"],
    ),
    "missing file": (
        "3/many/001/00150",
        lambda k: moved_away(k.file(3, "many/001/00150")),
        ["/many/001/00150 is missing: the archive has a file there"],
    ),
    "missing directory": (
        "3/many/001",
        lambda k: moved_away(k.file(3, "many/001")),
        ["/many/001 is missing: the archive has a directory there"],
    ),
    "stray file": (
        "1/old/stray",
        lambda k: another(k.file(1, "old/stray"), lambda path: path.write_text("?")),
        ["/old/stray is not in the layer's archive"],
    ),
    "stray directory": (
        "0/stray",
        lambda k: another(k.file(0, "stray"), lambda path: path.mkdir()),
        ["/stray is not in the layer's archive"],
    ),
    "stray device": (
        "0/stray",
        lambda k: another(k.file(0, "stray"), device),
        ["/stray is not in the layer's archive"],
    ),
    "hard link": (
        "3/many/000/00002",
        lambda k: another(k.file(3, "many/stray"), linked_twice),
        ["/many/stray is not in the layer's archive", "/many/000/00002 has 2 hard links, not 1"],
    ),
    "parted hard link": (
        "2/birds/also-robin",
        lambda k: another(k.file(2, "birds/also-robin"), lambda path: path.write_bytes(b"robin\n")),
        ["/birds/also-robin has mode", "/birds/also-robin was changed at",
         "/birds/also-robin has 1 hard links, not 2", "/birds/also-robin is not the same file as",],
    ),
    "whiteout": (
        "2/old",
        lambda k: moved_away(k.file(2, "old")),
        ["/old is missing: the archive has a character device there"],
    ),
    "whiteout of nothing": (
        "2/birds/new",
        lambda k: another(
            k.file(2, "birds/new"), lambda path: os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
        ),
        ["/birds/new is not in the layer's archive"],
    ),
    "whiteout's device": (
        "2/old",
        lambda k: another(k.file(2, "old"), device),
        ["/old has mode 0600, not 0000", "/old is device 1:7, not 0:0"],
    ),
    "attribute": (
        "2/birds/wren",
        lambda k: attribute(k.file(2, "birds/wren"), "user.colour", b"red"),
        ["/birds/wren has another value of the attribute user.colour"],
    ),
    "lost attribute": (
        "2/birds/wren",
        lambda k: attribute(k.file(2, "birds/wren"), "user.colour", None),
        ["/birds/wren lacks the attribute user.colour"],
    ),
    "stray attribute": (
        "0/bin",
        lambda k: attribute(k.file(0, "bin"), "user.colour", b"red"),
        ["/bin has the attribute user.colour, which is not in the archive"],
    ),
    "opaque mark": (
        "2/birds",
        lambda k: attribute(k.file(2, "birds"), "trusted.overlay.opaque", b"y"),
        ["/birds hides what is below it, which the archive does not say"],
    ),
    "lost opaque mark": (
        "2/only",
        lambda k: attribute(k.file(2, "only"), "trusted.overlay.opaque", None),
        ["/only does not hide what is below it, as the archive says"],
    ),
    "redirection": (
        "2/birds",
        lambda k: attribute(k.file(2, "birds"), "trusted.overlay.redirect", b"/bin"),
        ["/birds has the attribute trusted.overlay.redirect, which is not in the archive"],
    ),
    "layer": (
        "1",
        lambda k: moved_away(k.file(1, "")),
        ["can't be used: its files are gone"],
    ),
    "record": (
        "1",
        lambda k: instead(k.file(1, "").parent / "layer.json", b"{}"),
        ["can't be used: KeyError: 'size'"],
    ),
    "archive's bit": (
        "0",
        lambda k: instead(k.blob(k.layers[0][0]["digest"]), flipped(k, 0)),
        ["can't be read: the archive's gzip data is damaged"],
    ),
    "plain archive's bit": (
        "2",
        lambda k: instead(k.blob(k.layers[2][0]["digest"]), flipped(k, 2)),
        ["is damaged: it has the digest sha256:"],
    ),
    "other archive": (
        "0",
        lambda k: instead(k.blob(k.layers[0][0]["digest"]), k.layout.blob_of(k.layers[3][0])),
        ["is damaged: it has the digest sha256:"],
    ),
    "truncated archive": (
        "3",
        lambda k: instead(k.blob(k.layers[3][0]["digest"]), k.layout.blob_of(k.layers[3][0])[:999]),
        ["can't be read: the archive is truncated"],
    ),
    "lost archive": (
        "0",
        lambda k: moved_away(k.blob(k.layers[0][0]["digest"])),
        ["is lost: no such file or directory"],
    ),
    "configuration": (
        "config",
        lambda k: instead(k.blob(k.image.id), b"{}"),
        ["its configuration is damaged: it has the digest sha256:44136fa355b3"],
    ),
    "lost manifest": (
        "manifest",
        lambda k: moved_away(k.blob(k.image.manifest)),
        ["its manifest is lost: no such file or directory"],
    ),
    "catalogue": (
        "catalogue",
        lambda k: instead(k.store.root / "repositories.json", b"{"),
        ["is damaged"],
    ),
    "another catalogue": (
        "catalogue",
        lambda k: instead(
            k.store.root / "repositories.json",
            (k.store.root / "repositories.json").read_bytes().replace(b"birds:", b"bards:"),
        ),
        ["it is not what the engine has written"],
    ),
    "stray blob": (
        "stray blob",
        lambda k: another(k.blob(f"sha256:{'f' * 64}"), lambda path: path.write_bytes(b"?")),
        ["belongs to no image"],
    ),
    "stray layer": (
        "stray layer",
        lambda k: another(k.store.root / "layers" / ("e" * 64), lambda path: path.mkdir()),
        ["belongs to no image"],
    ),
    "left in staging": (
        "staging",
        lambda k: another(k.store.root / "staging/import-1", lambda path: path.mkdir()),
        ["is half-made or half-removed"],
    ),
    "short name": (
        "short",
        lambda k: another(
            next(iter((k.store.root / "short").iterdir())),
            lambda path: path.symlink_to("../layers/nowhere/fs"),
        ),
        ["does not lead to layer"],
    ),
}  # fmt: skip


def flipped(kept, number):
    data = bytearray(kept.layout.blob_of(kept.layers[number][0]))
    data[len(data) // 2] ^= 1
    return bytes(data)


def rounds():
    """The damage in as few goes as can be: what is below something else waits for the next."""
    left = list(DAMAGE)
    while left:
        chosen = []
        for what in left:
            place = DAMAGE[what][0]
            others = [DAMAGE[one][0] for one in chosen]
            if not any(
                f"{place}/".startswith(f"{one}/") or one.startswith(place) for one in others
            ):
                chosen.append(what)
        left = [what for what in left if what not in chosen]
        yield chosen


@pytest.mark.parametrize("chosen", list(rounds()), ids=lambda chosen: f"{chosen[0]}…")
def test_damage_is_found_and_nothing_else(kept, chosen):
    with contextlib.ExitStack() as damaged:
        for what in chosen:
            damaged.enter_context(DAMAGE[what][1](kept))
        found = checked(kept.store)
    told = sorted(finding.words for finding in found)
    expected = sorted(words for what in chosen for words in DAMAGE[what][2])
    missed = [words for words in expected if not any(words in one for one in told)]
    assert (missed, len(told)) == ([], len(expected)), told
    assert all(finding.advice for finding in found)


def test_every_kind_of_file_is_fine(tmp_path):
    """The tree that has one of everything, as Python's and as GNU tar packs it."""
    tree = file_trees.make(tmp_path / "tree")
    store, layout = ImageStore(tmp_path / "store"), OciLayout(tmp_path / "layout")
    sparse = tmp_path / "sparse.tar"
    how = ("--xattrs", "--sparse", "--format=pax", "-C", str(tree))
    subprocess.run(["tar", *how, "-cf", str(sparse), "."], check=True)
    os.unlink(tree / "sparse")
    tar = tmp_path / "tree.tar"
    with tarfile.open(tar, "w") as packed:
        packed.add(tree, ".")
    stored(store, layout, [layout.add_layer(one.read_bytes(), "") for one in (tar, sparse)])
    assert checked(store) == []


@pytest.mark.parametrize("seed", range(2))
def test_what_entries_do_to_one_another_is_known(tmp_path, seed):
    """Entries of all kinds over, below and through one another: as unpacked, so expected."""
    chance = random.Random(seed)
    store, layout = ImageStore(tmp_path / "store"), OciLayout(tmp_path / "layout")
    layers = []
    with store.hold() as hold:
        while len(layers) < 3:
            tar = odd_archive(chance)
            with contextlib.suppress(Exception):  # many are refused: a link to what is not there
                unpacked(hold, tar)
                layers.append(layout.add_layer(tar))
        stored(store, layout, layers)
    assert checked(store) == []


def odd_archive(chance):
    def name():
        parts = chance.choices(["a", "b", "c", "link"], k=chance.choice([1, 1, 2, 2, 3]))
        return "/".join(parts)

    entries = []
    for number in range(8):
        fields = {"mtime": chance.randrange(1 << 31), "mode": chance.choice([0o644, 0o4755, 0])}
        fields |= {"uid": chance.choice([0, 7]), "gid": chance.choice([0, 8])}
        match chance.randrange(8):
            case 0 | 1:
                entries.append(entry(name(), tarfile.DIRTYPE, **fields))
            case 2 | 3:
                entries.append((entry(name(), **fields), b"x" * number))
            case 4:
                entries.append(entry(name(), tarfile.SYMTYPE, chance.choice(["a", "/b", "../c"])))
            case 5:
                files = [one[0].name for one in entries if isinstance(one, tuple)] or ["a"]
                entries.append(entry(name(), tarfile.LNKTYPE, chance.choice(files)))
            case 6:
                parent, _, base = name().rpartition("/")
                hidden = chance.choice([f".wh.{base}", ".wh..wh..opq"])
                entries.append((entry(f"{parent}/{hidden}".lstrip("/")), b""))
            case 7:
                entries.append(entry(name(), tarfile.CHRTYPE, devmajor=number, devminor=3))
    return archive(*entries)


def test_a_root_with_names_of_whiteouts_is_fine(tmp_path):
    """An import leaves them out, as there is nothing below."""
    store = ImageStore(tmp_path / "store")
    path = tmp_path / "root.tar"
    path.write_bytes(archive((entry("a/.wh.b"), b""), (entry("c/.wh..wh..opq"), b""), entry("d")))
    store.import_file(path, "root:1")
    assert checked(store) == []


def test_a_layer_that_goes_meanwhile_is_no_finding(tmp_path):
    store, layout = ImageStore(tmp_path / "store"), OciLayout(tmp_path / "layout")
    image = stored(store, layout, [layout.add_layer(tar) for tar in busybox_layers()])
    check = store.check()
    assert check.begin() == []
    job = check.begin_layer(check.layers[0])
    store.delete(image.id, force=True)
    while job.read():
        select.select([job.result_fd], [], [])
    assert job.finish() == []
    assert [check.begin_layer(one) for one in check.layers[1:]] == [None, None]
    assert check.end() == []
    assert list((store.root / "layers").iterdir()) == []


def test_images_that_come_and_go_meanwhile_are_no_findings(tmp_path):
    store, layout = ImageStore(tmp_path / "store"), OciLayout(tmp_path / "layout")
    layers = [layout.add_layer(tar) for tar in busybox_layers()]
    trouble = []

    def come_and_go():
        try:
            for _ in range(2):
                store.delete(stored(store, layout, layers).id, force=True)
        except (ImageError, OSError, AssertionError) as error:
            trouble.append(error)

    churn = threading.Thread(target=come_and_go)
    churn.start()
    while churn.is_alive():
        trouble += findings(store)
    churn.join()
    assert trouble == []


def test_what_containers_need_of_a_removed_image_is_checked_too(tmp_path):
    store, layout = ImageStore(tmp_path / "store"), OciLayout(tmp_path / "layout")
    image = stored(store, layout, [layout.add_layer(tar) for tar in busybox_layers()])
    user = ImageUser("bird", running=False)
    store.delete(image.id, force=True, in_use=lambda _: [user])
    assert list(store.retired) == [image.id]
    assert checked(store) == []
    with instead(store.blob_path(image.id), b"{}"):
        (found,) = checked(store)
        assert "its configuration is damaged" in found.words
        assert "its containers can't be started again" in found.advice
    store.release([])
    assert checked(store) == []
    assert list((store.root / "layers").iterdir()) == []


def test_a_check_that_is_given_up_leaves_nothing(kept):
    before, others = open_files(), children()
    check = kept.store.check()
    check.begin()
    for layer in check.layers:
        job = check.begin_layer(layer)
        job.abort()
        job.abort()
    assert (open_files(), children()) == (before, others)


def run(engine, *words):
    with engine.spawning() as spawn:
        process = spawn("system", "check", *words)
        out, err = process.communicate()
        return process.returncode, out, err


def test_the_command_says_what_is_wrong_and_what_to_do(fresh_engine, busybox_tar):
    tar = {"Content-Type": "application/x-tar"}
    path = "/images/create?fromSrc=-&repo=busybox&tag=latest"
    assert fresh_engine.post(path, busybox_tar.read_bytes(), tar).status == 200
    code, out, err = run(fresh_engine)
    assert (code, err) == (0, "")
    assert out.startswith("Checked 1 images, 1 layers, 2 blobs (")
    assert out.endswith("of archives): all is well\n")
    (layer,) = (fresh_engine.root / "images/layers").iterdir()
    (layer / "fs/etc/passwd").write_text("nobody\n")
    code, out, err = run(fresh_engine, "--quiet")
    assert (code, err) == (1, "")
    lines = out.splitlines()
    assert len(lines) == 2, lines  # its size and its time
    assert lines[0].startswith(f"layer {layer.name[:12]}: /etc/passwd ")
    assert "mdocker rmi -f busybox:latest" in lines[0]
    code, out, _ = run(fresh_engine, "--format", "json")
    told = json.loads(out)
    assert (code, told["Summary"]["Findings"], len(told["Findings"])) == (1, 2, 2)
    assert told["Findings"][0]["Images"] == ["busybox:latest"]


def test_a_client_that_hangs_up_ends_the_check(fresh_engine, tmp_path):
    tar = {"Content-Type": "application/x-tar"}
    big = archive((entry("big"), bytes(64 << 20)))
    path = "/images/create?fromSrc=-&repo=big&tag=latest"
    assert fresh_engine.post(path, big, tar).status == 200
    before = fresh_engine.descriptors()
    with fresh_engine.stream("GET", "/mdocker/check") as news:
        assert b"Progress" in news.readline()
    assert fresh_engine.get("/images/json").status == 200
    while checkers(fresh_engine) or fresh_engine.descriptors() != before:
        assert fresh_engine.get("/_ping").status == 200


def checkers(engine):
    found = []
    for pid in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (pid / "cmdline").read_bytes()
            if b"layer_checker" in words and str(engine.root).encode() in words:
                found.append(pid.name)
    return found
