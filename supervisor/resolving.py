"""How a container finds the addresses of names: what was asked of its /etc/hosts and resolv.conf.

The formats are those of hosts(5) and resolv.conf(5).
"""

from __future__ import annotations

import msgspec

HOST_GATEWAY = "host-gateway"
"""Docker's word for the machine, in place of an address."""

_NO_SEARCH = (".",)


class Resolving(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was asked for beyond the machine's own.

    Attributes:
        extra_hosts: `NAME:ADDRESS`, or `NAME:host-gateway` for the machine itself.
        servers: Addresses of name servers.
        search: Domains to look in; `.` alone for none.
        options: Words of the line `options`.
    """

    extra_hosts: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def hosts(base: bytes, asked: Resolving) -> bytes:
    """Return /etc/hosts with the names that were asked for below the others."""
    if not asked.extra_hosts:
        return base
    more = []
    for word in asked.extra_hosts:
        name, _, address = word.partition(":")
        # Only in the machine's own network there is a way to it, and there it is the loopback.
        more.append(f"{'127.0.0.1' if address == HOST_GATEWAY else address}\t{name}\n")
    ended = base if base.endswith(b"\n") or not base else base + b"\n"
    return ended + "".join(more).encode()


def resolv_conf(base: bytes, asked: Resolving) -> bytes:
    """Return resolv.conf with those lines replaced of which something was asked."""
    own: dict[bytes, list[str]] = {}
    if asked.servers:
        own[b"nameserver"] = list(asked.servers)
    if asked.search:
        own[b"domain"] = []
        own[b"search"] = [] if asked.search == _NO_SEARCH else [" ".join(asked.search)]
    if asked.options:
        own[b"options"] = [" ".join(asked.options)]
    if not own:
        return base
    lines = [line for line in base.splitlines() if line.partition(b" ")[0].strip() not in own]
    lines += [keyword + b" " + value.encode() for keyword in own for value in own[keyword]]
    return b"".join(line + b"\n" for line in lines)
