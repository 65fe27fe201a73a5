"""What archives of images say is to be loaded: docker's, OCI's, and what contradicts itself."""

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.images import archive_members
from runtime.images.archive_members import Member, Members
from runtime.images.errors import ImportRefused
from supervisor.errors import EngineError
from supervisor.loadable import loadables
from supervisor.registries import platforms
from supervisor.registries.manifests import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
)

HERE = platforms.here()
FULL, REF = "io.containerd.image.name", "org.opencontainers.image.ref.name"
OTHER = {"os": "linux", "architecture": "s390x"}


def digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Archive:
    """Files in memory, and the way to write the formats."""

    def __init__(self, **files):
        self.files = {}
        self.links = {}
        for name, data in files.items():
            self.files[name] = data

    def put(self, name, value):
        self.files[name] = value if isinstance(value, bytes) else json.dumps(value).encode()
        return name

    def blob(self, value, media_type):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.put(f"blobs/sha256/{digest(data)[7:]}", data)
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def oci(self, *layers, manifest_type=OCI_MANIFEST, config_type=OCI_CONFIG, **platform):
        """An image's descriptor."""
        config = self.blob(configured(*layers, **platform), config_type)
        blobs = [self.blob(layer, OCI_LAYER) for layer in layers]
        told = {"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": blobs}
        return self.blob(told, manifest_type)

    def index(self, *entries):
        self.put("oci-layout", {"imageLayoutVersion": "1.0.0"})
        self.put("index.json", {"schemaVersion": 2, "manifests": list(entries)})
        return self

    def nested(self, *entries):
        told = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)}
        return self.blob(told, OCI_INDEX)

    def remove(self, descriptor):
        del self.files[f"blobs/sha256/{descriptor['digest'][7:]}"]

    def find(self, name):
        numbered = {
            name: Member(number, len(data), digest(data))
            for number, (name, data) in enumerate(self.files.items())
        }
        return Members(numbered, self.links).find(name)

    def read(self, name, member):
        if member.size > archive_members.LARGEST_DOCUMENT:
            raise ImportRefused("too large")
        return list(self.files.values())[member.number]

    def load(self, platform=""):
        return loadables(self, platforms.parse(platform) if platform else None)

    def refusal(self, platform=""):
        with pytest.raises((ImportRefused, EngineError)) as refused:
            self.load(platform)
        assert refused.value.status == 400
        assert "\n" not in str(refused.value)
        return str(refused.value)


def configured(*layers, **platform):
    return {
        "os": "linux",
        "architecture": HERE.architecture,
        **platform,
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
    }


def named(descriptor, name, key=FULL, **more):
    return {**descriptor, "annotations": {key: name}, **more}


def docker_archive(*layers, tags=("busybox:latest",), **more):
    """As `docker save` before version 25 writes it."""
    archive = Archive()
    config = archive.put("c0ffee.json", configured(*layers, **more))
    names = [archive.put(f"{number}/layer.tar", layer) for number, layer in enumerate(layers)]
    listed = {"Config": config, "RepoTags": list(tags) or None, "Layers": names}
    archive.put("manifest.json", [listed])
    return archive


# --- docker's format ---


def test_docker_archive():
    (found,) = docker_archive(b"one", b"two").load()
    assert found.tags == ("busybox:latest",)
    assert [file.diff_id for file in found.layers] == [digest(b"one"), digest(b"two")]
    assert [file.number for file in found.layers] == [0, 1]
    assert [file.listed for file in found.layers] == ["", ""]
    assert json.loads(found.config)["os"] == "linux"
    assert found.manifest == b""


def test_layers_by_links():
    archive = docker_archive(b"one", b"one")
    del archive.files["1/layer.tar"]
    archive.links["1/layer.tar"] = "../0/layer.tar"
    (found,) = archive.load()
    assert found.layers[0].member == found.layers[1].member


def test_names_are_docker_s_short_ones():
    tags = ("docker.io/library/busybox:1", "localhost:5000/a/b:c", "busybox:1")
    (found,) = docker_archive(b"one", tags=tags).load()
    assert found.tags == ("busybox:1", "localhost:5000/a/b:c")


def test_an_image_without_names():
    (found,) = docker_archive(b"one", tags=()).load()
    assert found.tags == ()


