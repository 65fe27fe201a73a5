"""The two networks that there are: none, with a loopback interface alone, and the machine's own.

Making networks and joining others comes later and is refused by name (`missing.py`); what lists
networks, as docker-compose does before it stops anything, is told what is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from supervisor.api import filters as filtering
from supervisor.api import prune_filters, views
from supervisor.api.filters import Filters
from supervisor.api.messages import Reply, Request
from supervisor.api.views import network_name
from supervisor.engine import Engine
from supervisor.errors import EngineError, NotFound
from supervisor.states import ACTIVE

_KNOWN = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
_KINDS = ("builtin", "custom")
_encode = msgspec.json.Encoder().encode


class _Ipam(msgspec.Struct, frozen=True):
    """How addresses are given out: by nobody."""

    Driver: str = "default"
    Options: None = None
    Config: tuple[()] = ()


class _ConfigFrom(msgspec.Struct, frozen=True):
    """No other network's configuration."""

    Network: str = ""


class _Member(msgspec.Struct):
    """A container in a network; in these two it has no address of its own."""

    Name: str
    EndpointID: str = ""
    MacAddress: str = ""
    IPv4Address: str = ""
    IPv6Address: str = ""


class _Network(msgspec.Struct):
    """A network as clients see it."""

    Name: str
    Id: str
    Driver: str
    Created: str = "0001-01-01T00:00:00Z"
    Scope: str = "local"
    EnableIPv4: bool = True
    EnableIPv6: bool = False
    IPAM: _Ipam = _Ipam()
    Internal: bool = False
    Attachable: bool = False
    Ingress: bool = False
    ConfigFrom: _ConfigFrom = _ConfigFrom()
    ConfigOnly: bool = False
    Containers: dict[str, _Member] = {}
    Options: dict[str, str] = {}
    Labels: dict[str, str] = {}


def _id(name: str) -> str:
    return hashlib.sha256(f"mdocker network {name}".encode()).hexdigest()


_THERE_ARE = tuple(
    _Network(name, _id(name), driver) for name, driver in (("host", "host"), ("none", "null"))
)


async def list_networks(_engine: Engine, request: Request) -> Reply:
    """GET /networks"""
    fits = _listed(filtering.parse(request, _KNOWN))
    return Reply(body=_encode([network for network in _THERE_ARE if fits(network)]))


async def inspect(engine: Engine, request: Request) -> Reply:
    """GET /networks/{id}, with the containers that run in it.

    Raises:
        NotFound: There is none of that name or id (Docker's text).
    """
    network = _found(request.names[0], request.parameter("scope"))
    members = {
        container.id: _Member(container.name)
        for container in engine.containers.all()
        if container.state in ACTIVE and network_name(container) == network.Name
    }
    return Reply(body=_encode(msgspec.structs.replace(network, Containers=members)))


def _found(wanted: str, scope: str = "") -> _Network:
    for network in _THERE_ARE if scope in ("", "local") else ():
        if wanted in (network.Name, network.Id) or (wanted and network.Id.startswith(wanted)):
            return network
    raise NotFound(f"network {wanted} not found")


def _listed(filters: Filters) -> Callable[[_Network], bool]:
    kinds = filtering.one_of(filters, "type", "type", _KINDS) if "type" in filters else _KINDS
    dangling = filtering.single_flag(filters, "dangling")
    names = [filtering.pattern(value, "name") for value in filters.get("name", ())]
    ids = filters.get("id", ())

    def fits(network: _Network) -> bool:
        # Those that are built in are never dangling, and have no labels.
        return (
            "builtin" in kinds
            and not dangling
            and not filters.get("label")
            and network.Driver in filters.get("driver", (network.Driver,))
            and network.Scope in filters.get("scope", (network.Scope,))
            and (not names or any(pattern.search(network.Name) for pattern in names))
            and (not ids or any(network.Id.startswith(id) for id in ids))
        )

    return fits


class _Predefined(EngineError):
    """A network that nobody made, and nobody can take away."""

    status = 403


async def remove(_engine: Engine, request: Request) -> Reply:
    """DELETE /networks/{id}: only what is there already can be asked for, and has to stay.

    Raises:
        NotFound: There is none of that name or id, as `docker-compose down` expects it.
    """
    name = _found(request.names[0]).Name
    raise _Predefined(f"{name} is a pre-defined network and cannot be removed")


async def prune(engine: Engine, request: Request) -> Reply:
    """POST /networks/prune: of the two that there are, none."""
    prune_filters.fits(filtering.parse(request, prune_filters.LABELS_AND_TIME), views.now())
    engine.events.publish("network", "prune", "", {"reclaimed": "0"})
    return Reply(body=b'{"NetworksDeleted":null}')
