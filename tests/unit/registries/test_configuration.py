"""What the daemon is told about registries, and the proxies of its environment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.config import Settings
from supervisor.registries import configuration, proxies
from supervisor.registries.configuration import RefusedConfiguration, RegistryOptions
from supervisor.registries.proxies import Proxies
from supervisor.succession import arguments


def checked(mirrors=(), insecure=(), downloads=3, uploads=5):
    return configuration.checked(mirrors, insecure, downloads, uploads)


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ("https://mirror.example", "https://mirror.example/"),
        ("https://Mirror.example:444/", "https://mirror.example:444/"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/"),
        ("http://[::1]:5000", "http://[::1]:5000/"),
    ],
)
def test_mirrors(given_, kept):
    assert checked([given_, given_]).mirrors == (kept,)


@pytest.mark.parametrize(
    ("mirror", "words"),
    [
        ("mirror.example", 'unsupported scheme ""'),
        ("ftp://x", 'unsupported scheme "ftp"'),
        ("https://a:secret@x", "username/password not allowed in URI"),
        ("https://x/path", "path, query, or fragment at end of the URI"),
        ("https://x/?q", "path, query, or fragment"),
        ("https://x?", "path, query, or fragment"),
        ("https://x#f", "path, query, or fragment"),
        ("https://", "it names no host"),
        ("https://x:99999", "no valid URI"),
        ("https://x:0", "it names no host"),
        ("https://a b", "it names no host"),
        ("https://[::x]", "no valid URI"),
    ],
)
def test_what_is_no_mirror(mirror, words):
    with pytest.raises(RefusedConfiguration, match='for "--registry-mirror"') as refusal:
        checked([mirror])
    assert words in str(refusal.value)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ("nest", "nest"),
        ("Nest.example:5000", "nest.example:5000"),
        ("https://nest", "nest"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("fd00::/8", "fd00::/8"),
        ("[::1]:5000", "[::1]:5000"),
        ("my_nest", "my_nest"),
    ],
)
def test_insecure_registries(given_, kept):
    assert checked(insecure=[given_, given_]).insecure == (kept,)


@pytest.mark.parametrize("text", ["", "-x", "x-", "x:y", "x:0", "x:99999", "1.0.0.0/99", "a/b"])
def test_what_is_no_insecure_registry(text):
    with pytest.raises(RefusedConfiguration, match='for "--insecure-registry"'):
        checked(insecure=[text])


@pytest.mark.parametrize("number", [0, -1, 1001])
def test_a_number_that_makes_no_sense(number):
    with pytest.raises(RefusedConfiguration, match="--max-concurrent-downloads"):
        checked(downloads=number)
    with pytest.raises(RefusedConfiguration, match="--max-concurrent-uploads"):
        checked(uploads=number)


@given(st.text(max_size=20))
def test_any_text_is_taken_or_refused(text):
    for words in ({"mirrors": [text]}, {"insecure": [text]}):
        try:
            once = checked(**words)
        except RefusedConfiguration:
            continue
        assert checked(once.mirrors, once.insecure) == once


def test_the_next_engine_is_told_the_same(tmp_path):
    options = checked(["https://a"], ["b:1", "10.0.0.0/8"], 7, 1)
    words = arguments(Settings(tmp_path, tmp_path, registries=options))
    assert " ".join(words).endswith(
        "--registry-mirror https://a/ --insecure-registry b:1 --insecure-registry 10.0.0.0/8 "
        "--max-concurrent-downloads 7 --max-concurrent-uploads 1"
    )
    assert RegistryOptions().words() == []


@pytest.mark.parametrize(
    ("rules", "host", "between"),
    [
        ("", "nest.example", True),
        ("*", "nest.example", False),
        ("nest.example", "nest.example", False),
        ("example", "nest.example", False),
        (".example", "nest.example", False),
        ("*.example", "nest.example", False),
        (".nest.example", "nest.example", True),
        ("est.example", "nest.example", True),
        (" other , NEST.example ", "nest.EXAMPLE", False),
        ("nest.example:444", "nest.example", True),
        ("nest.example:443", "nest.example", False),
        ("10.0.0.0/8", "10.1.2.3", False),
        ("10.0.0.0/8", "11.1.2.3", True),
        ("10.1.2.3", "10.1.2.3", False),
        ("10.1.2", "10.1.2.3", True),
        ("fd00::/8", "fd00::1", False),
        ("nonsense/99", "10.1.2.3", True),
        ("", "localhost", False),
        ("", "127.1.2.3", False),
        ("", "::1", False),
        ("", "a.localhost", False),
    ],
)
def test_who_is_behind_a_proxy(rules, host, between):
    found = Proxies("", "http://p:1", rules).of("https", host, 443)
    assert found == ("http://p:1" if between else "")
    assert Proxies("", "", rules).of("https", host, 443) == ""


def test_proxies_of_the_environment():
    read = proxies.from_environment
    assert read({"HTTP_PROXY": "a", "http_proxy": "b", "https_proxy": "c"}) == ("a", "c", "")
    assert Proxies("p:3128", "", "").of("http", "x", 80) == "http://p:3128"
    assert proxies.masked("http://a:b@p:1") == "http://xxxxx:xxxxx@p:1"
    assert proxies.masked("a:b@p:1") == "xxxxx:xxxxx@p:1"
    assert proxies.masked("http://p:1") == "http://p:1"


@given(st.text(max_size=15), st.text(max_size=15))
def test_any_rule_is_read(rule, host):
    assert Proxies("p", "p", rule).of("http", host, 80) in ("", "http://p")
