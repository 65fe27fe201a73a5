"""`ps`."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any

from mdocker.client import Engine
from mdocker.listing import Row, label_field, labels_text, parse_filters, rendered, shorten
from mdocker.options import flag, injected
from mdocker.times import to_go_string
from mdocker.units import human_duration, human_size

_HEADINGS: Row = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Names": "NAMES",
    "Size": "SIZE",
    "Labels": "LABELS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Mounts": "MOUNTS",
    "Networks": "NETWORKS",
    # The heading of one label is the last part of its key.
    "Label": lambda key: key.rpartition(".")[2].replace("-", " ").replace("_", " "),
}
_COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
_COMMAND_WIDTH = 20


def ps(
    *,
    all: Annotated[bool, flag("--all", "-a", help="Also those that do not run")] = False,
    quiet: Annotated[bool, flag("--quiet", "-q", help="Ids only")] = False,
    filter: Annotated[
        tuple[str, ...], flag("--filter", "-f", help="Such as status=exited or label=KEY=VALUE")
    ] = (),
    format: Annotated[str, flag("--format", help="json, a Go template, or 'table TEMPLATE'")] = "",
    no_trunc: Annotated[bool, flag("--no-trunc", help="Cut nothing short")] = False,
    last: Annotated[
        int, flag("--last", "-n", help="The last N that were created, in any state")
    ] = -1,
    latest: Annotated[
        bool, flag("--latest", "-l", help="The last that was created, in any state")
    ] = False,
    size: Annotated[
        bool, flag("--size", "-s", help="Also what they have written, and the size of their logs")
    ] = False,
    watch: Annotated[
        bool, flag("--watch", "-w", help="Go on, and show each change as it happens, until Ctrl-C")
    ] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """List containers.

    --filter takes id, name, label, status, exited, health, ancestor, before, since, network,
    volume, publish, expose and is-task, each as KEY=VALUE; of one key any value may fit (of
    label all must), and every key has to.
    """
    limit = 1 if latest and last < 0 else last
    query = {
        "all": True if all else None,
        "limit": limit if limit > 0 else None,
        "filters": parse_filters(filter),
        "size": True if size or ".Size" in format else None,
    }
    columns = (*_COLUMNS, "Size") if size else _COLUMNS

    def text() -> str:
        listed: list[dict[str, Any]] = engine.json("GET", "/containers/json", query)
        if quiet and not format:
            ids = (one["Id"] if no_trunc else one["Id"][:12] for one in listed)
            return "".join(id + "\n" for id in ids)
        now = time.time()
        rows = [_row(container, now, no_trunc=no_trunc) for container in listed]
        return rendered(rows, _HEADINGS, columns, format)

    if watch:
        from mdocker.watching import watch as keep_showing

        keep_showing(engine, text)
    else:
        sys.stdout.write(text())
    return 0


def _row(container: dict[str, Any], now: float, *, no_trunc: bool) -> Row:
    command = str(container.get("Command", ""))
    labels = container.get("Labels")
    networks = (container.get("NetworkSettings") or {}).get("Networks") or {}
    mounts = [
        str(mount.get("Name") or mount.get("Source") or "")
        for mount in container.get("Mounts") or []
    ]
    return {
        "ID": container["Id"] if no_trunc else container["Id"][:12],
        "Image": _image(str(container.get("Image") or "<no image>"), no_trunc=no_trunc),
        "Command": json.dumps(
            command if no_trunc else shorten(command, _COMMAND_WIDTH), ensure_ascii=False
        ),
        "CreatedAt": to_go_string(container.get("Created", 0)),
        "RunningFor": f"{human_duration(now - container.get('Created', 0))} ago",
        "Ports": _ports(container.get("Ports") or []),
        "State": container.get("State", ""),
        "Status": container.get("Status", ""),
        "Names": ",".join(
            name.removeprefix("/") for name in container.get("Names") or [] if name.count("/") < 2
        ),
        "Size": size_text(container),
        "Labels": labels_text(labels),
        "LocalVolumes": str(
            sum(mount.get("Driver") == "local" for mount in container.get("Mounts") or [])
        ),
        "Mounts": ",".join(mounts if no_trunc else (shorten(mount, 15) for mount in mounts)),
        "Networks": ",".join(networks),
        "Label": label_field(labels),
    }


def size_text(container: dict[str, Any]) -> str:
    """Print what a container weighs, as Docker does, and its log."""
    own, log = container.get("SizeRw") or 0, container.get("SizeLog") or 0
    whole = container.get("SizeRootFs") or 0
    beside = [f"log {human_size(log)}"] if log else []
    beside += [f"virtual {human_size(whole)}"] if whole else []
    return human_size(own) + (f" ({', '.join(beside)})" if beside else "")


def _image(name: str, *, no_trunc: bool) -> str:
    """An image that has lost its name goes by its id, which is shortened like any other."""
    short = name.removeprefix("sha256:")
    return name if no_trunc or short == name else short[:12]


def _ports(ports: list[dict[str, Any]]) -> str:
    texts = []
    for port in ports:
        text = f"{port.get('PrivatePort')}/{port.get('Type', 'tcp')}"
        if port.get("PublicPort"):
            text = f"{port.get('IP', '')}:{port['PublicPort']}->{text}"
        texts.append(text)
    return ", ".join(texts)
