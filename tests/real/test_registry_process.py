"""The registries of the tests are what they say, and the images there what was made."""

from __future__ import annotations

import http.client
import json

import pytest

from tests.real.made_images import add_busybox, add_many_files
from tests.real.oci_layout import AMD64, INDEX, MANIFEST, push, raw_manifest
from tests.real.registry_process import RegistryProcess


def test_what_is_pushed_is_there(registry, layout):
    image = add_busybox(layout, compressions=("gzip", "zstd", ""))
    layout.upload(image, registry, "kept/busybox:latest")
    assert raw_manifest(registry, "kept/busybox:latest") == layout.manifest(image)
    assert registry.blob_file(layout.image_id(image)).read_bytes() == layout.blob(
        layout.image_id(image)
    )


def test_an_index_has_images_for_several_platforms(registry, layout):
    arm = {"os": "linux", "architecture": "arm64", "variant": "v8"}
    images = [
        (layout.add_image([layout.add_layer(b"")], platform), platform) for platform in (AMD64, arm)
    ]
    layout.tag(layout.add_index(*images), "both")
    layout.push("both", registry, "kept/platforms")
    found = raw_manifest(registry, "kept/platforms:both")
    assert found["mediaType"] == INDEX
    assert [one["platform"] for one in found["manifests"]] == [AMD64, arm]


def test_an_image_of_thousands_of_files_is_there(registry, layout):
    add_many_files(layout)
    layout.push("many", registry, "kept/many")
    assert raw_manifest(registry, "kept/many:many")["mediaType"] == MANIFEST


@pytest.mark.parametrize("login", ["basic", "token"])
def test_a_login_is_asked_for(login, request, layout):
    name = {"basic": "registry_with_password", "token": "registry_with_tokens"}[login]
    registry = request.getfixturevalue(name)
    connection = http.client.HTTPConnection(registry.address)
    connection.request("GET", "/v2/")
    refused = connection.getresponse()
    connection.close()
    challenge = refused.headers["WWW-Authenticate"]
    assert refused.status == 401
    assert challenge.startswith({"basic": "Basic ", "token": "Bearer "}[login]), challenge
    image = add_busybox(layout)
    layout.push("latest", registry, "private/busybox")
    assert raw_manifest(registry, "private/busybox:latest") == layout.manifest(image)
    layout.upload(image, registry, "private/busybox:again")
    told = registry.request("GET", "/v2/private/busybox/tags/list")
    assert sorted(json.loads(told.body)["tags"]) == ["again", "latest"]


def test_a_mirror_has_what_the_other_has(registry, layout, tmp_path):
    image = add_busybox(layout)
    layout.push("latest", registry, "kept/mirrored")
    mirror = RegistryProcess(tmp_path / "mirror", mirror_of=registry.address).start()
    try:
        assert raw_manifest(mirror, "kept/mirrored:latest") == layout.manifest(image)
    finally:
        mirror.close()


def test_one_that_comes_back_has_its_address_and_its_images(layout, tmp_path):
    process = RegistryProcess(tmp_path / "registry").start()
    try:
        image = add_busybox(layout)
        name = push(f"oci:{layout.path}:latest", process, "kept/busybox:latest")
        process.stop()
        process.start()
        assert name.startswith(process.address)
        assert raw_manifest(process, "kept/busybox:latest") == layout.manifest(image)
        assert ("GET", "/v2/kept/busybox/manifests/latest", 200) in process.requests()
    finally:
        process.close()
