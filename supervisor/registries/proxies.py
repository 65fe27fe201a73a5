"""Which proxy leads to a host, by the environment as Go programs (dockerd) read it. Pure.

HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in capitals or small; nothing goes to this machine by a proxy.
Rules: https://pkg.go.dev/golang.org/x/net/http/httpproxy
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}


class Proxies(NamedTuple):
    """What the environment says.

    Attributes:
        http: The proxy for http:// addresses, "" for none.
        https: The proxy for https:// addresses, "" for none.
        exempt: NO_PROXY as it stands there.
    """

    http: str
    https: str
    exempt: str

    def of(self, scheme: str, host: str, port: int) -> str:
        """Return the proxy's URL for a host, "" where none is between."""
        proxy = self.https if scheme == "https" else self.http
        if not proxy or is_loopback(host):
            return ""
        if any(_fits(rule.strip().lower(), host.lower(), port) for rule in self.exempt.split(",")):
            return ""
        return proxy if "://" in proxy else f"http://{proxy}"


def from_environment(environment: Mapping[str, str]) -> Proxies:
    """Read the environment; capitals first, as Go does it."""

    def value(name: str) -> str:
        return environment.get(name.upper()) or environment.get(name) or ""

    return Proxies(value("http_proxy"), value("https_proxy"), value("no_proxy"))


def masked(proxy: str) -> str:
    """Return a proxy's URL without the secret in it, to be shown (Docker's way)."""
    head, at, rest = proxy.rpartition("@")
    scheme, colon, _ = head.partition("://")
    if not at:
        return proxy
    return f"{scheme}://xxxxx:xxxxx@{rest}" if colon else f"xxxxx:xxxxx@{rest}"


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own for certain, without a look-up."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = address_of(name)
    return address is not None and address.is_loopback


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host's text is, None where it is a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def host_and_port(url: str) -> tuple[str, str, int]:
    """Return scheme, host (IPv6 without brackets) and port of a URL.

    Raises:
        ValueError: It has none, or its port is no port.
    """
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"no http address: {url}")
    return parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme]


def _fits(rule: str, host: str, port: int) -> bool:
    """Whether one entry of NO_PROXY is about a host."""
    if rule == "*":
        return True
    if not rule:
        return False
    address = address_of(host)
    if "/" in rule:
        try:
            return address is not None and address in ipaddress.ip_network(rule, strict=False)
        except ValueError:
            return False
    if address_of(rule) is None:
        name, colon, number = rule.rpartition(":")
        if colon:
            if number != str(port):
                return False
            rule = name
    if address is not None:
        return address == address_of(rule)
    bare = rule.removeprefix("*").lstrip(".")
    # `.bird.org` is about what is below it, `bird.org` about itself, too.
    return (host == bare and not rule.startswith((".", "*"))) or host.endswith(f".{bare}")
