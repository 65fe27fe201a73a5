"""Links that move while we look: in volumes and mount targets, in copies, in archives of images."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from tests.real.escapes.payloads import begun
from tests.real.shim_driver import BUSYBOX

CONTENT = b"from a copy\n"


def archive(name, data=CONTENT):
    """A tar with one file."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        about = tarfile.TarInfo(name)
        about.size = len(data)
        tar.addfile(about, io.BytesIO(data))
    return made.getvalue()


@pytest.fixture
def outside(tmp_path):
    """A directory of the machine's with a secret, at a path that the payload knows."""
    (tmp_path / "secret").write_text("of the machine")
    return tmp_path


def swapping(place, link):
    """A shell that swaps `place`, a directory, and a link of that name, as fast as it can."""
    return f"""
        mkdir -p {place} /aside && echo harmless > {place}/secret && ln -s {link} /aside/link
        echo up
        while :; do
            mv {place} /aside/dir; mv /aside/link {place}; mv {place} /aside/link
            mv /aside/dir {place}
        done
    """


def test_the_payload_succeeds_against_a_copy_that_resolves_paths_first(outside, tmp_path_factory):
    """As docker cp did (CVE-2018-15664): look the path up, see that it is inside, then open it."""
    root = tmp_path_factory.mktemp("root")
    (root / "place").mkdir()
    (root / "place/secret").write_text("harmless\n")
    (root / "link").symlink_to(outside)
    ended = threading.Event()

    def swap():
        while not ended.is_set():
            os.rename(root / "place", root / "dir")
            os.rename(root / "link", root / "place")
            os.rename(root / "place", root / "link")
            os.rename(root / "dir", root / "place")

    payload = threading.Thread(target=swap)
    payload.start()
    try:
        for _ in range(200_000):
            try:
                resolved = (root / "place/secret").resolve()
                if root in resolved.parents and resolved.read_text() == "of the machine":
                    return
            except OSError:
                continue
    finally:
        ended.set()
        payload.join()
    raise AssertionError("the payload never succeeded")


def test_cve_2018_15664_a_copy_while_links_move(engine, outside):
    """Out of it and into it: what is copied, and where to, is the container's at every moment."""
    container = begun(engine, swapping("/place", outside))
    read = 0
    for number in range(8):
        answer = engine.get(f"/containers/{container}/archive?path=/place/secret")
        if answer.status == 200:
            with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
                assert tar.extractfile("secret").read() == b"harmless\n"
            read += 1
        data = archive(f"written{number}")
        query = f"/containers/{container}/archive?path=/place"
        engine.request("PUT", query, data, {"Content-Type": "application/x-tar"})
    assert os.listdir(outside) == ["secret"]
    assert (outside / "secret").read_text() == "of the machine"
    # It was to be had at some of the moments.
    engine.post(f"/containers/{container}/kill")
    assert engine.get(f"/containers/{container}/archive?path=/aside").status == 200
    engine.delete(f"/containers/{container}?force=1")


def test_cve_2021_30465_and_2024_45310_a_mount_target_whose_path_moves(engine, outside):
    """Two containers share a volume; one moves what the other's mount target leads through."""
    made = {"HostConfig": {"Binds": ["shared:/v", f"{outside}:/machine:ro"]}}
    script = swapping("/v/place", "/../../../../../../../../../../../.." + str(outside))
    container = begun(engine, script.replace("/aside", "/v/aside"), **made)
    other = ["shared:/v", "other:/v/place/inner"]
    escaped = 0
    for _ in range(8):
        answer = engine.post(
            "/containers/create",
            {"Image": "host", "Cmd": ["sh", "-c", "touch /v/place/inner/touched; grep -c /inner "
             "/proc/mounts"], "HostConfig": {"Binds": other}},
        )  # fmt: skip
        one = answer.json["Id"]
        engine.post(f"/containers/{one}/start")
        escaped += os.listdir(outside) != ["secret"]
        engine.delete(f"/containers/{one}?force=1")
    assert escaped == 0
    assert str(outside) not in Path("/proc/self/mountinfo").read_text()
    engine.delete(f"/containers/{container}?force=1")
    for name in ("shared", "other"):
        assert engine.delete(f"/volumes/{name}").status == 204


