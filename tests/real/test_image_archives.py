"""`load`, `save` and import from a URL: archives of docker's and OCI's format, whole or damaged."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
from urllib.parse import quote

import pytest
import zstandard

from tests.real.image_store import archive, entry
from tests.real.made_archives import (
    TAR,
    configured,
    digest,
    docker_archive,
    inventory,
    layer,
    load,
    loaded,
    members,
)
from tests.real.oci_layout import OciLayout, skopeo
from tests.unit.supervisor.file_server import file_server

OURS = [sys.executable, "-m", "mdocker"]
LINK = tarfile.SYMTYPE


def refusal(engine, data, query=""):
    """Why it loads nothing; the store must be as it was."""
    before = inventory(engine)
    last = load(engine, data, query)[-1]
    assert last["errorDetail"]["message"] == last["error"]
    assert inventory(engine) == before
    return last["error"]


def save(engine, *names):
    query = "&".join(f"names={quote(name)}" for name in names)
    answer = engine.get(f"/images/get?{query}")
    assert answer.status == 200, answer
    return answer.body


@pytest.fixture(autouse=True)
def clean(request):
    """Each test leaves the store as it was."""
    if "engine" not in request.fixturenames:
        yield
        return
    engine = request.getfixturevalue("engine")
    before = {image["Id"] for image in engine.get("/images/json").json}
    yield
    for image in engine.get("/images/json").json:
        if image["Id"] not in before:
            engine.request("DELETE", f"/images/{image['Id']}?force=1")
    assert list((engine.root / "images/staging").iterdir()) == []


PACKED = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
}


class TestLoad:
    @pytest.mark.parametrize("kind", PACKED)
    def test_docker_s_format(self, engine, kind):
        one, two = layer("one"), layer("two")
        data = docker_archive(one, two, tags=("made:1", "localhost:5000/a/b:c"), pack=PACKED[kind])
        expected = ["Loaded image: made:1", "Loaded image: localhost:5000/a/b:c"]
        assert loaded(engine, PACKED[kind](data)) == expected
        told = engine.get("/images/made:1/json").json
        assert told["Id"] == digest(configured(one, two))
        assert told["RootFS"]["Layers"] == [digest(one), digest(two)]
        for name, data in (("one", one), ("two", two)):
            assert os.listdir(engine.root / "images/layers" / digest(data)[7:] / "fs") == [name]

    def test_members_in_any_order_and_links(self, engine):
        one = layer("one")
        config = configured(one, one)
        listed = [{"Config": "c.json", "RepoTags": None, "Layers": ["a/l.tar", "b/l.tar"]}]
        data = archive(
            (entry("./manifest.json"), json.dumps(listed).encode()),
            entry("./a/l.tar", LINK, "../b/l.tar"),
            (entry("./b/l.tar"), gzip.compress(one)),
            (entry("./c.json"), config),
        )
        assert loaded(engine, data) == [f"Loaded image ID: {digest(config)}"]

    def test_an_oci_layout(self, engine, tmp_path):
        layout = OciLayout(tmp_path / "layout")
        parts = [layout.add_layer(layer(name), name) for name in ("gzip", "zstd", "")[:2]]
        image = layout.add_image([*parts, layout.add_layer(layer("plain"), "")])
        layout.tag(image, "localhost/nest:1")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(layout.path, ".")
        assert loaded(engine, packed.getvalue()) == ["Loaded image: localhost/nest:1"]
        told = engine.get("/images/localhost/nest:1/json").json
        assert told["Id"] == layout.image_id(image)
        saved = members(save(engine, "localhost/nest:1"))
        for one in [image, *(layout.manifest(image)["layers"])]:
            # Its own manifest, and the archives as they came.
            assert saved[f"blobs/sha256/{one['digest'][7:]}"] == layout.blob_of(one)

    def test_of_several_platforms(self, engine, tmp_path):
        layout = OciLayout(tmp_path / "layout")
        other = {"os": "linux", "architecture": "s390x"}
        own = {"os": "linux", "architecture": engine.get("/version").json["Arch"]}
        theirs = layout.add_image([layout.add_layer(layer("s390x"))], other)
        ours = layout.add_image([layout.add_layer(layer("own"))], own)
        layout.tag(layout.add_index((theirs, other), (ours, own)), "several:1")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            tar.add(layout.path, ".")
        data = packed.getvalue()
        assert loaded(engine, data) == ["Loaded image: several:1"]
        assert engine.get("/images/several:1/json").json["Architecture"] == own["architecture"]
        asked = quote(json.dumps(other))
        first, second = loaded(engine, data, f"platform={asked}")
        assert first.startswith("The image several:1 already exists, renaming the old one with ID ")
        assert second == "Loaded image: several:1"
        assert engine.get("/images/several:1/json").json["Architecture"] == "s390x"
        assert "it holds no image for linux/ppc64le" in refusal(
            engine, data, "platform=linux/ppc64le"
        )
        answer = engine.request("POST", "/images/load?platform=%7B", b"", TAR)
        assert (answer.status, "invalid platform" in answer.message) == (400, True)

    def test_progress_and_events(self, engine):
        since = engine.get("/info").json["SystemTime"]
        one = layer("one", os.urandom(3 << 20))
        lines = load(engine, docker_archive(one))
        short = digest(one)[7:19]
        progress = [line for line in lines if line.get("id") == short]
        assert {line["status"] for line in progress} == {"Loading layer"}
        size = len(one)
        assert progress[-1]["progressDetail"] == {"current": size, "total": size}
        assert lines[-1] == {"stream": "Loaded image: made:1\n"}
        assert load(engine, docker_archive(one), "quiet=1") == [lines[-1]]
        save(engine, "made:1")
        until = engine.get("/info").json["SystemTime"]
        told = engine.get(f"/events?since={quote(since)}&until={quote(until)}")
        events = [json.loads(line) for line in told.body.splitlines()]
        image_id = digest(configured(one))
        assert [(one["Action"], one["Actor"]["ID"]) for one in events] == [
            *[("load", image_id)] * 2,
            ("save", image_id),
        ]

    def test_layers_that_are_here_are_not_unpacked_again(self, engine):
        one, two = layer("one"), layer("two")
        loaded(engine, docker_archive(one))
        (directory,) = (engine.root / "images/layers").glob(digest(one)[7:])
        inode = directory.stat().st_ino
        loaded(engine, docker_archive(one, two, tags=("made:2",)))
        assert directory.stat().st_ino == inode

    def test_a_container_of_it(self, engine, busybox):
        image = engine.get(f"/images/{busybox}/json").json
        data = save(engine, busybox)
        engine.request("POST", f"/images/{busybox}/tag?repo=kept&tag=1")
        assert loaded(engine, data.replace(b"busybox:latest", b"busybix:latest"))
        assert engine.get("/images/busybix/json").json["Id"] == image["Id"]
        assert engine.result("echo", "hello", image="busybix") == (0, "hello\n", "")


ONE = layer("one")

HOSTILE = {
    "nothing": (b"", "the archive is empty"),
    "text": (b"hello\n" * 200, "this is not a tar archive"),
    "no manifest": (
        archive((entry("x"), b"x")),
        "invalid archive: does not contain a manifest.json, nor an index.json",
    ),
    "cut": (docker_archive(ONE)[:3000], "unexpected EOF"),
    "cut gzip": (gzip.compress(docker_archive(os.urandom(9999)))[:-4000], "unexpected EOF"),
    "out by name": (
        docker_archive(ONE, extra=[(entry("../../evil"), b"x")]),
        "../../evil: the name leads out",
    ),
    "out by link": (
        docker_archive(ONE, extra=[entry("l", LINK, "../../../etc")]),
        "l: symbolic link leads out",
    ),
    "out by a link to a layer": (
        docker_archive(ONE, extra=[entry("0/layer.tar", LINK, "/etc/passwd")]),
        "0/layer.tar is missing",
    ),
    "device": (
        docker_archive(ONE, extra=[entry("d", tarfile.BLKTYPE, devmajor=8, devminor=0)]),
        "d: no file, directory or link",
    ),
    "a layer that leads out": (
        docker_archive(archive((entry("../../evil"), b"x"))),
        "../../evil: the name leads out of the image ('..')",
    ),
    "another diff id": (
        docker_archive(ONE, config=configured(ONE, diff_ids=[digest(b"other")])),
        f'invalid diffID for layer 0: expected "{digest(b"other")}", got "{digest(ONE)}"',
    ),
    "fewer layers": (
        docker_archive(ONE, layer("two"), config=configured(ONE)),
        "invalid manifest, layers length mismatch: expected 2, got 1",
    ),
    "a damaged layer": (
        docker_archive(layer("big", os.urandom(9000)), pack=lambda d: gzip.compress(d)[:-3000]),
        "ends too early",
    ),
    "windows": (
        docker_archive(ONE, config=configured(ONE, os="windows")),
        "cannot load windows image on linux",
    ),
    "no tag": (docker_archive(ONE, tags=("made",)), 'invalid tag "made"'),
    "the built-in image's name": (
        docker_archive(ONE, tags=("host:latest",)),
        "the name host:latest is taken by the built-in image",
    ),
    "the second image is no good": (
        docker_archive(ONE, layer("two"), config=configured(ONE, diff_ids=[digest(ONE)] * 2)),
        "invalid diffID for layer",
    ),
    "a nested bomb": (
        docker_archive(gzip.compress(gzip.compress(bytes(99 << 20)))),
        "this is not a tar archive",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives(engine, case):
    data, words = HOSTILE[case]
    assert words in refusal(engine, data)


@pytest.mark.parametrize(
    ("megabytes", "words"),
    [
        (9, "manifest.json has 9437184 bytes, a document has 8388608 at most"),
        (100, "what it says of its images has more than 67108864 bytes"),
    ],
)
def test_a_manifest_of_many_megabytes(engine, megabytes, words):
    data = gzip.compress(archive((entry("manifest.json"), b" " * (megabytes << 20))), 1)
    assert words in refusal(engine, data)


def test_a_damaged_blob_of_a_layout(engine, tmp_path):
    layout = OciLayout(tmp_path / "layout")
    image = layout.add_image([layout.add_layer(layer("one"))])
    layout.tag(image, "nest:1")
    (blob,) = [one["digest"] for one in layout.manifest(image)["layers"]]
    path = layout.path / "blobs/sha256" / blob[7:]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(layout.path, ".")
    assert f"blobs/sha256/{blob[7:]} is damaged" in refusal(engine, packed.getvalue())


class TestSave:
    def test_what_it_looks_like(self, engine):
        one, two = layer("one"), layer("two")
        loaded(engine, docker_archive(one, tags=("made:1", "made:2")))
        loaded(engine, docker_archive(one, two, tags=("other:1",)))
        data = save(engine, "made", digest(configured(one, two))[7:19])
        assert data == save(engine, "made", digest(configured(one, two))[7:19])
        assert data.count(one) == 1
        files = members(data)
        listed = json.loads(files["manifest.json"])
        assert [item["RepoTags"] for item in listed] == [["made:1", "made:2"], None]
        assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
        names = [
            entry.get("annotations", {}).get("io.containerd.image.name")
            for entry in json.loads(files["index.json"])["manifests"]
        ]
        assert names == ["docker.io/library/made:1", "docker.io/library/made:2", None]
        for name, content in files.items():
            if name.startswith("blobs/"):
                assert name == f"blobs/sha256/{digest(content)[7:]}"
        answer = engine.get("/images/other:1/get")
        assert answer.headers["Content-Type"] == "application/x-tar"
        assert int(answer.headers["Mdocker-Archive-Size"]) == len(answer.body)

    def test_it_can_be_loaded(self, engine):
        one = layer("one")
        loaded(engine, docker_archive(one, pack=gzip.compress))
        data = save(engine, "made:1")
        engine.request("DELETE", "/images/made:1")
        assert engine.get("/images/made:1/json").status == 404
        assert loaded(engine, data) == ["Loaded image: made:1"]
        assert save(engine, "made:1") == data

    def test_refusals(self, engine):
        def refused(path):
            answer = engine.get(path)
            return answer.status, answer.message

        assert refused("/images/get?names=nobody") == (404, "No such image: nobody:latest")
        assert refused("/images/get")[0] == 400
        status, words = refused("/images/host/get")
        assert (status, "host:latest can't be saved" in words) == (501, True)
        loaded(engine, docker_archive(layer("one")))
        status, words = refused("/images/made:1/get?platform=linux%2Fs390x")
        assert (status, "does not provide the specified platform (linux/s390x)" in words) == (
            *(404, True),
        )
        assert refused("/images/get?names=made:1&names=nobody")[0] == 404

    def test_a_damaged_blob_breaks_the_answer_off(self, engine, tmp_path):
        data = os.urandom(3 << 20)
        loaded(engine, docker_archive(layer("big", data)))
        blob = engine.root / "images/blobs/sha256" / digest(layer("big", data))[7:]
        whole = blob.read_bytes()
        command = [*OURS, "save", "-o", str(tmp_path / "x.tar"), "made:1"]
        for damage, words in (
            (whole[:-9] + b"?" + whole[-8:], "closed the connection in the middle"),
            (whole[:-9], "closed the connection in the middle"),
            (whole + b"x", "closed the connection in the middle"),
            (None, "it is gone"),
        ):
            blob.unlink()
            if damage is not None:
                blob.write_bytes(damage)
            done = subprocess.run(
                command, capture_output=True, env=engine.environment, timeout=30, check=False
            )
            assert (done.returncode, words in done.stderr.decode()) == (1, True), done
            assert not list(tmp_path.glob("*x.tar*"))
        blob.write_bytes(whole)
        assert save(engine, "made:1")

    def test_what_is_sent_is_held(self, engine):
        one = layer("big", os.urandom(6 << 20))
        loaded(engine, docker_archive(one))
        with engine.stream("GET", "/images/made:1/get") as slow:
            assert engine.request("DELETE", "/images/made:1").status == 200
            data = slow.read()
        assert members(data)[f"blobs/sha256/{digest(one)[7:]}"] == one
        assert not (engine.root / "images/blobs/sha256" / digest(one)[7:]).exists()


class TestOthers:
    """What we save skopeo and docker read, and what they write we load."""

    @pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
    def test_skopeo(self, engine, busybox, tmp_path, form):
        ours, theirs = tmp_path / "ours.tar", tmp_path / "theirs.tar"
        ours.write_bytes(save(engine, busybox))
        name = "busybox:latest" if form == "docker-archive" else "latest"
        told = json.loads(skopeo("inspect", f"{form}:{ours}:{name}"))
        assert told["Layers"] == engine.get("/images/busybox/json").json["RootFS"]["Layers"]
        for back in ("docker-archive", "oci-archive"):
            theirs.unlink(missing_ok=True)
            skopeo("copy", "-q", f"{form}:{ours}:{name}", f"{back}:{theirs}:copied:{form}")
            assert loaded(engine, theirs.read_bytes()) == [f"Loaded image: copied:{form}"]
            assert engine.result("echo", "hello", image=f"copied:{form}") == (0, "hello\n", "")
            engine.delete(f"/images/copied:{form}?force=1")

    def test_the_docker_cli(self, engine, tmp_path):
        docker = shutil.which("docker")
        if docker is None:
            pytest.skip("needs the docker CLI (docker.io)")

        def run(*words, **options):
            environment = {**engine.environment, "DOCKER_CONFIG": str(tmp_path)}
            return subprocess.run(
                [docker, *words], env=environment, capture_output=True, timeout=30, check=False,
                **options,
            )  # fmt: skip

        path = tmp_path / "made.tar"
        path.write_bytes(docker_archive(layer("one"), tags=("made:1", "made:2")))
        done = run("load", "-i", str(path))
        assert (done.returncode, done.stdout) == (
            *(0, b"Loaded image: made:1\nLoaded image: made:2\n"),
        )
        assert run("save", "-o", str(tmp_path / "x.tar"), "made:1", "made:2").returncode == 0
        assert (tmp_path / "x.tar").read_bytes() == save(engine, "made:1", "made:2")
        assert run("save", "made").stdout == save(engine, "made")
        done = run("load", input=b"hello")
        assert done.returncode == 1
        assert b"this is not a tar archive" in done.stderr
        done = run("save", "nobody")
        assert (done.returncode, b"No such image: nobody" in done.stderr) == (1, True)

    def test_an_import_from_a_url(self, engine, busybox_tar, tmp_path):
        with file_server() as server:
            server.answers["/box.tar"] = (200, {}, busybox_tar.read_bytes())
            done = subprocess.run(
                [*OURS, "import", "-c", "CMD echo hello", f"{server.url}/box.tar", "fetched:1"],
                capture_output=True, env=engine.environment, timeout=30, check=True,
            )  # fmt: skip
            assert done.stdout.startswith(b"sha256:")
            assert engine.result(image="fetched:1") == (0, "hello\n", "")
            before = inventory(engine)
            cut = {"Content-Length": "99999999", "Connection": "close"}
            server.answers["/cut.tar"] = (200, cut, busybox_tar.read_bytes()[:500_000])
            source = quote(f"{server.url}/cut.tar", safe="")
            answer = engine.post(f"/images/create?fromSrc={source}&repo=cut")
            last = json.loads(answer.body.splitlines()[-1])
            assert last["error"].endswith("unexpected EOF")
            assert inventory(engine) == before
