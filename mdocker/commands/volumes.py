"""`volume create`, `volume ls`, `volume inspect`, `volume rm` and `volume prune`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from mdocker.agreement import agreed
from mdocker.client import Engine
from mdocker.commands.prune import prune_volumes
from mdocker.errors import FAILED, CliError, EngineRefused
from mdocker.listing import Row, label_field, labels_text, parse_filters, show
from mdocker.options import flag, injected
from mdocker.output import complain, say
from mdocker.paths import quote
from mdocker.units import human_size

_HEADINGS: Row = {
    "Driver": "DRIVER",
    "Name": "VOLUME NAME",
    "Labels": "LABELS",
    "Mountpoint": "MOUNTPOINT",
    "Scope": "SCOPE",
    "Size": "SIZE",
    "Links": "LINKS",
    "Label": lambda key: key.rpartition(".")[2].replace("-", " ").replace("_", " "),
}
_COLUMNS = ("Driver", "Name")


def create(
    name: str = "",
    /,
    *,
    driver: Annotated[str, flag("--driver", "-d", help="local, which is the only one")] = "local",
    opt: Annotated[
        tuple[str, ...],
        flag(
            "--opt",
            "-o",
            help="KEY=VALUE for the driver: type=none, o=bind, device=PATH shows a directory of "
            "the machine; type=tmpfs, device=tmpfs, o=size=64m is one in memory",
        ),
    ] = (),
    label: Annotated[tuple[str, ...], flag("--label", help="Set a label, KEY=VALUE")] = (),
    engine: Annotated[Engine, injected()],
) -> int:
    """Create a volume, by a name or without one, and print its name.

    `mdocker run -v NAME:PATH` creates it by itself. One that is there stays as it is.
    """
    body: dict[str, Any] = {"Driver": driver}
    if name:
        body["Name"] = name
    if opt:
        body["DriverOpts"] = _pairs(opt)
    if label:
        body["Labels"] = _pairs(label)
    say(engine.json("POST", "/volumes/create", None, body)["Name"])
    return 0


def _pairs(words: Sequence[str]) -> dict[str, str]:
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def ls(
    *,
    quiet: Annotated[bool, flag("--quiet", "-q", help="Names only")] = False,
    filter: Annotated[
        tuple[str, ...],
        flag("--filter", "-f", help="name=, label=, dangling=true (no container has it), driver="),
    ] = (),
    format: Annotated[str, flag("--format", help="json, a Go template, or 'table TEMPLATE'")] = "",
    engine: Annotated[Engine, injected()],
) -> int:
    """List volumes."""
    told = engine.json("GET", "/volumes", {"filters": parse_filters(filter)})
    volumes: list[dict[str, Any]] = told.get("Volumes") or []
    rows = [_row(volume) for volume in volumes]
    show(rows, _HEADINGS, _COLUMNS, format, only="Name" if quiet else "")
    return 0


def _row(volume: Mapping[str, Any]) -> Row:
    labels = volume.get("Labels")
    return {
        "Driver": volume.get("Driver", ""),
        "Name": volume.get("Name", ""),
        "Labels": labels_text(labels),
        "Mountpoint": volume.get("Mountpoint", ""),
        "Scope": volume.get("Scope", ""),
        # As in Docker: a list does not weigh them, `system df -v` does.
        "Size": "N/A",
        "Links": "N/A",
        "Label": label_field(labels),
    }


def inspect(
    volume: str,
    /,
    *more: str,
    format: Annotated[str, flag("--format", "-f", help="json, or a Go template")] = "",
    engine: Annotated[Engine, injected()],
) -> int:
    """Show everything about volumes, as JSON."""
    found, code = [], 0
    for name in (volume, *more):
        try:
            found.append(engine.json("GET", _path(name)))
        except EngineRefused as error:
            complain(str(error))
            code = FAILED
    if format in ("", "json"):
        indent = None if format else 4
        separators = (",", ":") if format else None
        text = json.dumps(found, indent=indent, separators=separators, ensure_ascii=False)
        sys.stdout.write(text + "\n")
        return code
    from mdocker.template import Template

    template = Template(format)
    for one in found:
        say(template.render(one))
    return code


def rm(
    volume: str,
    /,
    *more: str,
    force: Annotated[bool, flag("--force", "-f", help="One that is not there is no error")] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Remove volumes, with all that is in them. One that a container has can't be removed."""
    code = 0
    for name in (volume, *more):
        try:
            engine.call("DELETE", _path(name), {"force": True if force else None})
            say(name)
        except CliError as error:
            complain(str(error))
            code = FAILED
    return code


def prune(
    *,
    all: Annotated[bool, flag("--all", "-a", help="Those with a name, too")] = False,
    filter: Annotated[
        tuple[str, ...], flag("--filter", help="label=KEY=VALUE or label!=KEY=VALUE")
    ] = (),
    force: Annotated[bool, flag("--force", "-f", help="Don't ask")] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Remove the volumes that no container has: the anonymous ones; with --all all of them."""
    which = "all" if all else "anonymous"
    warning = f"This will remove {which} local volumes not used by at least one container."
    if not force and not agreed("volume prune", warning):
        return 0
    freed = prune_volumes(engine, (*filter, "all=1") if all else filter)
    say(f"Total reclaimed space: {human_size(freed)}")
    return 0


def _path(name: str) -> str:
    return f"/volumes/{quote(name)}"
