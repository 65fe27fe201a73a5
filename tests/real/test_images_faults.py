"""Disk full, killed, aborted, damaged on disk: no half image, and the rest goes on."""

from __future__ import annotations

import errno
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runtime.images import durable
from runtime.images.errors import (
    ImageConflict,
    ImageNotFound,
    ImportFailed,
    InvalidChange,
    InvalidReference,
    StoreCorrupted,
)
from runtime.images.model import Deleted, ImageUser, Untagged
from runtime.images.store import ImageStore
from tests.real.image_store import archive, clean_store, entry, open_files

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path):
    with clean_store(tmp_path / "store") as store:
        yield store


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MiB."""
    mountpoint = tmp_path / "small"
    mountpoint.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m,nr_inodes=300", "tmpfs", mountpoint], check=True
    )
    yield mountpoint
    subprocess.run(["umount", mountpoint], check=True)


def archive_file(tmp_path, *entries, name="made.tar"):
    path = tmp_path / name
    path.write_bytes(archive(*entries))
    return path


def simple(tmp_path, content=b"content", name="simple.tar"):
    return archive_file(tmp_path, (entry("file"), content), name=name)


def everything(root):
    """All paths of a store but its host image."""
    return sorted(
        str(path.relative_to(root)) for path in root.rglob("*") if "host" not in path.parts
    )


EMPTY = ["blobs", "blobs/sha256", "layers", "short", "staging"]
SPARE = ".repositories.json.spare"


def test_full_disk(small_disk, tmp_path):
    path = archive_file(tmp_path, (entry("small"), b"x"), (entry("big/file"), bytes(6_000_000)))
    with clean_store(small_disk / "store") as store:
        before = everything(store.root)
        with pytest.raises(ImportFailed) as refusal:
            store.import_file(path, "big")
        assert str(refusal.value) == "no space left on device while unpacking big/file"
        assert refusal.value.status == 500
        assert everything(store.root) == before == EMPTY
        image = store.import_file(simple(tmp_path), "fits")
        assert store.resolve("fits") == image


def test_no_inodes_left(small_disk, tmp_path):
    path = archive_file(tmp_path, *[entry(f"d/{number}") for number in range(400)])
    with clean_store(small_disk / "store") as store:
        with pytest.raises(ImportFailed, match=r"no space left on device while unpacking d/\d+"):
            store.import_file(path, "many")
        assert everything(store.root) == EMPTY


@pytest.mark.parametrize("moment", ["layer.json", "blob", "repositories.json"])
def test_full_disk_at_commit(store, tmp_path, monkeypatch, moment):
    """The layer fits and what comes after it does not: the layer goes again."""
    real = durable.write_durably

    def write(path, data, mode=0o600):
        if moment == path.name or (moment == "blob" and path.parent.name == "sha256"):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, data, mode)

    for module in ("blobs", "catalogue", "layers"):
        monkeypatch.setattr(f"runtime.images.{module}.write_durably", write)
    before = everything(store.root)
    with pytest.raises(ImportFailed, match="cannot store the image: no space left on device"):
        store.import_file(simple(tmp_path), "x")
    assert everything(store.root) == before
    with pytest.raises(ImageNotFound):
        store.resolve("x")
    monkeypatch.undo()
    assert store.import_file(simple(tmp_path), "x").tags == ("x:latest",)


def begun(store):
    """An import that waits for more of a file, with most of it in the layer."""
    job = store.begin_import("half", "", [])
    data = archive((entry("file"), bytes(2_000_000)))
    view = memoryview(data)[:1_500_000]
    while view:
        view = view[os.write(job.stdin_fd, view) :]
    return job


def test_the_child_is_killed(store):
    job = begun(store)
    os.kill(job.pid, signal.SIGKILL)
    select.select([job.result_fd], [], [])
    with pytest.raises(ImportFailed, match=r"ended without an answer \(killed by SIGKILL\)"):
        job.finish()
    assert everything(store.root) == EMPTY


def test_aborted(store):
    job = begun(store)
    assert list((store.root / "staging").iterdir())
    job.abort()
    assert everything(store.root) == EMPTY
    job.abort()
    with pytest.raises(RuntimeError, match="finished or aborted"):
        job.finish()
    assert (job.stdin_fd, job.result_fd) == (-1, -1)


def test_the_archive_ends_half_way(store):
    job = begun(store)
    job.close_stdin()
    with pytest.raises(ImportFailed.__base__, match="truncated within file"):
        job.finish()
    assert everything(store.root) == EMPTY


HALF_AN_IMPORT = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from runtime.images.store import ImageStore
from tests.real.test_images_faults import begun
import threading
store = ImageStore(Path(sys.argv[2]))
jobs = []
# A worker thread, which ends long before the import: the child must not end with it.
worker = threading.Thread(target=lambda: jobs.append(begun(store)))
worker.start()
worker.join()
print(jobs[0].pid, flush=True)
time.sleep(3600)
"""


