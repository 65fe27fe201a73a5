"""The way to a registry: https and whose certificate, http where that is allowed, proxies."""

import contextlib
import shutil
import ssl
import subprocess

import anyio
import pytest

from runtime.images import references
from supervisor.registries import connections, endpoints
from supervisor.registries.certificates import BadCertificates
from supervisor.registries.configuration import RegistryOptions
from supervisor.registries.credentials import Credentials
from supervisor.registries.endpoints import Endpoint
from supervisor.registries.errors import RegistryError, RegistryFault
from supervisor.registries.exchange import Exchange, Question
from supervisor.registries.failures import BadCertificate
from tests.unit.registries.fake_registry import Told, client, serving
from tests.unit.registries.manifest_texts import IMAGE, text

pytestmark = pytest.mark.anyio

MANIFEST = Told(headers={"Content-Type": "application/json"}, body=text(IMAGE))


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl (apt-get install openssl)")
    place = tmp_path_factory.mktemp("keys")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", place / "key.pem", "-out", place / "cert.pem", "-days", "2"),
        ],
        check=True,
        capture_output=True,
    )
    return place


def tls(keys, *, asks=False):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "cert.pem", keys / "key.pem")
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(keys / "cert.pem")
    return context


async def ask(registries, *ways, credentials=None):
    """Ask for a path by these ways alone, as if the host were somebody else's."""
    site = endpoints.Site("nest", tuple(ways))
    exchange = Exchange(site, registries._connections, registries._ways, credentials)
    async with exchange.ask(Question("GET", "/v2/x", ())) as answer:
        return answer.status, answer.url


async def test_on_loopback_https_is_tried_before_http_and_the_way_is_remembered():
    async with serving(lambda asked: MANIFEST) as fake, client() as registries:
        for _ in range(2):
            nest = registries.repository(references.parse(f"{fake.address}/nest"), None)
            await nest.manifest("1")
        assert len(fake.asked) == 2
        assert registries._ways._known[fake.address] == Endpoint(f"http://{fake.address}", False)


async def test_on_loopback_any_certificate_does(keys):
    async with serving(lambda asked: MANIFEST, tls(keys)) as fake, client() as registries:
        nest = registries.repository(references.parse(f"{fake.address}/nest"), None)
        await nest.manifest("1")
        assert [one.path for one in fake.asked] == ["/v2/", "/v2/nest/manifests/1"]


async def test_elsewhere_a_certificate_has_to_be_good(keys, tmp_path):
    async with serving(lambda asked: MANIFEST, tls(keys)) as fake:
        way = Endpoint(f"https://{fake.address}")
        async with client() as registries:
            with pytest.raises(
                BadCertificate, match="tls: failed to verify certificate: x509: "
            ) as bad:
                await ask(registries, way)
            assert f"/etc/docker/certs.d/{fake.address}/ca.crt" in str(bad.value)
            assert fake.asked == []
        directory = tmp_path / fake.address
        directory.mkdir()
        async with client(certificates=tmp_path) as registries:
            with pytest.raises(BadCertificate):
                await ask(registries, way)
            shutil.copy(keys / "cert.pem", directory / "ca.crt")
            assert await ask(registries, way) == (200, f"https://{fake.address}/v2/x")


async def test_our_own_certificate_is_shown_to_who_asks_for_it(keys, tmp_path):
    async with serving(lambda asked: MANIFEST, tls(keys, asks=True)) as fake:
        way = Endpoint(f"https://{fake.address}")
        directory = tmp_path / fake.address
        directory.mkdir()
        shutil.copy(keys / "cert.pem", directory / "ca.crt")
        async with client(certificates=tmp_path) as registries:
            with pytest.raises(RegistryError):
                await ask(registries, way)
            shutil.copy(keys / "cert.pem", directory / "client.cert")
            with pytest.raises(BadCertificates, match=r"missing key client\.key for client cert"):
                await ask(registries, way)
            shutil.copy(keys / "key.pem", directory / "client.key")
            assert (await ask(registries, way))[0] == 200
            (directory / "client.cert").unlink()
            with pytest.raises(BadCertificates, match=r"missing client certificate client\.cert"):
                await ask(registries, way)
            (directory / "client.key").unlink()
            (directory / "ca.crt").write_text("nonsense")
            with pytest.raises(BadCertificates, match=r"ca\.crt is no certificate in PEM"):
                await ask(registries, way)


async def test_http_is_not_what_an_https_client_gets(keys):
    async with serving(lambda asked: MANIFEST) as fake, client() as registries:
        with pytest.raises(BadCertificate, match="server gave HTTP response to HTTPS client"):
            await ask(registries, Endpoint(f"https://{fake.address}"))


