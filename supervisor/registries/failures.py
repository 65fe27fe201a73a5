"""What goes wrong below HTTP, in the words that Docker's users know (they are Go's)."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple

from supervisor.registries.errors import Refused, RegistryError, RegistryFault, RegistryUnreachable

_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})

_AT_ONCE = frozenset(
    {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM}
)
"""Errors of connect(2) that are no different a moment later."""


class Where(NamedTuple):
    """What was asked of whom, as it is said in errors.

    Attributes:
        method: As HTTP has it.
        url: Without a query.
        host: Who was to answer.
        port: There.
    """

    method: str
    url: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """Host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f'{self.method.capitalize()} "{self.url}"'


class BadCertificate(RegistryUnreachable):
    """We do not believe the certificate of who answers."""

    temporary = False


@contextlib.contextmanager
def told(where: Where) -> Iterator[None]:
    """Within, what httpx raises becomes a RegistryError."""
    try:
        yield
    except RegistryError:
        raise
    except Exception as error:
        import h11
        import httpx

        known = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, h11.ProtocolError)
        if not isinstance(error, known):
            raise
        raise _words(where, error) from error


def _words(where: Where, error: Exception) -> RegistryError:
    import httpx

    roots = list(_roots(error, set()))
    if isinstance(error, httpx.ConnectTimeout):
        return RegistryUnreachable(f"{where}: dial tcp {where.address}: i/o timeout")
    if isinstance(error, httpx.TimeoutException):
        return RegistryUnreachable(f"{where}: i/o timeout: the registry is silent")
    if isinstance(error, httpx.ProxyError):
        return RegistryUnreachable(f"{where}: proxyconnect: {error}")
    for root in roots:
        if isinstance(root, ssl.SSLCertVerificationError):
            return BadCertificate(
                f"{where}: tls: failed to verify certificate: x509: {root.verify_message}; put "
                f"the registry's authority into {certs(where)}/ca.crt, or give the engine "
                "--insecure-registry"
            )
        if isinstance(root, ssl.SSLError):
            reason = getattr(root, "reason", "")  # there if OpenSSL has said it
            if reason in _NO_TLS:
                return BadCertificate(f"{where}: http: server gave HTTP response to HTTPS client")
            return RegistryUnreachable(f"{where}: tls: {reason or root}")
        if isinstance(root, socket.gaierror):
            if root.errno == socket.EAI_AGAIN:
                words = f"lookup {where.host}: server misbehaving"
                return RegistryUnreachable(f"{where}: dial tcp: {words}")
            return Refused(f"{where}: dial tcp: lookup {where.host}: no such host")
    for root in roots:
        if isinstance(root, OSError) and root.errno is not None:
            words = os.strerror(root.errno).lower()
            if isinstance(error, httpx.ConnectError):
                kind = Refused if root.errno in _AT_ONCE else RegistryUnreachable
                return kind(f"{where}: dial tcp {where.address}: connect: {words}")
            return RegistryUnreachable(f"{where}: {words}")
    if isinstance(error, httpx.ConnectError):
        return RegistryUnreachable(f"{where}: cannot connect: {str(error) or 'EOF'}")
    if isinstance(error, httpx.RemoteProtocolError):
        if "peer closed" in str(error) or "disconnected" in str(error):
            return RegistryUnreachable(f"{where}: unexpected EOF")
        fault = RegistryFault(f"{where}: malformed HTTP response: {error}")
        fault.temporary = True
        return fault
    if isinstance(error, httpx.NetworkError):
        return RegistryUnreachable(f"{where}: connection reset by peer")
    return RegistryFault(f"{where}: {error}")


def certs(where: Where) -> str:
    """Where certificates for a registry belong."""
    return f"/etc/docker/certs.d/{where.url.partition('://')[2].partition('/')[0]}"


def _roots(error: BaseException, seen: set[int]) -> Iterator[BaseException]:
    """An error and all that it came from."""
    if id(error) in seen:
        return
    seen.add(id(error))
    yield error
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _roots(one, seen)
    for cause in (error.__cause__, error.__context__):
        if cause is not None:
            yield from _roots(cause, seen)
