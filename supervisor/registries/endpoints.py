"""Which addresses serve a registry's name: mirrors, https, and plain http where that is allowed."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

import anyio

from runtime.images.references import DEFAULT_DOMAIN
from supervisor.registries.configuration import RegistryOptions
from supervisor.registries.proxies import address_of, is_loopback

HUB = "registry-1.docker.io"
"""Where Docker Hub's registry is; in names it is called docker.io."""

HUB_NAMES = frozenset({DEFAULT_DOMAIN, "index.docker.io", HUB})


class Endpoint(NamedTuple):
    """One way to a registry.

    Attributes:
        url: Scheme, host and port, without a path.
        verify: Whether its certificate has to be good.
    """

    url: str
    verify: bool = True


class Site(NamedTuple):
    """A registry, and the ways to it: the first that somebody answers is gone.

    Attributes:
        name: As it stands in images' names.
        mirror: It only has copies: it is shown no credentials, and nothing is written to it.
    """

    name: str
    ways: tuple[Endpoint, ...]
    mirror: bool = False


def mirrors(options: RegistryOptions) -> list[Site]:
    """Return Docker Hub's mirrors."""
    found = []
    for mirror in options.mirrors:
        url = mirror.rstrip("/")
        scheme, _, name = url.partition("://")
        verify = scheme == "https" and not _is_listed(name, options)
        found.append(Site(name, (Endpoint(url, verify),), mirror=True))
    return found


async def registry(domain: str, options: RegistryOptions) -> Site:
    """Return a registry by its name; the name is looked up, as its address may be insecure."""
    name = HUB if domain in HUB_NAMES else domain
    if name != HUB and await _is_insecure(name, options):
        return Site(name, (Endpoint(f"https://{name}", False), Endpoint(f"http://{name}", False)))
    return Site(name, (Endpoint(f"https://{name}"),))


async def _is_insecure(name: str, options: RegistryOptions) -> bool:
    host = _host(name)
    if _is_listed(name, options):
        return True
    if address_of(host) is not None or is_loopback(host):
        return False
    try:
        found = await anyio.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    addresses = [str(one[4][0]) for one in found]
    # Every address: the one that is connected to later must be one of them.
    return bool(addresses) and all(_is_listed(address, options) for address in addresses)


def _is_listed(name: str, options: RegistryOptions) -> bool:
    host = _host(name)
    if is_loopback(host) or name.lower() in options.insecure or host.lower() in options.insecure:
        return True
    address = address_of(host)
    return address is not None and any(
        address in ipaddress.ip_network(rule) for rule in options.insecure if "/" in rule
    )


def _host(name: str) -> str:
    """A registry's name without its port."""
    if name.startswith("["):
        return name.partition("]")[0].removeprefix("[")
    return name.partition(":")[0] if name.count(":") == 1 else name
