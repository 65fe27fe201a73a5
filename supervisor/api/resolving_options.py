"""Docker's options of name resolution, checked: added hosts, name servers, search domains."""

from __future__ import annotations

import ipaddress
import re

from supervisor.api import wire
from supervisor.errors import BadParameter, Unsupported
from supervisor.resolving import HOST_GATEWAY, Resolving

_NAME = re.compile(r"[^\s:#\0]+")
_DOMAIN = re.compile(r"\.|[A-Za-z0-9_][A-Za-z0-9_.-]*")
_OPTION = re.compile(r"[!-~]+")


def checked_resolving(host: wire.AskedHostConfig, network_mode: str) -> Resolving:
    """Return what was asked.

    Raises:
        BadParameter: A value that can't be (Docker's texts).
        Unsupported: The address of the machine, where no network leads to it.
    """
    for server in host.Dns or ():
        if not _is_address(server):
            raise BadParameter(f"invalid IP address: {server[:64]}")
    for domain in host.DnsSearch or ():
        if not _DOMAIN.fullmatch(domain):
            raise BadParameter(f"invalid domain: {domain[:64]!r}")
    for option in host.DnsOptions or ():
        if not _OPTION.fullmatch(option):
            raise BadParameter(f"invalid DNS option: {option[:64]!r}")
    for word in host.ExtraHosts or ():
        _check_host(word, network_mode)
    return Resolving(
        tuple(host.ExtraHosts or ()),
        tuple(host.Dns or ()),
        tuple(host.DnsSearch or ()),
        tuple(host.DnsOptions or ()),
    )


def _check_host(word: str, network_mode: str) -> None:
    name, colon, address = word.partition(":")
    if not colon or not _NAME.fullmatch(name):
        raise BadParameter(f'bad format for add-host: "{word[:64]}"')
    if address == HOST_GATEWAY:
        if network_mode != "host":
            raise Unsupported(
                f"mdocker does not support {word[:64]} without a network that leads to the machine "
                "yet: use the network host"
            )
    elif not _is_address(address):
        raise BadParameter(f'invalid IP address in add-host: "{address[:64]}"')


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
