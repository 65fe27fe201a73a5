"""Logins, what there is under a name, and searches; how `info` tells of registries."""

import base64
import contextlib
import json

import anyio
import pytest

from supervisor.registries import manifests
from supervisor.registries.configuration import RegistryOptions
from tests.unit.registries.fake_registry import Told, digest, refused
from tests.unit.registries.fake_registry import serving as registry_serving
from tests.unit.registries.manifest_texts import CONFIG, IMAGE, INDEX, entry, text

pytestmark = pytest.mark.anyio

BASIC = f"Basic {base64.b64encode(b'bird:nest').decode()}"
MACHINE = text({"os": "linux", "architecture": "arm64", "variant": "v8", "config": {}})
ONE = text(IMAGE | {"config": CONFIG | {"digest": digest(MACHINE), "size": len(MACHINE)}})
SEVERAL = text(INDEX | {"manifests": [entry(1, "linux", "amd64"), entry(2)]})


def answer(asked):
    """A registry that knows bird alone."""
    if asked.headers.get("authorization") != BASIC:
        return Told(401, {"WWW-Authenticate": 'Basic realm="x"'})
    if asked.path == "/v2/":
        return Told()
    if asked.path.endswith("/manifests/one"):
        return Told(headers={"Content-Type": manifests.OCI_MANIFEST}, body=ONE)
    if asked.path.endswith(f"/manifests/{digest(SEVERAL)}"):
        return Told(headers={"Content-Type": manifests.OCI_INDEX}, body=SEVERAL)
    if asked.path.endswith(f"/blobs/{digest(MACHINE)}"):
        return Told(body=MACHINE)
    return refused(404, "MANIFEST_UNKNOWN", "manifest unknown")


@contextlib.asynccontextmanager
async def talking(engine_and_client):
    """A client of an engine, and the address of a registry."""
    async with (
        registry_serving(answer) as registry,
        engine_and_client() as (engine, connect),
        connect() as client,
    ):
        try:
            yield client, registry
        finally:
            await engine.registries.aclose()


def header(**fields):
    word = base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()
    return [("X-Registry-Auth", word)]


BIRD = {"username": "bird", "password": "nest"}


async def test_a_login(engine_and_client):
    async with talking(engine_and_client) as (client, registry):
        asked = BIRD | {"serveraddress": registry.address}
        done = await client.request("POST", "/auth", asked)
        assert (done.status, done.json) == (200, {"IdentityToken": "", "Status": "Login Succeeded"})
        wrong = await client.request("POST", "/auth", asked | {"password": "x"})
        assert (wrong.status, wrong.message) == (
            401,
            f"login attempt to http://{registry.address}/v2/ failed with status: 401 Unauthorized",
        )
        nobody = await client.request("POST", "/auth", {"serveraddress": registry.address})
        assert nobody.status == 401
        assert "no basic auth credentials" in nobody.message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"serveraddress": "no such host"}, "unable to parse server address: 'no such host'"),
        ({"serveraddress": "http://a:b@nest"}, "it has a user's name in it"),
        ({"serveraddress": "nest:x"}, "unable to parse server address"),
        ({"username": 7}, "its username is no text"),
    ],
)
async def test_a_login_that_makes_no_sense(engine_and_client, body, words):
    async with engine_and_client() as (_, connect), connect() as client:
        answer = await client.request("POST", "/auth", body)
        assert answer.status == 400
        assert words in answer.message


async def test_what_there_is_under_a_name(engine_and_client):
    async with talking(engine_and_client) as (client, registry):
        name = f"/distribution/{registry.address}/bird/nest"
        one = await client.request("GET", f"{name}:one/json", headers=header(**BIRD))
        assert (one.status, one.json) == (
            200,
            {
                "Descriptor": {
                    "mediaType": manifests.OCI_MANIFEST,
                    "digest": digest(ONE),
                    "size": len(ONE),
                },
                "Platforms": [{"architecture": "arm64", "os": "linux", "variant": "v8"}],
            },
        )
        several = await client.request(
            "GET", f"{name}@{digest(SEVERAL)}/json", headers=header(**BIRD)
        )
        assert several.json["Descriptor"]["mediaType"] == manifests.OCI_INDEX
        assert several.json["Platforms"] == [{"architecture": "amd64", "os": "linux"}]
        missing = await client.request("GET", f"{name}/json", headers=header(**BIRD))
        assert missing.status == 404
        assert missing.message.startswith(f"manifest for {registry.address}/bird/nest:latest not ")
        nobody = await client.request("GET", f"{name}:one/json")
        assert nobody.status == 401


async def test_a_client_that_hangs_up_ends_what_it_has_asked(engine_and_client):
    asked, ended = anyio.Event(), anyio.Event()

    def silent(request):
        asked.set()
        return Told(body=ONE, stall=1)

    async with registry_serving(silent) as registry, engine_and_client() as (engine, connect):
        connections = engine.registries._connections

        def over(_):
            connections._watching = False
            ended.set()

        connections._begin = over
        async with connect() as client:
            await client.begin("GET", f"/distribution/{registry.address}/nest/json")
            await asked.wait()
            ended = anyio.Event()
        await ended.wait()
        assert not connections._busy
        await engine.registries.aclose()


async def test_names_and_credentials_that_are_none(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        upper = await client.request("GET", "/distribution/NEST/json")
        assert (upper.status, "must be lowercase" in upper.message) == (400, True)
        odd = await client.request(
            "GET", "/distribution/x/json", headers=[("X-Registry-Auth", "!")]
        )
        assert (odd.status, "invalid X-Registry-Auth" in odd.message) == (400, True)


async def test_searches_are_refused_with_what_to_do(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        answer = await client.request("GET", "/images/search?term=bird")
        assert answer.status == 501
        assert "https://hub.docker.com" in answer.message


async def test_info_tells_of_registries_and_proxies(engine_and_client, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://bird:secret@proxy:3128")
    monkeypatch.setenv("NO_PROXY", "nest")
    async with engine_and_client() as (engine, connect), connect() as client:
        engine.settings.registries = RegistryOptions(("https://m/",), ("nest:5000", "10.0.0.0/8"))
        told = (await client.request("GET", "/info")).json
        assert told["IndexServerAddress"] == "https://index.docker.io/v1/"
        assert told["RegistryConfig"] == {
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8", "10.0.0.0/8"],
            "IndexConfigs": {
                "docker.io": {
                    "Name": "docker.io",
                    "Mirrors": ["https://m/"],
                    "Secure": True,
                    "Official": True,
                },
                "nest:5000": {
                    "Name": "nest:5000",
                    "Mirrors": [],
                    "Secure": False,
                    "Official": False,
                },
            },
            "Mirrors": ["https://m/"],
        }
        assert told["HttpsProxy"] == "http://xxxxx:xxxxx@proxy:3128"
        assert told["NoProxy"] == "nest"
