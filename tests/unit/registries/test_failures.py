"""What goes wrong below HTTP, in words."""

import errno
import socket
import ssl

import httpx
import pytest

from supervisor.registries import failures
from supervisor.registries.errors import Refused, RegistryError, RegistryFault, RegistryUnreachable

WHERE = failures.Where("GET", "https://nest/v2/", "nest", 443)


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "words", "temporary"),
    [
        (httpx.ConnectTimeout(""), RegistryUnreachable, "dial tcp nest:443: i/o timeout", True),
        (httpx.ReadTimeout(""), RegistryUnreachable, "i/o timeout: the registry is silent", True),
        (
            caused(httpx.ConnectError(""), socket.gaierror(socket.EAI_NONAME, "")),
            Refused,
            "dial tcp: lookup nest: no such host",
            False,
        ),
        (
            caused(httpx.ConnectError(""), socket.gaierror(socket.EAI_AGAIN, "")),
            RegistryUnreachable,
            "dial tcp: lookup nest: server misbehaving",
            True,
        ),
        (
            caused(
                httpx.ConnectError("all failed"),
                ExceptionGroup("several", [OSError(errno.ECONNREFUSED, "")]),
            ),
            Refused,
            "dial tcp nest:443: connect: connection refused",
            False,
        ),
        (
            caused(httpx.ReadError(""), ConnectionResetError(errno.ECONNRESET, "")),
            RegistryUnreachable,
            "connection reset by peer",
            True,
        ),
        (httpx.ReadError(""), RegistryUnreachable, "connection reset by peer", True),
        (
            httpx.RemoteProtocolError("peer closed connection without sending complete message"),
            RegistryUnreachable,
            "unexpected EOF",
            True,
        ),
        (httpx.RemoteProtocolError("bad line"), RegistryFault, "malformed HTTP response", True),
        (httpx.InvalidURL("bad"), RegistryFault, "bad", False),
        (httpx.ProxyError("407"), RegistryUnreachable, "proxyconnect: 407", True),
        (httpx.ConnectError(""), RegistryUnreachable, "cannot connect: EOF", True),
        (
            caused(httpx.ConnectError(""), ssl.SSLError(1, "[X] tlsv1 alert")),
            RegistryUnreachable,
            "tls: ",
            True,
        ),
    ],
)
def test_words(error, kind, words, temporary):
    with pytest.raises(RegistryError) as told, failures.told(WHERE):
        raise error
    assert type(told.value) is kind
    assert str(told.value).startswith('Get "https://nest/v2/": ')
    assert words in str(told.value)
    assert told.value.temporary is temporary


def test_what_is_no_failure_of_a_registry_stays_what_it_is():
    for error in (OSError("mine"), ValueError(), RegistryFault("said already")):
        with pytest.raises(type(error)) as told, failures.told(WHERE):
            raise error
        assert told.value is error
