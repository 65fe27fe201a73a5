"""Images made in the test, as an OCI image layout, and skopeo to bring them to a registry.

Written from the OCI image specification (`image-layout.md`, `manifest.md`, `config.md`) and
independent of the engine's own reading of it. Nothing here needs a network.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"

AMD64 = {"os": "linux", "architecture": "amd64"}


class OciLayout:
    """A directory of blobs with an `index.json`.

    Each `add_…` stores a blob and returns its descriptor, {"mediaType", "digest", "size"}.
    """

    def __init__(self, path):
        self.path = Path(path)
        (self.path / "blobs/sha256").mkdir(parents=True)
        (self.path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self._tagged = []
        self._write_index()

    def add_blob(self, data, media_type):
        digits = hashlib.sha256(data).hexdigest()
        (self.path / "blobs/sha256" / digits).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digits}", "size": len(data)}

    def add_layer(self, tar, compression="gzip"):
        """A layer of a plain tar; `compression` is gzip, zstd or "". Its diff_id comes along."""
        packed, suffix = tar, ""
        if compression == "gzip":
            packed, suffix = gzip.compress(tar, 1, mtime=0), "+gzip"
        elif compression == "zstd":
            import zstandard

            packed, suffix = zstandard.ZstdCompressor(3).compress(tar), "+zstd"
        descriptor = self.add_blob(packed, LAYER + suffix)
        return descriptor, f"sha256:{hashlib.sha256(tar).hexdigest()}"

    def add_image(self, layers, platform=AMD64, history=None, **config):
        """An image of what `add_layer` returned; `config` is its container configuration."""
        told = {
            **platform,
            "created": "2026-01-02T03:04:05Z",
            "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], **config},
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
            "history": history
            or [
                {"created": "2026-01-02T03:04:05Z", "created_by": f"layer {number}"}
                for number, _ in enumerate(layers)
            ],
        }
        return self.add_manifest(
            self.add_blob(_json(told), CONFIG), [descriptor for descriptor, _ in layers]
        )

    def add_manifest(self, config, layers, **more):
        """A manifest of descriptors as they are: also of what is no image."""
        told = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        return self.add_blob(_json(told | more), MANIFEST)

    def add_index(self, *images):
        """An image index of `(image, platform)`."""
        listed = [{**image, "platform": platform} for image, platform in images]
        told = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}
        return self.add_blob(_json(told), INDEX)

    def tag(self, descriptor, name):
        """Call an image or index of this layout by a name of its own."""
        annotations = {"org.opencontainers.image.ref.name": name}
        self._tagged.append({**descriptor, "annotations": annotations})
        self._write_index()

    def _write_index(self):
        told = {"schemaVersion": 2, "mediaType": INDEX, "manifests": self._tagged}
        (self.path / "index.json").write_bytes(_json(told))

    def blob(self, digest):
        return (self.path / "blobs/sha256" / digest.partition(":")[2]).read_bytes()

    def blob_of(self, descriptor):
        return self.blob(descriptor["digest"])

    def manifest(self, descriptor):
        return json.loads(self.blob_of(descriptor))

    def image_id(self, descriptor):
        """The digest of an image's configuration."""
        return self.manifest(descriptor)["config"]["digest"]

    def upload(self, descriptor, registry, name):
        """Bring an image or index to a registry as it is, as `name` ("repository:tag").

        By plain requests: quicker than skopeo, which also compresses what is not.
        """
        repository, _, tag = name.rpartition(":")
        self._upload_parts(descriptor, registry, repository)
        registry.put_manifest(repository, tag, descriptor["mediaType"], self.blob_of(descriptor))
        return f"{registry.address}/{name}"

    def _upload_parts(self, descriptor, registry, repository):
        told = self.manifest(descriptor)
        for one in told.get("manifests", []):
            self._upload_parts(one, registry, repository)
            registry.put_manifest(repository, one["digest"], one["mediaType"], self.blob_of(one))
        for one in [told["config"], *told["layers"]] if "layers" in told else []:
            registry.put_blob(repository, self.blob_of(one), one["digest"])

    def push(self, tag, registry, repository):
        """Bring what is called `tag`, with all its platforms, to a registry by skopeo."""
        return push(f"oci:{self.path}:{tag}", registry, f"{repository}:{tag}")


def skopeo(*words):
    """Run skopeo; returns what it says on stdout."""
    if not shutil.which("skopeo"):
        pytest.skip("needs skopeo (apt-get install skopeo)")
    done = subprocess.run(
        ["skopeo", "--insecure-policy", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def push(source, registry, name):
    """Copy an image as skopeo names it (`oci:DIR:TAG`, `docker-archive:FILE`) to a registry.

    Returns:
        Its name with the registry's address.
    """
    login = ["--dest-creds", registry.credentials] if registry.credentials else []
    target = f"{registry.address}/{name}"
    skopeo("copy", "--all", "-q", "--dest-tls-verify=false", *login, source, f"docker://{target}")
    return target


def raw_manifest(registry, name):
    """What skopeo finds at a registry under a name."""
    login = ["--creds", registry.credentials] if registry.credentials else []
    return json.loads(
        skopeo(
            "inspect", "--raw", "--tls-verify=false", *login, f"docker://{registry.address}/{name}"
        )
    )


def _json(value):
    return json.dumps(value).encode()