def test_the_engine_is_killed_in_an_import(store, tmp_path):
    engine = subprocess.Popen(
        [sys.executable, "-c", HALF_AN_IMPORT, CHECKOUT, store.root], stdout=subprocess.PIPE
    )
    child = os.pidfd_open(int(engine.stdout.readline()))
    try:
        assert not select.select([child], [], [], 0)[0], "the child ended with a thread"
        engine.kill()
        engine.wait()
        engine.stdout.close()
        assert select.select([child], [], [], 10)[0], "the child outlived its engine"
    finally:
        os.close(child)
    again = ImageStore(store.root)
    assert [path.name.partition("-")[0] for path in (store.root / "staging").iterdir()] == [
        "import"
    ]
    swept = again.sweep()
    assert len(swept) == 1
    assert everything(store.root) == EMPTY


IMPORTS_AND_DELETES = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from runtime.images.store import ImageStore
store = ImageStore(Path(sys.argv[2]))
store.sweep()
print("ready", flush=True)
number = 0
while True:
    number += 1
    for archive in sys.argv[3:]:
        store.import_file(Path(archive), f"x:{number % 3}")
    store.delete(f"x:{number % 3}")
"""


def test_killed_at_random_moments(tmp_path):
    """Whenever the engine dies, what is listed is whole and the rest is swept."""
    root = tmp_path / "store"
    archives = [
        archive_file(
            tmp_path,
            *[(entry(f"d{n}/{k}"), random.Random(k).randbytes(2000)) for k in range(40)],
            name=f"{n}.tar",
        )
        for n in range(3)
    ]
    generator = random.Random(5)
    for _ in range(12):
        engine = subprocess.Popen(
            [sys.executable, "-c", IMPORTS_AND_DELETES, CHECKOUT, root, *archives],
            stdout=subprocess.PIPE,
        )
        assert engine.stdout.readline() == b"ready\n"
        # The moment is the point here, not a wait for something.
        time.sleep(generator.uniform(0, 0.4))
        engine.kill()
        engine.wait()
        engine.stdout.close()
        store = ImageStore(root)
        assert store.broken == {}
        for image in store.images():
            for lower in store.layers(image).lower:
                if not image.built_in:
                    assert len([p for p in Path(lower).rglob("*") if p.is_file()]) == 40
        store.sweep()
        layers = {path.name for path in (root / "layers").iterdir()}
        used = {diff_id[7:] for image in store.images() for diff_id in image.diff_ids}
        assert layers == used
        configurations = len(store.images()) - 1
        assert len(list((root / "blobs/sha256").iterdir())) == configurations + len(layers)


def test_imports_at_once(store, tmp_path):
    """Same and different content and names, in threads: every name leads to its content."""
    paths = [simple(tmp_path, f"{n}".encode() * 50_000, f"{n}.tar") for n in range(3)]
    failures = []

    def work(number):
        try:
            for turn in range(3):
                image = store.import_file(paths[number % 3], f"same:{turn}")
                store.import_file(paths[number % 3], f"own-{number}:{turn}")
                assert len(image.diff_ids) == 1
        except Exception as error:  # noqa: BLE001 - shown by the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(list((store.root / "layers").iterdir())) == 3
    for number in range(6):
        for turn in range(3):
            image = store.resolve(f"own-{number}:{turn}")
            content = (Path(store.layers(image).lower[0]) / "file").read_bytes()
            assert content == f"{number % 3}".encode() * 50_000
    again = ImageStore(store.root)
    assert {image.id: image for image in again.images() if not image.built_in} == {
        image.id: image for image in store.images() if not image.built_in
    }
    assert store.sweep() == []


def test_a_sweep_leaves_running_imports_alone(store, tmp_path):
    job = begun(store)
    assert store.sweep() == []
    job.abort()


def test_bad_requests_start_nothing(store):
    before = open_files()
    with pytest.raises(InvalidReference):
        store.begin_import("Bad Name", "", [])
    with pytest.raises(InvalidReference, match="cannot import digest reference"):
        store.begin_import("x@sha256:" + "a" * 64, "", [])
    with pytest.raises(InvalidChange):
        store.begin_import("x", "", ["RUN x"])
    with pytest.raises(ImageConflict, match="taken by the built-in image"):
        store.begin_import("docker.io/library/host", "", [])
    assert open_files() == before
    assert everything(store.root) == EMPTY


def test_no_descriptors_left(store):
    """EMFILE starts nothing and leaves nothing."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for spare in range(8):
        used = len(open_files())
        taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1 + spare, hard))
            try:
                job = store.begin_import("x", "", [])
            except ImportFailed as refusal:
                assert "too many open files" in str(refusal).lower()
            else:
                job.abort()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in taken:
                os.close(fd)
        assert len(open_files()) == used
        assert everything(store.root) == EMPTY