DOCKER_REFUSED = {
    "no manifest": (lambda a: a.files.pop("manifest.json"), "does not contain a manifest.json"),
    "null": (lambda a: a.put("manifest.json", b" null\n"), "cannot be null (but can be []"),
    "none": (lambda a: a.put("manifest.json", []), "it holds no image"),
    "no JSON": (lambda a: a.put("manifest.json", b"[{"), "failed to decode manifest.json"),
    "no text": (lambda a: a.put("manifest.json", b'["\xff"]'), "failed to decode manifest.json"),
    "deep": (lambda a: a.put("manifest.json", b"[" * 10**5), "failed to decode manifest.json"),
    "an object": (lambda a: a.put("manifest.json", {}), "failed to decode manifest.json"),
    "no config": (lambda a: a.put("manifest.json", [{}]), "failed to decode manifest.json"),
    "missing config": (lambda a: a.files.pop("c0ffee.json"), "c0ffee.json is missing"),
    "missing layer": (lambda a: a.files.pop("1/layer.tar"), "1/layer.tar is missing"),
    "other diff ids": (
        lambda a: a.put("c0ffee.json", configured(b"one")),
        "invalid manifest, layers length mismatch: expected 2, got 1",
    ),
    "odd diff id": (
        lambda a: a.put("c0ffee.json", {"rootfs": {"diff_ids": ["sha256:../../x", "y"]}}),
        "sha256:../../x is no sha256 digest",
    ),
    "no rootfs": (lambda a: a.put("c0ffee.json", {}), "failed to decode c0ffee.json"),
    "windows": (
        lambda a: a.put("c0ffee.json", configured(b"one", b"two", os="windows")),
        "cannot load windows image on linux",
    ),
    "a link out": (
        lambda a: a.put("manifest.json", [{"Config": "../../etc/passwd"}]),
        "../../etc/passwd: the name leads out",
    ),
    "an absolute name": (
        lambda a: a.put("manifest.json", [{"Config": "/etc/passwd"}]),
        "/etc/passwd: absolute names",
    ),
}


@pytest.mark.parametrize("case", DOCKER_REFUSED)
def test_docker_archives_that_are_refused(case):
    change, words = DOCKER_REFUSED[case]
    archive = docker_archive(b"one", b"two")
    change(archive)
    assert words in archive.refusal()


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("busybox", 'invalid tag "busybox"'),
        (f"busybox@{digest(b'')}", 'invalid tag "busybox@sha256:'),
        ("Busy:1", "must be lowercase"),
        ("-", "invalid reference format"),
    ],
)
def test_tags_that_are_none(tag, words):
    assert words in docker_archive(b"one", tags=(tag,)).refusal()


def test_a_platform_that_was_asked_for():
    archive = docker_archive(b"one", **OTHER)
    assert len(archive.load()) == 1
    assert len(archive.load("linux/s390x")) == 1
    assert archive.refusal("linux/ppc64le") == (
        "invalid archive: it holds no image for linux/ppc64le"
    )


# --- OCI's ---


def test_layout():
    archive = Archive()
    image = archive.oci(b"one", b"two")
    (found,) = archive.index(named(image, "docker.io/library/busybox:1")).load()
    assert found.tags == ("busybox:1",)
    assert [file.listed for file in found.layers] == [digest(b"one"), digest(b"two")]
    assert digest(found.manifest) == image["digest"]


def test_an_image_with_several_names_is_one():
    archive = Archive()
    image = archive.oci(b"one")
    entries = [named(image, "docker.io/library/a:1"), named(image, "docker.io/library/b:2"), image]
    (found,) = archive.index(*entries).load()
    assert found.tags == ("a:1", "b:2")


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("docker.io/library/busybox:1", ("busybox:1",)),
        ("localhost/x", ("localhost/x:latest",)),
        ("busybox:1", ("busybox:1",)),
        ("latest", ()),
        ("1.0+build", ()),
        ("A/B:1 2", ()),
        (f"busybox@{digest(b'')}", ()),
    ],
)
def test_reference_names(name, tags):
    archive = Archive()
    (found,) = archive.index(named(archive.oci(b"one"), name, REF)).load()
    assert found.tags == tags


def test_the_layout_counts_where_there_are_both():
    archive = docker_archive(b"old", tags=("old:1",))
    archive.index(named(archive.oci(b"new"), "docker.io/library/new:1"))
    assert [found.tags for found in archive.load()] == [("new:1",)]
    del archive.files["oci-layout"]
    assert [found.tags for found in archive.load()] == [("old:1",)]
    del archive.files["manifest.json"]
    assert [found.tags for found in archive.load()] == [("new:1",)]


def several(archive):
    own = archive.oci(b"own")
    other = archive.oci(b"other", **OTHER)
    about = archive.oci(b"note")
    return (
        {**other, "platform": OTHER},
        {**own, "platform": {"os": "linux", "architecture": HERE.architecture}},
        {**about, "platform": {"os": "unknown", "architecture": "unknown"}},
    )


def layers_of(found):
    return [file.listed for file in found.layers]


@pytest.mark.parametrize("form", ["nested", "deeper", "at the top"])
def test_of_several_platforms_this_machine_s_is_taken(form):
    archive = Archive()
    entries = several(archive)
    if form == "at the top":
        archive.index(*(named(entry, "docker.io/library/x:1") for entry in entries))
    else:
        top = archive.nested(*entries)
        if form == "deeper":
            top = archive.nested(archive.nested(top))
        archive.index(named(top, "docker.io/library/x:1"))
    (found,) = archive.load()
    assert (found.tags, layers_of(found)) == (("x:1",), [digest(b"own")])
    (found,) = archive.load("linux/s390x")
    assert (found.tags, layers_of(found)) == (("x:1",), [digest(b"other")])
    assert "no image for linux/ppc64le" in archive.refusal("linux/ppc64le")


