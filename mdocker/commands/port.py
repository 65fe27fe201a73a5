"""`port`."""

from __future__ import annotations

from typing import Annotated

from mdocker.client import Engine
from mdocker.errors import FAILED, EngineRefused, UsageError
from mdocker.options import injected
from mdocker.output import say
from mdocker.paths import container_path

_PROTOCOLS = ("tcp", "udp", "sctp")
Ports = dict[str, list[dict[str, str]] | None]


def port(
    container: str, private_port: str = "", /, *, engine: Annotated[Engine, injected()]
) -> int:
    """Show which addresses of this machine lead to a container's ports, as 'port -> address'.

    With a port, such as 80 or 53/udp, its addresses alone; none is an error.
    """
    wanted = _wanted(private_port) if private_port else ""
    about = engine.json("GET", container_path(container, "json"))
    ports: Ports = (about.get("NetworkSettings") or {}).get("Ports") or {}
    if not wanted:
        for line in sorted(
            f"{name} -> {_address(one)}"
            for name, published in ports.items()
            for one in published or ()
        ):
            say(line)
        return 0
    published = ports.get(wanted) or []
    if not published:
        name = about["Name"].removeprefix("/")
        raise EngineRefused(404, f"no public port '{wanted}' published for {name}")
    for one in published:
        say(_address(one))
    return 0


def _wanted(text: str) -> str:
    number, _, protocol = text.partition("/")
    if not (number.isascii() and number.isdigit() and 0 < int(number[:6]) < 65536):
        raise UsageError(f'invalid port "{text}": must be a number up to 65535', FAILED)
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise UsageError(f'invalid port "{text}": the protocol is {", ".join(_PROTOCOLS)}', FAILED)
    return f"{int(number)}/{protocol}"


def _address(published: dict[str, str]) -> str:
    host = published.get("HostIp") or "0.0.0.0"
    return f"[{host}]:{published['HostPort']}" if ":" in host else f"{host}:{published['HostPort']}"
