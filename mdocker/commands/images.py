"""`images`, `import`, `tag` and `rmi`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

from mdocker.client import Engine
from mdocker.errors import FAILED, CliError, UsageError
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
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "Digest": "DIGEST",
    "Containers": "CONTAINERS",
}
_COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size")
_WITH_DIGESTS = ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size")
_NONE = "<none>"
_UNKNOWN = "N/A"
_MEANT_PERHAPS = frozenset(
    {
        *("build", "history", "import", "inspect", "list", "load", "ls", "prune", "pull", "push"),
        *("rm", "save", "tag"),
    }
)


def images(
    repository: str = "",
    /,
    *,
    all: Annotated[bool, flag("--all", "-a", help="Also intermediate images")] = False,
    quiet: Annotated[bool, flag("--quiet", "-q", help="Ids only")] = False,
    no_trunc: Annotated[bool, flag("--no-trunc", help="Cut nothing short")] = False,
    digests: Annotated[bool, flag("--digests", help="What registries call them, too")] = False,
    tree: Annotated[
        bool, flag("--tree", help="What each holds on the disk, its platforms below it")
    ] = False,
    filter: Annotated[
        tuple[str, ...],
        flag(
            "--filter",
            "-f",
            help="dangling=true, reference=PATTERN, label=KEY[=VALUE], before=IMAGE, since=IMAGE, "
            "until=24h",
        ),
    ] = (),
    format: Annotated[str, flag("--format", help="json, a Go template, or 'table TEMPLATE'")] = "",
    engine: Annotated[Engine, injected()],
) -> int:
    """List images, the newest first.

    A pattern such as 'lib*/b?x:[12]*' is held against names with and without their tags; a star
    goes across no slash. Images without a name that others were made of are shown by --all alone.
    """
    if tree:
        refuse = (("-q", quiet), ("--no-trunc", no_trunc), ("--digests", digests))
        for name, given in (*refuse, ("--format", bool(format))):
            if given:
                raise UsageError(f"{name} does not go with --tree", FAILED)
    filters = (*filter, f"reference={repository}") if repository else filter
    query = {"all": True if all else None, "filters": parse_filters(filters)}
    if tree:
        from mdocker.image_tree import show_tree

        show_tree(engine.json("GET", "/images/json", query | {"manifests": True}))
        return 0
    if "{{.SharedSize" in format or "{{.UniqueSize" in format:
        query["shared-size"] = True
    listed: list[dict[str, Any]] = engine.json("GET", "/images/json", query)
    if not listed and not filter and repository in _MEANT_PERHAPS:
        complain(
            f'No images found matching "{repository}": did you mean "mdocker image {repository}"?'
        )
    now = time.time()
    digests = digests or "{{.Digest" in format
    rows = [
        row for image in listed for row in _rows(image, now, no_trunc=no_trunc, digests=digests)
    ]
    # An id comes once for each name, as Docker does it.
    columns = _WITH_DIGESTS if digests else _COLUMNS
    show(rows, _HEADINGS, columns, format, only="ID" if quiet else "")
    return 0


def _rows(
    image: dict[str, Any], now: float, *, no_trunc: bool, digests: bool = False
) -> Iterator[Row]:
    """A line for each of its names."""
    created = image.get("Created", 0)
    containers, shared = image.get("Containers", -1), image.get("SharedSize", -1)
    size = image.get("Size", 0)
    for repository, tag, digest in _names(image, digests=digests):
        yield {
            "Repository": repository,
            "Tag": tag,
            "ID": image["Id"] if no_trunc else image["Id"].partition(":")[2][:12],
            "CreatedSince": f"{human_duration(now - created)} ago" if created else _UNKNOWN,
            "CreatedAt": to_go_string(created),
            "Size": human_size(size, 3),
            "VirtualSize": human_size(size),
            "SharedSize": human_size(shared) if shared >= 0 else _UNKNOWN,
            "UniqueSize": human_size(size - shared) if shared >= 0 else _UNKNOWN,
            "Digest": digest,
            "Containers": _UNKNOWN if containers < 0 else str(containers),
        }


def _names(image: dict[str, Any], *, digests: bool) -> Iterator[tuple[str, str, str]]:
    """Repository, tag and digest of each line.

    Args:
        digests: A line for each digest of a tag's repository; else each tag has one line.
    """
    called: dict[str, tuple[list[str], list[str]]] = {}
    for name in image.get("RepoTags") or ():
        repository, _, tag = name.rpartition(":")
        called.setdefault(repository, ([], []))[0].append(tag)
    for name in image.get("RepoDigests") or ():
        repository, _, digest = name.rpartition("@")
        called.setdefault(repository, ([], []))[1].append(digest)
    for repository, (tags, known) in called.items():
        shown = known if digests and known else [_NONE]
        for tag in tags or [_NONE]:
            yield from ((repository, tag, digest) for digest in shown)
    if not called:
        yield _NONE, _NONE, _NONE


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
    """Make an image of a root file system's tar (plain, gzip, bzip2, xz or zstd).

    SOURCE is a file, - for standard input, or a URL (http or https) that the engine fetches.
    Changes: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER,
    VOLUME and WORKDIR.
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
    platform: Annotated[
        str, flag("--platform", help="Only if it is for this one, such as linux/arm64")
    ] = "",
    engine: Annotated[Engine, injected()],
) -> int:
    """Remove images, or names of them."""
    code = 0
    query = {
        "force": True if force else None,
        "noprune": True if no_prune else None,
        "platforms": platform or None,
    }
    for one in (image, *more):
        try:
            for step in engine.json("DELETE", f"/images/{quote(one, b'/:@')}", query):
                for what, which in step.items():
                    say(f"{what}: {which}")
        except CliError as error:
            complain(str(error))
            code = FAILED
    return code
