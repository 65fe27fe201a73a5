"""`images`, `import`, `tag` and `rmi`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

from mdocker.client import Engine
from mdocker.errors import FAILED, CliError
from mdocker.listing import Row, parse_filters, show
from mdocker.options import flag, injected
from mdocker.output import complain, say
from mdocker.paths import quote
from mdocker.times import to_go_string
from mdocker.units import human_duration, human_size

_HEADINGS: Row = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Digest": "DIGEST",
    "Containers": "CONTAINERS",
}
_COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size")
_NONE = "<none>"


def images(
    repository: str = "",
    /,
    *,
    all: Annotated[bool, flag("--all", "-a", help="Also intermediate images")] = False,
    quiet: Annotated[bool, flag("--quiet", "-q", help="Ids only")] = False,
    no_trunc: Annotated[bool, flag("--no-trunc", help="Cut nothing short")] = False,
    filter: Annotated[
        tuple[str, ...], flag("--filter", "-f", help="Such as dangling=true or reference=NAME")
    ] = (),
    format: Annotated[str, flag("--format", help="json, a Go template, or 'table TEMPLATE'")] = "",
    engine: Annotated[Engine, injected()],
) -> int:
    """List images."""
    filters = (*filter, f"reference={repository}") if repository else filter
    query = {"all": True if all else None, "filters": parse_filters(filters)}
    listed: list[dict[str, Any]] = engine.json("GET", "/images/json", query)
    now = time.time()
    rows = [row for image in listed for row in _rows(image, now, no_trunc=no_trunc)]
    # An id comes once for each name, as Docker does it.
    show(rows, _HEADINGS, _COLUMNS, format, only="ID" if quiet else "")
    return 0


def _rows(image: dict[str, Any], now: float, *, no_trunc: bool) -> Iterator[Row]:
    created = image.get("Created", 0)
    containers = image.get("Containers", -1)
    for name in image.get("RepoTags") or [f"{_NONE}:{_NONE}"]:
        repository, _, tag = name.rpartition(":")
        yield {
            "Repository": repository,
            "Tag": tag,
            "ID": image["Id"] if no_trunc else image["Id"].partition(":")[2][:12],
            "CreatedSince": f"{human_duration(now - created)} ago" if created else "N/A",
            "CreatedAt": to_go_string(created),
            "Size": human_size(image.get("Size", 0)),
            "Digest": _NONE,
            "Containers": "N/A" if containers < 0 else str(containers),
        }


def import_(
    source: str,
    name: str = "",
    /,
    *,
    message: Annotated[str, flag("--message", "-m", help="A comment for the image")] = "",
    change: Annotated[
        tuple[str, ...],
        flag("--change", "-c", help="A Dockerfile instruction, such as 'CMD [\"sh\"]'"),
    ] = (),
    engine: Annotated[Engine, injected()],
) -> int:
    """Make an image of a root file system's tar (plain, gzip, bzip2 or xz).

    A file named - is read from standard input.
    """
    from mdocker.upload import import_image

    say(import_image(engine, source, name, message, change))
    return 0


def tag(
    source: str,
    target: str,
    /,
    *,
    engine: Annotated[Engine, injected()],
) -> int:
    """Give an image a name more; an image that has it already loses it.

    SOURCE is a name or an id. The image goes with its last name: see 'mdocker rmi'.
    """
    engine.call("POST", f"/images/{quote(source, b'/:@')}/tag", {"repo": target})
    return 0


def rmi(
    image: str,
    /,
    *more: str,
    force: Annotated[bool, flag("--force", "-f", help="Even if a container uses it")] = False,
    no_prune: Annotated[bool, flag("--no-prune", help="Keep untagged parents")] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Remove images, or names of them."""
    code = 0
    query = {"force": True if force else None, "noprune": True if no_prune else None}
    for one in (image, *more):
        try:
            for step in engine.json("DELETE", f"/images/{quote(one, b'/:@')}", query):
                for what, which in step.items():
                    say(f"{what}: {which}")
        except CliError as error:
            complain(str(error))
            code = FAILED
    return code