def test_an_index_of_other_machines():
    archive = Archive()
    top = archive.nested(
        {**archive.oci(b"a", **OTHER), "platform": OTHER},
        archive.oci(b"b", os="linux", architecture="mips"),
    )
    archive.index(top)
    assert "no matching manifest for linux/" in archive.refusal()


def test_one_image_of_another_machine_is_loaded():
    archive = Archive()
    (found,) = archive.index(archive.oci(b"other", **OTHER)).load()
    assert layers_of(found) == [digest(b"other")]


def test_platforms_that_are_not_here_are_left_out():
    archive = Archive()
    other, own, note = several(archive)
    top = archive.nested(other, own, note)
    archive.remove(other)
    (found,) = archive.index(top).load()
    assert layers_of(found) == [digest(b"own")]


def test_docker_s_media_types():
    archive = Archive()
    image = archive.oci(b"one", manifest_type=DOCKER_MANIFEST, config_type=DOCKER_CONFIG)
    (found,) = archive.index(image).load()
    assert layers_of(found) == [digest(b"one")]


def damaged(archive, descriptor, data):
    archive.put(f"blobs/sha256/{descriptor['digest'][7:]}", data)
    return archive.refusal()


def test_blobs_that_are_damaged():
    for part in ("manifest", "config", "layer"):
        archive = Archive()
        image = archive.oci(b"one")
        manifest = json.loads(archive.files[f"blobs/sha256/{image['digest'][7:]}"])
        archive.index(image)
        descriptor = {
            "manifest": image,
            "config": manifest["config"],
            "layer": manifest["layers"][0],
        }[part]
        whole = archive.files[f"blobs/sha256/{descriptor['digest'][7:]}"]
        assert "is damaged: its digest is" in damaged(archive, descriptor, bytes(len(whole)))
        assert "is damaged: its digest is" in damaged(archive, descriptor, whole[:-1])
        archive.remove(descriptor)
        assert "is missing" in archive.refusal()


def test_sizes_that_are_wrong():
    archive = Archive()
    archive.index({**archive.oci(b"one"), "size": 5})
    assert "should have 5 bytes, it has" in archive.refusal()


def test_digests_that_are_none():
    archive = Archive()
    archive.put("blobs/sha256/../../etc/passwd", b"{}")
    archive.index({**archive.oci(b"one"), "digest": "sha256:../../etc/passwd"})
    archive.refusal()
    archive.index({**archive.oci(b"one"), "digest": f"sha512:{'0' * 128}"})
    archive.refusal()


def test_indexes_without_end():
    archive = Archive()
    top = archive.oci(b"one")
    for _ in range(6):
        top = archive.nested(top)
    archive.index(top)
    assert "indexes without end" in archive.refusal()


def test_an_index_of_indexes_grows_no_further():
    archive = Archive()
    top = archive.oci(b"one")
    for _ in range(3):
        top = archive.nested(*[top] * 40)
    archive.index(top)
    assert "indexes without end" in archive.refusal()


def test_something_else_than_an_image():
    archive = Archive()
    archive.index(archive.oci(b"one", config_type="application/vnd.cncf.helm.config.v1+json"))
    assert "unsupported media type" in archive.refusal()


def test_windows_in_a_layout():
    archive = Archive()
    archive.index(archive.oci(b"one", os="windows"))
    assert archive.refusal() == "cannot load windows image on linux"


# --- whatever comes ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["Config", "Layers", "RepoTags", "manifests", "digest", "size", "mediaType", "x"]
            )
            | st.text(max_size=4),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(value=JSON, name=st.sampled_from(["manifest.json", "index.json", "c0ffee.json"]))
def test_any_document_is_refused_or_read(value, name):
    archive = docker_archive(b"one")
    if name == "index.json":
        archive.put("oci-layout", {"imageLayoutVersion": "1.0.0"})
    archive.put(name, value)
    try:
        archive.load()
    except (ImportRefused, EngineError) as refusal:
        assert refusal.status == 400


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_blob_is_refused_or_read(data):
    archive = Archive()
    image = archive.oci(b"one")
    manifest = json.loads(archive.files[f"blobs/sha256/{image['digest'][7:]}"])
    key = data.draw(st.sampled_from([*manifest, *manifest["config"]]))
    part = manifest if key in manifest else manifest["config"]
    part[key] = data.draw(JSON)
    archive.index(archive.blob(manifest, OCI_MANIFEST))
    try:
        archive.load()
    except (ImportRefused, EngineError) as refusal:
        assert refusal.status == 400


def test_a_small_archive_does_not_become_much_to_remember():
    """Found: one configuration of 8 MiB, listed again and again, was kept as often."""
    config = configured(comment="x" * (1 << 20))
    archive = Archive()
    archive.put("config", config)
    archive.put("manifest.json", [{"Config": "config"}] * 65)
    with pytest.raises(ImportRefused, match="more than 67108864 bytes: save them a few at a time"):
        loadables(archive)
    archive.put("manifest.json", [{"Config": "config"}] * 63)
    assert len(loadables(archive)) == 63
    archive.put("manifest.json", [{"Config": "config"}] * 10_001)
    with pytest.raises(ImportRefused, match="lists 10001 images"):
        loadables(archive)