def test_cve_2022_23648_an_image_s_volume_is_filled_from_inside_it(engine, busybox_tar, outside):
    """A VOLUME whose path is a link in the image: the content must not be the machine's."""
    path = outside / "image.tar"
    shutil.copy2(busybox_tar, path)
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("evil")
        link.type, link.linkname = tarfile.SYMTYPE, "/.." * 20 + str(outside)
        tar.addfile(link)
        inside = tarfile.TarInfo(f"{str(outside).lstrip('/')}/decoy")
        inside.size = 6
        tar.addfile(inside, io.BytesIO(b"inside"))
    answer = engine.post(
        "/images/create?fromSrc=-&repo=evil&tag=latest&changes=VOLUME+%2Fevil",
        path.read_bytes(),
        {"Content-Type": "application/x-tar"},
    )
    assert answer.status == 200 and b"error" not in answer.body, answer
    assert (path.parent / "secret").exists()
    code, out, _ = engine.result("ls", "/evil", image="evil")
    assert (code, out) == (0, "decoy\n")
    engine.post('/volumes/prune?filters={"all":["1"]}')


EVIL_C = r"""
#include <fcntl.h>
__attribute__((constructor)) static void loaded(void)
{
    open("/loaded", O_CREAT | O_WRONLY, 0644);
}
"""
MODULES = ("pwd", "grp", "encodings/idna", "tarfile", "zlib", "sitecustomize", "os", "json")


