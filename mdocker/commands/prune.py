"""`container prune`, `image prune`, `network prune` and `system prune`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from mdocker.agreement import agreed
from mdocker.client import Engine
from mdocker.errors import FAILED, UsageError
from mdocker.listing import parse_filters
from mdocker.options import flag, injected
from mdocker.output import say
from mdocker.units import human_size

_FORCE = "Don't ask"
_FILTER = "until=24h (or a time), label=KEY=VALUE, label!=KEY=VALUE"
_OF_IMAGES = {
    False: "all dangling images",
    True: "all images without at least one container associated to them",
}


def container(
    *,
    filter: Annotated[tuple[str, ...], flag("--filter", help=_FILTER)] = (),
    force: Annotated[bool, flag("--force", "-f", help=_FORCE)] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Remove all containers that do not run."""
    if not force and not agreed("container prune", "This will remove all stopped containers."):
        return 0
    _total(_containers(engine, filter))
    return 0


def image(
    *,
    all: Annotated[
        bool, flag("--all", "-a", help="All that no container uses, not only those without a name")
    ] = False,
    filter: Annotated[tuple[str, ...], flag("--filter", help=_FILTER)] = (),
    force: Annotated[bool, flag("--force", "-f", help=_FORCE)] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Remove images that no container uses: those without a name; with --all all of them."""
    if not force and not agreed("image prune", f"This will remove {_OF_IMAGES[all]}."):
        return 0
    _total(_images(engine, filter, everything=all))
    return 0


def network(
    *,
    filter: Annotated[tuple[str, ...], flag("--filter", help=_FILTER)] = (),
    force: Annotated[bool, flag("--force", "-f", help=_FORCE)] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Remove networks that no container uses, of which there are none yet."""
    warning = "This will remove all custom networks not used by at least one container."
    if force or agreed("network prune", warning):
        _networks(engine, filter)
    return 0


def system(
    *,
    all: Annotated[
        bool, flag("--all", "-a", help="All images that no container uses, not only unnamed ones")
    ] = False,
    volumes: Annotated[bool, flag("--volumes", help="Anonymous volumes, too")] = False,
    filter: Annotated[tuple[str, ...], flag("--filter", help=_FILTER)] = (),
    force: Annotated[bool, flag("--force", "-f", help=_FORCE)] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Remove what is not used: containers that do not run, images, networks, perhaps volumes."""
    if volumes and any(word.startswith("until=") for word in filter):
        raise UsageError('the "until" filter is not supported with "--volumes"', FAILED)
    if not force and not agreed("system prune", _of_all(filter, everything=all, volumes=volumes)):
        return 0
    freed = _containers(engine, filter)
    _networks(engine, filter)
    if volumes:
        freed += prune_volumes(engine, filter)
    freed += _images(engine, filter, everything=all)
    _total(freed)
    return 0


def _of_all(filters: Sequence[str], *, everything: bool, volumes: bool) -> str:
    lines = [
        "This will remove:",
        "  - all stopped containers",
        "  - all networks not used by at least one container",
    ]
    if volumes:
        lines.append("  - all anonymous volumes not used by at least one container")
    lines += [f"  - {_OF_IMAGES[everything]}", ""]
    if filters:
        lines.append("  Items to be pruned will be filtered with:")
        lines += [*(f"  - {one}" for one in filters), ""]
    return "\n".join(lines)


def _containers(engine: Engine, filters: Sequence[str]) -> int:
    told = _asked(engine, "containers", filters)
    return _shown("Containers", told.get("ContainersDeleted") or (), told)


def _networks(engine: Engine, filters: Sequence[str]) -> None:
    told = _asked(engine, "networks", filters)
    _shown("Networks", told.get("NetworksDeleted") or (), told)


def _images(engine: Engine, filters: Sequence[str], *, everything: bool) -> int:
    which = "dangling=false" if everything else "dangling=true"
    told = _asked(engine, "images", (*filters, which))
    steps = [
        f"{what.lower()}: {which}"
        for step in told.get("ImagesDeleted") or ()
        for what, which in step.items()
    ]
    return _shown("Images", steps, told)


def prune_volumes(engine: Engine, filters: Sequence[str]) -> int:
    """Prune volumes and show which; return how many bytes that has freed."""
    told = _asked(engine, "volumes", filters)
    return _shown("Volumes", told.get("VolumesDeleted") or (), told)


def _asked(engine: Engine, things: str, filters: Sequence[str]) -> dict[str, Any]:
    query = {"filters": parse_filters(filters)}
    told: dict[str, Any] = engine.json("POST", f"/{things}/prune", query)
    return told


def _shown(what: str, deleted: Iterable[str], told: dict[str, Any]) -> int:
    lines = list(deleted)
    if lines:
        say(f"Deleted {what}:")
        for line in lines:
            say(line)
        say("")
    freed: int = told.get("SpaceReclaimed") or 0
    return freed


def _total(freed: int) -> None:
    say(f"Total reclaimed space: {human_size(freed)}")
