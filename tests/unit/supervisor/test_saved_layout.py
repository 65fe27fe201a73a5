"""What `save` writes: a tar that is docker's and an OCI layout, read back by what `load` reads."""

import hashlib
import io
import json
import tarfile

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.images.model import Blob
from supervisor import saved_layout
from supervisor.saved_layout import Saved

TAR = "application/vnd.oci.image.layer.v1.tar"


def digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def blob(data, media_type=TAR):
    return Blob(digest(data), len(data), media_type)


def config(*layers):
    return json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
        }
    ).encode()


def written(images, contents):
    """The archive's bytes, blobs filled in."""
    by_digest = {digest(data): data for data in contents}
    out = bytearray()
    for part in saved_layout.parts(images):
        out += part.head
        if part.blob is not None:
            out += by_digest[part.blob.digest] + saved_layout.padding(part.blob.size)
    return bytes(out)


def unpacked(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {
            entry.name: tar.extractfile(entry).read() for entry in tar.getmembers() if entry.isreg()
        }


def test_one_image():
    layer = b"layer" * 300
    image = Saved(("busybox:latest", "localhost:5000/a/b:1"), config(layer), (blob(layer),))
    data = written([image], [layer])
    assert len(data) == saved_layout.size([image])
    files = unpacked(data)
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (listed,) = json.loads(files["manifest.json"])
    assert listed["RepoTags"] == ["busybox:latest", "localhost:5000/a/b:1"]
    assert files[listed["Config"]] == image.config
    assert [files[name] for name in listed["Layers"]] == [layer]
    first, second = json.loads(files["index.json"])["manifests"]
    assert first["annotations"] == {
        "io.containerd.image.name": "docker.io/library/busybox:latest",
        "org.opencontainers.image.ref.name": "latest",
    }
    assert second["annotations"]["io.containerd.image.name"] == "localhost:5000/a/b:1"
    manifest = json.loads(files[f"blobs/sha256/{first['digest'][7:]}"])
    assert manifest["config"]["digest"] == digest(image.config)
    assert manifest["layers"] == [{"mediaType": TAR, "digest": digest(layer), "size": len(layer)}]


def test_shared_layers_are_there_once():
    base, top = b"base" * 1000, b"top" * 10
    images = [
        Saved(("a:1",), config(base), (blob(base),)),
        Saved(("b:1",), config(base, top), (blob(base), blob(top))),
        Saved((), config(base, base), (blob(base), blob(base))),
    ]
    data = written(images, [base, top])
    assert data.count(base) == 1
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
    assert len(names) == len(set(names))
    listed = json.loads(unpacked(data)["manifest.json"])
    assert listed[2]["RepoTags"] is None
    assert "annotations" not in json.loads(unpacked(data)["index.json"])["manifests"][2]


def test_its_own_manifest_is_kept():
    layer = b"x"
    manifest = b'{"schemaVersion": 2, "mediaType": "application/vnd.docker.whatever"}'
    image = Saved(("a:1",), config(layer), (blob(layer),), manifest)
    files = unpacked(written([image], [layer]))
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert (entry["digest"], entry["size"]) == (digest(manifest), len(manifest))
    assert entry["mediaType"] == "application/vnd.docker.whatever"
    assert files[f"blobs/sha256/{entry['digest'][7:]}"] == manifest


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=2000), max_size=5))
def test_any_layers_are_found_again(layers):
    image = Saved(("a:1",), config(*layers), tuple(map(blob, layers)))
    data = written([image], layers)
    assert len(data) == saved_layout.size([image])
    files = unpacked(data)
    (listed,) = json.loads(files["manifest.json"])
    assert [files[name] for name in listed["Layers"]] == layers
    assert len(data) % 512 == 0


def test_a_layer_beyond_eight_gigabytes_has_its_size():
    big = Blob(f"sha256:{'0' * 64}", 9 << 30, TAR)
    heads = [part.head for part in saved_layout.parts([Saved((), b"{}", (big,))]) if part.blob]
    with tarfile.open(fileobj=io.BytesIO(heads[0] + bytes(1024))) as tar:
        assert tar.next().size == 9 << 30