# --- deleting ---


def test_delete(store, tmp_path):
    image = store.import_file(simple(tmp_path), "x:1")
    other = store.import_file(simple(tmp_path), "y:1")
    assert image.diff_ids == other.diff_ids
    users = [ImageUser("c" * 64, running=False)]
    with pytest.raises(ImageConflict, match="container cccccccccccc is using its referenced"):
        store.delete("x:1", in_use=lambda image_id: users if image_id == image.id else ())
    assert store.delete("x:1") == [Untagged("x:1"), Deleted(image.id)]
    with pytest.raises(ImageNotFound, match="No such image: x:1"):
        store.resolve("x:1")
    assert store.delete(other.id[:20]) == [
        Untagged("y:1"),
        Deleted(other.id),
        Deleted(other.diff_ids[0]),
    ]
    assert set(everything(store.root)) == {*EMPTY, "repositories.json", SPARE}
    assert [image.built_in for image in ImageStore(store.root).images()] == [True]


def test_a_name_that_moved_leaves_the_old_image_untagged(store, tmp_path):
    first = store.import_file(simple(tmp_path), "x")
    second = store.import_file(simple(tmp_path, b"new"), "docker.io/library/x:latest")
    assert store.resolve("x") == second
    assert store.resolve(first.id).tags == ()
    assert store.delete(first.id) == [Deleted(first.id), Deleted(first.diff_ids[0])]


def test_forced_untag_of_a_running_image_keeps_it(store, tmp_path):
    image = store.import_file(simple(tmp_path), "x")
    users = [ImageUser("c" * 64, running=True)]
    assert store.delete("x", force=True, in_use=lambda _: users) == [Untagged("x:latest")]
    assert store.resolve(image.id).tags == ()
    assert Path(store.layers(image).lower[0]).is_dir()


# --- damage on disk ---


def test_a_damaged_catalogue_is_refused_and_nothing_is_lost(store, tmp_path):
    image = store.import_file(simple(tmp_path), "x")
    index = store.root / "repositories.json"
    good = index.read_bytes()
    index.write_bytes(good[:40])
    with pytest.raises(StoreCorrupted, match=r"repositories\.json is damaged"):
        ImageStore(store.root)
    index.write_bytes(good)
    assert ImageStore(store.root).resolve("x") == image


def test_a_damaged_image_does_not_take_the_others_along(store, tmp_path):
    good = store.import_file(simple(tmp_path), "good")
    bad = store.import_file(simple(tmp_path, b"other"), "bad")
    lost = store.import_file(simple(tmp_path, b"third"), "lost")
    blob = store.root / "blobs/sha256" / bad.hex
    document = json.loads(blob.read_bytes())
    document["config"]["Cmd"] = ["/evil"]
    blob.write_text(json.dumps(document))
    (store.root / "layers" / lost.diff_ids[0][7:] / "layer.json").unlink()
    again = ImageStore(store.root)
    assert again.resolve("good") == good
    for name in ("bad", "lost", bad.id):
        with pytest.raises(StoreCorrupted, match="is damaged"):
            again.resolve(name)
    assert set(again.broken) == {bad.id, lost.id}
    assert again.sweep() == []
    assert again.import_file(simple(tmp_path, b"4"), "more").tags == ("more:latest",)


def test_ids_and_prefixes(store, tmp_path):
    images = [store.import_file(simple(tmp_path, b"%d" % n), f"n:{n}") for n in range(17)]
    by_digit = {}
    for image in images:
        by_digit.setdefault(image.hex[0], []).append(image)
    digit = next(digit for digit, same in by_digit.items() if len(same) > 1)
    with pytest.raises(Exception, match=f"multiple images found with provided prefix: {digit}"):
        store.resolve(digit)
    for image in images:
        for text in (image.id, image.hex, image.short_id, f"sha256:{image.short_id}"):
            assert store.resolve(text) == image
    with pytest.raises(ImageNotFound, match="No such image: nosuch:latest"):
        store.resolve("nosuch")
    with pytest.raises(ImageNotFound):
        store.resolve("0" * 64)
    listed = [image for image in store.images() if not image.built_in]
    assert listed == images[::-1]


def test_what_a_crash_left_is_removed_while_others_are_at_work(store):
    """Found: a start waited until all files of a pull that was cut off were gone."""
    half = store.root / "staging/import-1/fs/files"
    half.mkdir(parents=True)
    draft = store.root / f"blobs/sha256/.{'0' * 64}.7.tmp"
    draft.touch()
    trees, files = store.begin_sweep()
    assert (trees, files) == ([half.parents[1]], [draft])
    assert half.exists() and not draft.exists()
    # It is in somebody's hands now, and no finding of a check's.
    assert store.sweep() == []
    check = store.check()
    assert check.begin() == check.end() == []
    store.end_sweep(trees)
    assert everything(store.root) == EMPTY