def evil_tree(tree):
    """What a container puts where a helper of ours might look for libraries and modules."""
    library = tree / "usr/lib/x86_64-linux-gnu"
    (library / "gconv").mkdir(parents=True)
    source = tree / "evil.c"
    source.write_text(EVIL_C)
    for name in ("libnss_evil.so.2", "libnss_files.so.2", "libnss_dns.so.2", "gconv/EVIL.so"):
        command = ["gcc", "-shared", "-fPIC", "-o", library / name, source]
        subprocess.run(command, check=True)
        source.touch()
    for name in ("lib/x86_64-linux-gnu", "lib64"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to("/usr/lib/x86_64-linux-gnu")
    (tree / "etc").mkdir()
    (tree / "etc/nsswitch.conf").write_text("passwd: evil\ngroup: evil\nhosts: evil\n")
    (tree / "etc/passwd").write_text("bird:x:7:7::/:/bin/sh\n")
    (tree / "etc/group").write_text("bird:x:7:\n")
    (tree / "file").write_text("content")
    os.chown(tree / "file", 7, 7)
    for place in {
        str(Path(os.__file__).parent),
        "/usr/lib/python3",
        str(Path(__file__).parents[3]),
    }:
        for module in MODULES:
            path = tree / place.lstrip("/") / f"{module}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("open('/loaded', 'w')\nraise ImportError\n")


def test_cve_2019_14271_copies_load_nothing_of_the_container_s(engine, tmp_path):
    """docker cp looked up users inside the container, and so ran its libnss as root."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    tree = tmp_path / "tree"
    evil_tree(tree)
    # A helper that looks users up after its chroot(2) runs the payload's code.
    code = f"import os; os.chroot({str(tree)!r}); os.chdir('/'); import pwd; pwd.getpwall()"
    command = [sys.executable, "-c", "import pwd, ctypes\n" + code]
    subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
    assert (tree / "loaded").exists(), "the payload itself does not work"
    (tree / "loaded").unlink()
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(tree, ".")
        tar.add(BUSYBOX, "bin/sh")
        tar.add(BUSYBOX, "bin/sleep")
    answer = engine.post(
        "/images/create?fromSrc=-&repo=evilnss&tag=latest",
        path.read_bytes(),
        {"Content-Type": "application/x-tar"},
    )
    assert answer.status == 200 and b"error" not in answer.body, answer
    for running in (True, False):
        container = engine.create("/bin/sleep", "1000", image="evilnss", User="bird")
        if running:
            assert engine.post(f"/containers/{container}/start").status == 204
        answer = engine.get(f"/containers/{container}/archive?path=/file")
        assert answer.status == 200, answer
        query = f"/containers/{container}/archive?path=/&copyUIDGID=1"
        put = engine.request("PUT", query, archive("put"), {"Content-Type": "application/x-tar"})
        assert put.status == 200, put
        assert engine.get(f"/containers/{container}/changes").status == 200
        assert engine.get(f"/containers/{container}/export").status == 200
        with tarfile.open(fileobj=io.BytesIO(engine.get(
                f"/containers/{container}/export").body)) as tar:  # fmt: skip
            assert not {"loaded", "./loaded"} & set(tar.getnames())
        assert engine.delete(f"/containers/{container}?force=1").status == 204


HOSTILE = {
    "CVE-2014-9357 a link, then a file behind it": [
        ("out", tarfile.SYMTYPE, "{outside}"),
        ("out/written", tarfile.REGTYPE, ""),
    ],
    "CVE-2014-6407 a hard link to a file outside": [
        ("out", tarfile.LNKTYPE, "{outside}/secret"),
        ("out", tarfile.REGTYPE, ""),
    ],
    "CVE-2014-9356 a link that climbs": [
        ("a", tarfile.SYMTYPE, "/" + "../" * 20 + "{relative}"),
        ("a/written", tarfile.REGTYPE, ""),
    ],
    "a name that climbs": [("../" * 20 + "{relative}/written", tarfile.REGTYPE, "")],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_archives_of_images_that_lead_out(engine, busybox_tar, outside, case, tmp_path_factory):
    """Unpacked by Python's own tarfile, without its filter, each of them gets out."""
    made = io.BytesIO()
    words = {"outside": str(outside), "relative": str(outside).lstrip("/")}
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, kind, target in HOSTILE[case]:
            about = tarfile.TarInfo(name.format(**words))
            about.type, about.linkname = kind, target.format(**words)
            data = b"overwritten" if kind == tarfile.REGTYPE else b""
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    engine.post(
        "/images/create?fromSrc=-&repo=out&tag=latest",
        made.getvalue(),
        {"Content-Type": "application/x-tar"},
    )
    assert os.listdir(outside) == ["secret"]
    assert (outside / "secret").read_text() == "of the machine"
    with tarfile.open(fileobj=io.BytesIO(made.getvalue())) as tar:
        tar.extractall(tmp_path_factory.mktemp("naive"), filter="fully_trusted")
    changed = (outside / "secret").read_text() != "of the machine"
    assert changed or (outside / "written").exists()


def test_cve_2014_9357_a_decompressor_of_the_image_s_own(engine, outside):
    """Docker 1.3.2 unpacked xz in a chroot where the archive's own xz was found first."""
    made = io.BytesIO()
    marker = outside / "ran"
    with tarfile.open(fileobj=made, mode="w:xz") as tar:
        for name in ("usr/bin/xz", "bin/xz", "usr/bin/unxz", "bin/gzip"):
            about = tarfile.TarInfo(name)
            data = f"#!/bin/sh\ntouch {marker}; touch /ran\n".encode()
            about.size, about.mode = len(data), 0o755
            tar.addfile(about, io.BytesIO(data))
    answer = engine.post(
        "/images/create?fromSrc=-&repo=xz&tag=latest",
        made.getvalue(),
        {"Content-Type": "application/x-tar"},
    )
    assert answer.status == 200 and b"error" not in answer.body, answer
    assert not marker.exists()
    found = list((engine.root / "images").rglob("ran"))
    assert found == []


def test_cve_2024_23651_to_23653_mounts_of_a_build_step_are_refused(engine):
    """Cache mounts, stubs that are removed, entitlements: there are none, and it is said."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        data = b"FROM host\nRUN --mount=type=cache,target=/proc/self true\n"
        about = tarfile.TarInfo("Dockerfile")
        about.size = len(data)
        tar.addfile(about, io.BytesIO(data))
    answer = engine.request(
        "POST", "/build", context.getvalue(), {"Content-Type": "application/x-tar"}
    )
    assert b"--mount" in answer.body
    assert b"Successfully built" not in answer.body
