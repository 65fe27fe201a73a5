"""What may be said about who talks to the engine, and where."""

import os

import pytest

from mdocker.binding import bind, parse, shape_of
from mdocker.commands import daemon as command
from supervisor import access
from supervisor.access import AccessOptions, RefusedAccess, TlsFiles

FILES = ("/a/ca.pem", "/a/cert.pem", "/a/key.pem")


def checked(*hosts, **more):
    return access.checked(hosts, tlsverify=True, files=FILES, **more).hosts


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("unix:///var//run/./docker.sock", "unix:///var/run/docker.sock"),
        ("tcp://0.0.0.0:2376", "tcp://0.0.0.0:2376"),
        ("tcp://box:02376/", "tcp://box:2376"),
        ("tcp://127.0.0.1", "tcp://127.0.0.1:2376"),
        ("tcp://[::1]", "tcp://[::1]:2376"),
        ("tcp://[0::1]:99", "tcp://[::1]:99"),
    ],
)
def test_hosts(text, host):
    assert checked("tcp://there:1", text) == ("tcp://there:1", host)
    assert checked("tcp://there:1", text, text) == ("tcp://there:1", host)
    if host.startswith("tcp://"):
        name, port = access.address(host)
        assert isinstance(port, int)
        assert "[" not in name


@pytest.mark.parametrize(
    "text",
    [
        *("", "tcp://", "tcp://:2376", "tcp://a:b", "tcp://a:70000", "tcp://a:-1", "tcp://::1:99"),
        *("tcp://[x:]:1", "tcp://a/b:1", "unix://", "unix://relative", "/run/a.sock", "fd://"),
        *("http://a:1", "ssh://a", "npipe:////./pipe/docker", "tcp://a:٣"),
    ],
)
def test_what_is_no_host(text):
    with pytest.raises(RefusedAccess, match="--host"):
        checked("tcp://there:1", text)


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:1", "tcp://localhost", "tcp://[::1]:1"])
@pytest.mark.parametrize("more", [{}, {"files": FILES}])
def test_tcp_without_client_certificates_is_refused_on_loopback_too(host, more):
    with pytest.raises(RefusedAccess, match="who reaches this port would be root here"):
        access.checked([host], **more)
    with pytest.raises(RefusedAccess, match="--tls alone lets in whoever connects"):
        access.checked([host], tls=True, **more)


def test_what_would_mean_nothing_is_refused():
    with pytest.raises(RefusedAccess, match="--tlsverify has a meaning only with"):
        access.checked(["unix:///a"], tlsverify=True)
    with pytest.raises(RefusedAccess, match="--tlscert has a meaning only with"):
        access.checked([], files=("", "/a", ""))
    for words in ("relative", "''", "may --strict", "/unfinished 'quote"):
        with pytest.raises(RefusedAccess, match="--authorization-command"):
            access.checked([], authorization=words)


def test_files_that_are_not_named_are_where_dockers_are(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    made = access.checked(["tcp://a:1"], tls=True, tlsverify=True, files=("", "/x/c.pem", ""))
    assert made.tls == TlsFiles("/home/ada/.docker/ca.pem", "/x/c.pem", "/home/ada/.docker/key.pem")


@pytest.mark.parametrize(
    "options",
    [
        AccessOptions(),
        AccessOptions(group=""),
        AccessOptions(("unix:///a b/c",), group="docker"),
        AccessOptions(
            ("tcp://[::1]:1", "unix:///d"), TlsFiles(*FILES), "4711", ("/bin/may", "it's", "$HOME")
        ),
    ],
)
def test_the_words_for_another_one_say_the_same(options, monkeypatch):
    """By the command line's own reading of them."""
    given = {}
    monkeypatch.setattr(
        command.importlib, "import_module", lambda name: type("m", (), {"main": staticmethod(main)})
    )
    monkeypatch.setattr(command.os, "chdir", lambda path: None)

    def main(*arguments, **named):
        given.update(named)
        return 0

    shape = shape_of(command.daemon)
    arguments, bound = bind(shape, parse(options.words(), shape.options))
    place = type("e", (), {"place": type("p", (), {"root": "/r", "run_dir": "/d"})})
    assert command.daemon(*arguments, **bound, engine=place) == 0
    again = access.checked(
        given["hosts"],
        tls=given["with_tls"],
        tlsverify=given["tlsverify"],
        files=given["tls_files"],
        group=given["group"],
        authorization=given["authorization_command"],
    )
    assert again == options


def test_without_tcp():
    options = access.checked(["tcp://a:1", "unix:///b"], tlsverify=True, files=FILES, group="g")
    assert options.without_tcp() == AccessOptions(("unix:///b",), None, "g")
    assert options.plugins is None
    asked = access.checked(authorization=f"{os.sep}usr/bin/may not")
    assert asked.plugins == ["may"]
