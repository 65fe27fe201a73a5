"""Files by their URL: redirects, names and passwords, and what is refused."""

import base64
from types import SimpleNamespace

import pytest

from supervisor.downloads import MOST_REDIRECTS, DownloadRefused, NoSuchFile, downloading
from supervisor.errors import BadParameter
from supervisor.registries.connections import Connections, Patience
from supervisor.registries.errors import RegistryUnreachable
from tests.unit.supervisor.file_server import file_server

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server():
    with file_server() as server:
        yield server


@pytest.fixture
async def get(server):
    """Downloads a URL; gives the announced length and the bytes."""
    server.asked.clear()
    connections = Connections("mdocker/test", Patience(5, 5))

    async def download(url):
        registries = SimpleNamespace(connections=connections)
        async with downloading(registries, url) as answer:
            return answer.length, b"".join([piece async for piece in answer.pieces()])

    yield download
    await connections.aclose()


async def test_a_file(server, get):
    server.answers["/a.tar"] = (200, {}, b"tar" * 1000)
    assert await get(f"{server.url}/a.tar?x=y#part") == (3000, b"tar" * 1000)
    path, headers = server.asked[-1]
    assert path == "/a.tar?x=y"
    assert headers["Accept-Encoding"] == "identity"
    assert "Authorization" not in headers


async def test_redirects_are_followed_and_secrets_stay(server, get):
    server.answers |= {
        "/first": (302, {"Location": "second"}, b"see there"),
        "/second": (308, {"Location": f"{server.url}/third"}, b""),
        "/third": (200, {}, b"here"),
    }
    url = server.url.replace("http://", "http://bird:nest%40home@")
    assert (await get(f"{url}/first"))[1] == b"here"
    shown = [headers.get("Authorization") for _, headers in server.asked]
    word = base64.b64encode(b"bird:nest@home").decode()
    assert shown == [f"Basic {word}", None, None]


async def test_redirects_without_end(server, get):
    server.answers["/round"] = (301, {"Location": "/round"}, b"")
    with pytest.raises(DownloadRefused, match="stopped after 10 redirects"):
        await get(f"{server.url}/round")
    assert len(server.asked) == MOST_REDIRECTS + 1


@pytest.mark.parametrize("where", ["ftp://x/y", "file:///etc/shadow", "http://", "//"])
async def test_redirects_to_something_else(server, get, where):
    server.answers["/away"] = (302, {"Location": where}, b"")
    with pytest.raises((BadParameter, DownloadRefused)):
        await get(f"{server.url}/away")


async def test_what_a_server_refuses(server, get):
    with pytest.raises(NoSuchFile) as refused:
        await get(f"{server.url}/none?secret=1")
    assert str(refused.value) == (
        f"failed to GET {server.url}/none with status 404 Not Found: nothing here"
    )
    server.answers["/broken"] = (500, {}, b"<html>\n<body>" + b"x" * 9000)
    with pytest.raises(DownloadRefused) as refused:
        await get(f"{server.url}/broken")
    assert str(refused.value) == (
        f"failed to GET {server.url}/broken with status 500 Internal Server Error"
    )


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://x/y.tar", 'unsupported protocol scheme "ftp": give http or https'),
        ("/x/y.tar", 'unsupported protocol scheme ""'),
        ("http:///x", "no host in request URL"),
        ("http://[::1/x", "invalid URL: "),
    ],
)
async def test_no_url(get, url, words):
    with pytest.raises(BadParameter) as refused:
        await get(url)
    assert words in str(refused.value)


async def test_a_file_that_breaks_off(server, get):
    cut = {"Content-Length": "5000", "Connection": "close"}
    server.answers["/cut"] = (200, cut, b"x" * 100)
    with pytest.raises(RegistryUnreachable, match="unexpected EOF"):
        await get(f"{server.url}/cut")


async def test_nobody_answers(get):
    with pytest.raises(RegistryUnreachable, match="connection refused"):
        await get("http://127.0.0.1:9/x")
