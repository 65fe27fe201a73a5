"""`images`, `import`, `tag` and `rmi`."""

from __future__ import annotations

import time
from typing import Annotated, Any

from mdocker.client import Engine
from mdocker.errors import FAILED, CliError, UsageError
from mdocker.image_rows import HEADINGS, image_rows
from mdocker.listing import parse_filters, show
from mdocker.options import flag, injected
from mdocker.output import complain, say
from mdocker.paths import quote

_COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size")
_WITH_DIGESTS = ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size")
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
        row
        for image in listed
        for row in image_rows(image, now, no_trunc=no_trunc, digests=digests)
    ]
    # An id comes once for each name, as Docker does it.
    columns = _WITH_DIGESTS if digests else _COLUMNS
    show(rows, HEADINGS, columns, format, only="ID" if quiet else "")
    return 0


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
