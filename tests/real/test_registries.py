"""Our client of registries and Debian's docker-registry; what engine and daemon do with it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from runtime.images import references
from runtime.images.blobs import digest_of
from supervisor.registries import manifests
from supervisor.registries.credentials import Credentials
from supervisor.registries.errors import (
    Denied,
    ManifestUnknown,
    PullDenied,
    RegistryFault,
    Unauthorized,
)
from tests.real.engine_process import CHECKOUT, EngineProcess
from tests.real.made_images import add_busybox
from tests.real.oci_layout import raw_manifest
from tests.real.registry_process import PASSWORD, USER
from tests.real.token_server import PUBLIC, REFRESH_TOKEN
from tests.unit.registries.fake_registry import client, read

BIRD = Credentials(USER, PASSWORD)
DATA = os.urandom(300_000)
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


async def pieces():
    for start in range(0, len(DATA), 70_000):
        yield DATA[start : start + 70_000]


def named(registry, path):
    return references.parse(f"{registry.address}/{path}")


def config_and_manifest():
    """A configuration, and a manifest of an image with `DATA` for its layer."""
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {}}).encode()
    told = {
        "schemaVersion": 2,
        "mediaType": manifests.OCI_MANIFEST,
        "config": {
            "mediaType": manifests.OCI_CONFIG,
            "digest": digest_of(config),
            "size": len(config),
        },
        "layers": [{"mediaType": manifests.OCI_LAYER, "digest": DIGEST, "size": len(DATA)}],
    }
    return config, json.dumps(told).encode()


async def once(data):
    yield data


@pytest.mark.anyio
@pytest.mark.parametrize("login", ["", "basic", "token"])
async def test_what_is_pushed_is_there_for_skopeo_and_for_us(login, request):
    fixture = {"": "registry", "basic": "registry_with_password", "token": "registry_with_tokens"}
    registry = request.getfixturevalue(fixture[login])
    config, data = config_and_manifest()
    path = f"ours/{os.urandom(4).hex()}"
    async with client() as ours:
        nest = ours.repository(named(registry, path), BIRD, push=True)
        assert not await nest.has_blob(DIGEST)
        assert await nest.upload_blob(pieces(), len(DATA), DIGEST) == (DIGEST, len(DATA))
        assert await nest.has_blob(DIGEST)
        assert await nest.upload_blob(once(config), None, None) == (
            digest_of(config),
            len(config),
        )
        for tag in ("1", "2", "3"):
            await nest.put_manifest(tag, manifests.OCI_MANIFEST, data)
        assert sorted(await nest.tags()) == ["1", "2", "3"]

        egg = ours.repository(named(registry, f"{path}/egg"), BIRD, push=True)
        assert not await egg.has_blob(DIGEST)
        assert await egg.mount_blob(DIGEST, path)
        assert await egg.has_blob(DIGEST)
        assert not await egg.mount_blob("sha256:" + "0" * 64, path)

        back = ours.repository(named(registry, path), BIRD)
        found = await back.manifest("2")
        assert (found.data, found.media_type) == (data, manifests.OCI_MANIFEST)
        assert await back.manifest(found.digest) == found
        image = manifests.parse_image(found)
        assert await read(back, image.layers[0].digest, image.layers[0].size) == DATA
        with pytest.raises(ManifestUnknown, match="manifest unknown: manifest unknown"):
            await back.manifest("4")
    assert raw_manifest(registry, f"{path}:2") == json.loads(data)


@pytest.mark.anyio
async def test_a_manifest_without_its_blobs_is_refused(registry):
    async with client() as ours:
        nest = ours.repository(named(registry, "ours/empty"), None, push=True)
        with pytest.raises(RegistryFault, match="blob unknown to registry"):
            await nest.put_manifest("1", manifests.OCI_MANIFEST, config_and_manifest()[1])


@pytest.mark.anyio
async def test_a_stranger_is_refused_in_dockers_words(registry_with_password, registry_with_tokens):
    async with client() as ours:
        for who in (None, Credentials(USER, "wrong")):
            nest = ours.repository(named(registry_with_password, "private/x"), who)
            with pytest.raises(Unauthorized, match=r"no basic auth|authentication required"):
                await nest.manifest("1")
        nest = ours.repository(named(registry_with_tokens, "private/x"), None)
        with pytest.raises(PullDenied, match=r"pull access denied for .*/private/x, repository"):
            await nest.manifest("1")
        nest = ours.repository(named(registry_with_tokens, f"{PUBLIC}x"), None)
        with pytest.raises(ManifestUnknown):
            await nest.manifest("1")
        nest = ours.repository(named(registry_with_tokens, f"{PUBLIC}x"), None, push=True)
        with pytest.raises(Denied, match="requested access to the resource is denied"):
            await nest.upload_blob(once(b"x"), None, None)
        who = Credentials(USER, "wrong")
        nest = ours.repository(named(registry_with_tokens, "private/x"), who)
        with pytest.raises(Unauthorized, match="unauthorized: incorrect username or password"):
            await nest.manifest("1")


@pytest.mark.anyio
async def test_tokens_are_asked_for_once_for_each_scope(registry_with_tokens):
    server = registry_with_tokens.tokens
    config, data = config_and_manifest()
    async with client() as ours:
        nest = ours.repository(named(registry_with_tokens, "ours/counted"), BIRD, push=True)
        before = len(server.asked)
        await nest.upload_blob(pieces(), len(DATA), DIGEST)
        await nest.upload_blob(once(config), None, None)
        await nest.put_manifest("1", manifests.OCI_MANIFEST, data)
        assert len(server.asked) - before == 1
        again = ours.repository(
            named(registry_with_tokens, "ours/counted"), Credentials(identity_token=REFRESH_TOKEN)
        )
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(again.manifest, "1")
        assert server.asked[before + 1][0] == "POST"
        assert len(server.asked) - before == 2


def auth(engine, registry, password=PASSWORD):
    body = {"username": USER, "password": password, "serveraddress": registry.address}
    return engine.post("/auth", body)


def test_the_engine_tries_logins(engine, registry_with_password, registry_with_tokens):
    done = auth(engine, registry_with_password)
    assert (done.status, done.json) == (200, {"IdentityToken": "", "Status": "Login Succeeded"})
    done = auth(engine, registry_with_tokens)
    assert (done.status, done.json["IdentityToken"]) == (200, REFRESH_TOKEN)
    for registry in (registry_with_password, registry_with_tokens):
        refused = auth(engine, registry, "wrong")
        assert refused.status == 401, refused
        assert "401 Unauthorized" in refused.message or "incorrect username" in refused.message


def test_the_engine_looks_up_what_a_name_means(engine, registry_with_password, layout):
    image = add_busybox(layout)
    name = layout.upload(image, registry_with_password, "looked/up:1")
    word = base64.urlsafe_b64encode(json.dumps({"username": USER, "password": PASSWORD}).encode())
    path = f"/distribution/{name}/json"
    found = engine.request("GET", path, headers={"X-Registry-Auth": word.decode()})
    assert found.status == 200, found
    assert found.json["Descriptor"]["digest"] == image["digest"]
    assert found.json["Platforms"] == [{"architecture": "amd64", "os": "linux"}]
    assert engine.get(path).status == 401


@pytest.mark.parametrize("program", ["docker", "mdocker"])
def test_login_and_logout(engine, registry_with_password, tmp_path, program):
    words = ["docker"] if program == "docker" else [sys.executable, "-m", "mdocker"]
    environment = {**engine.environment, "DOCKER_CONFIG": str(tmp_path)}

    def run(*more, typed=""):
        done = subprocess.run(
            [*words, *more],
            input=typed,
            env=environment,
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    address = registry_with_password.address
    code, said = run("login", "-u", USER, "--password-stdin", address, typed=f"{PASSWORD}\n")
    assert (code, "Login Succeeded" in said) == (0, True), said
    kept = json.loads((tmp_path / "config.json").read_text())
    assert base64.b64decode(kept["auths"][address]["auth"]).decode() == f"{USER}:{PASSWORD}"
    code, said = run("login", address)
    assert (code, "Authenticating with existing credentials" in said) == (0, True), said
    code, said = run("login", "-u", USER, "--password-stdin", address, typed="wrong")
    assert (code, "401 Unauthorized" in said) == (1, True), said
    assert run("logout", address) == (0, f"Removing login credentials for {address}\n")
    assert json.loads((tmp_path / "config.json").read_text()) == {"auths": {}}


def test_what_the_daemon_was_told_it_does_and_it_outlives_it(tmp_path, registry, layout):
    layout.upload(add_busybox(layout), registry, "library/mirrored:1")
    mirror = f"http://{registry.address}/"
    options = (
        *("--registry-mirror", mirror, "--max-concurrent-downloads", "7"),
        *("--insecure-registry", "10.0.0.0/8", "--insecure-registry", "nest.example:5000"),
    )
    engine = EngineProcess(tmp_path / "engine", respawn=True, options=options).start()
    try:
        told = engine.get("/info").json["RegistryConfig"]
        assert told["Mirrors"] == [mirror]
        assert "10.0.0.0/8" in told["InsecureRegistryCIDRs"]
        assert told["IndexConfigs"]["nest.example:5000"]["Secure"] is False
        engine.kill()
        assert engine.get("/info").json["RegistryConfig"] == told
        # The mirror stands in for Docker Hub.
        done = engine.post("/images/create?fromImage=mirrored&tag=1")
        assert b"Downloaded newer image for mirrored:1" in done.body, done
        assert engine.get("/images/mirrored:1/json").json["RepoTags"] == ["mirrored:1"]
        upgrade = [sys.executable, "-m", "mdocker", "daemon", "--upgrade"]
        assert not subprocess.run(upgrade, cwd=CHECKOUT, env=engine.environment).returncode
        assert engine.get("/info").json["RegistryConfig"] == told
        words = Path(f"/proc/{engine.supervisor_pid}/cmdline").read_bytes()
        assert b"--max-concurrent-downloads\x007\0" in words
    finally:
        engine.close()


def test_what_the_daemon_can_not_have_meant(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mdocker", "daemon", "--check"),
            *("--root", str(tmp_path / "root"), "--run-dir", str(tmp_path / "run")),
            *("--registry-mirror", "mirror.example"),
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert 'invalid mirror: unsupported scheme ""' in done.stderr