async def test_from_https_nobody_is_followed_to_http(keys):
    def answer(asked):
        return Told(307, {"Location": "http://127.0.0.1:1/"})

    async with serving(answer, tls(keys)) as fake, client() as registries:
        with pytest.raises(RegistryFault, match="redirects from https to http"):
            await ask(registries, Endpoint(f"https://{fake.address}", False))


async def test_a_registry_behind_tls_that_calls_itself_http_is_not_left(keys):
    async with client() as registries:
        way = Endpoint("https://nest.example:444")
        exchange = Exchange(
            endpoints.Site("nest", (way,)), registries._connections, registries._ways, None
        )
        assert (
            exchange.address(way, "http://nest.example/v2/u?x") == "https://nest.example:444/v2/u?x"
        )
        assert exchange.address(way, "https://store.example/u") == "https://store.example/u"
        assert exchange.address(way, "/v2/") == "https://nest.example:444/v2/"


async def test_a_proxy_is_asked_in_place_of_the_registry(monkeypatch):
    with contextlib.suppress(KeyError):
        monkeypatch.delenv("NO_PROXY")
    async with serving(lambda asked: MANIFEST) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://a:b@{proxy.address}")
        async with client() as registries:
            way = Endpoint("http://nest.invalid:5000")
            assert (await ask(registries, way, credentials=Credentials("x", "y")))[0] == 200
            assert proxy.asked[0].target == "http://nest.invalid:5000/v2/x"
            assert proxy.asked[0].headers["proxy-authorization"] == "Basic YTpi"
            assert proxy.asked[0].headers["host"] == "nest.invalid:5000"


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "gopher://x"])
async def test_a_proxy_that_can_not_be_used(monkeypatch, proxy):
    monkeypatch.setenv("HTTP_PROXY", proxy)
    async with client() as registries:
        with pytest.raises(RegistryFault, match="cannot use the proxy"):
            await ask(registries, Endpoint("http://nest.invalid"))


@pytest.mark.parametrize(
    ("domain", "insecure", "urls"),
    [
        ("docker.io", (), ["https://registry-1.docker.io"]),
        ("docker.io", ("docker.io",), ["https://registry-1.docker.io"]),
        ("localhost:5000", (), ["https://localhost:5000", "http://localhost:5000"]),
        ("127.9.9.9", (), ["https://127.9.9.9", "http://127.9.9.9"]),
        ("[::1]:5000", (), ["https://[::1]:5000", "http://[::1]:5000"]),
        ("10.1.2.3:5000", (), ["https://10.1.2.3:5000"]),
        ("10.1.2.3:5000", ("10.0.0.0/8",), ["https://10.1.2.3:5000", "http://10.1.2.3:5000"]),
        ("10.1.2.3:5000", ("10.1.2.3:5001",), ["https://10.1.2.3:5000"]),
        ("10.1.2.3:5000", ("10.1.2.3",), ["https://10.1.2.3:5000", "http://10.1.2.3:5000"]),
        ("Nest:5000", ("nest:5000",), ["https://Nest:5000", "http://Nest:5000"]),
    ],
)
async def test_the_ways_to_a_registry(domain, insecure, urls):
    site = await endpoints.registry(domain, RegistryOptions(insecure=insecure))
    assert [way.url for way in site.ways] == urls
    assert [way.verify for way in site.ways] == [len(urls) == 1] * len(urls)


async def test_a_name_is_insecure_if_all_of_its_addresses_are(monkeypatch):
    found = {"near": ["127.0.0.1"], "far": ["10.0.0.1"], "both": ["10.0.0.1", "1.2.3.4"]}

    async def look_up(host, port):
        if host not in found:
            raise OSError
        return [(2, 1, 6, "", (one, 0)) for one in found[host]]

    monkeypatch.setattr(endpoints.anyio, "getaddrinfo", look_up)
    options = RegistryOptions(insecure=("10.0.0.0/8",))
    for name, ways in (("near", 2), ("far:5000", 2), ("both", 1), ("nowhere", 1)):
        assert len((await endpoints.registry(name, options)).ways) == ways, name


async def test_idle_connections_are_closed(monkeypatch):
    monkeypatch.setattr(connections, "IDLE_S", 0.001)
    async with (
        serving(lambda asked: MANIFEST) as fake,
        anyio.create_task_group() as tasks,
        client(tasks.start_soon) as registries,
    ):
        nest = registries.repository(references.parse(f"{fake.address}/nest"), None)
        for _ in range(2):
            fake.left = anyio.Event()
            await nest.manifest("1")
            await fake.left.wait()


def test_mirrors_are_believed_as_their_address_says():
    options = RegistryOptions(
        mirrors=("https://a/", "http://b/", "https://c:1/"), insecure=("c:1",)
    )
    assert [site.ways for site in endpoints.mirrors(options)] == [
        (Endpoint("https://a", True),),
        (Endpoint("http://b", False),),
        (Endpoint("https://c:1", False),),
    ]
    assert all(site.mirror for site in endpoints.mirrors(options))
