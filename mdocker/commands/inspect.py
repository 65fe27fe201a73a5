"""`inspect`, `container inspect` and `image inspect`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from mdocker.client import Engine
from mdocker.errors import FAILED, EngineRefused, UsageError
from mdocker.messages import Json
from mdocker.options import flag, injected
from mdocker.output import complain, say
from mdocker.paths import container_path, quote

_FORMAT = "json, or a Go template such as {{.State.Status}}"
_SIZE = "Also what containers and their logs weigh"


def inspect(
    name: str,
    /,
    *more: str,
    format: Annotated[str, flag("--format", "-f", help=_FORMAT)] = "",
    type: Annotated[str, flag("--type", help="container, image or volume")] = "",
    size: Annotated[bool, flag("--size", "-s", help=_SIZE)] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Show everything about containers, images or volumes, as JSON or by a template.

    A name is looked for among the containers first, then among the images, then the volumes.
    """
    places: dict[str, Callable[[str], Json]] = {
        "container": lambda wanted: _container(engine, wanted, size=size),
        "image": lambda wanted: _image(engine, wanted),
        "volume": lambda wanted: engine.json("GET", f"/volumes/{quote(wanted)}"),
    }
    if type not in ("", *places):
        raise UsageError(
            f'invalid argument "{type}" for "--type": must be container, image or volume', FAILED
        )

    def look_up(wanted: str) -> Json:
        for kind in (type,) if type else places:
            try:
                return places[kind](wanted)
            except EngineRefused as error:
                if error.status != 404 or type:
                    raise
        raise EngineRefused(404, f"no container, image or volume is called {wanted}")

    return _show((name, *more), look_up, format)


def inspect_container(
    container: str,
    /,
    *more: str,
    format: Annotated[str, flag("--format", "-f", help=_FORMAT)] = "",
    size: Annotated[bool, flag("--size", "-s", help=_SIZE)] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Show everything about containers, as JSON or by a template."""
    names = (container, *more)
    return _show(names, lambda wanted: _container(engine, wanted, size=size), format)


def inspect_image(
    image: str,
    /,
    *more: str,
    format: Annotated[
        str, flag("--format", "-f", help="json, or a Go template such as {{.RepoDigests}}")
    ] = "",
    platform: Annotated[
        str, flag("--platform", help="Only if it is for this one, such as linux/arm64")
    ] = "",
    engine: Annotated[Engine, injected()],
) -> int:
    """Show everything about images, as JSON or by a template."""
    names = (image, *more)
    return _show(names, lambda wanted: _image(engine, wanted, platform), format)


def _container(engine: Engine, wanted: str, *, size: bool) -> Json:
    return engine.json("GET", container_path(wanted, "json"), {"size": True} if size else None)


def _image(engine: Engine, wanted: str, platform: str = "") -> Json:
    path = f"/images/{quote(wanted, b'/:@')}/json"
    return engine.json("GET", path, {"platform": platform or None})


def _show(names: Sequence[str], look_up: Callable[[str], Json], format: str) -> int:
    """Print what is found, then what is not; returns the exit code."""
    template = None
    if format and format != "json":
        from mdocker.template import Template

        template = Template(format)
    found: list[Any] = []
    failures: list[str] = []
    for wanted in names:
        try:
            found.append(look_up(wanted))
        except EngineRefused as error:
            failures.append(str(error))
    if template is not None:
        from mdocker.unset_fields import with_unset

        for thing in found:
            say(template.render(with_unset(thing)))
    elif format == "json":
        for thing in found:
            say(json.dumps(thing, separators=(",", ":"), ensure_ascii=False))
    else:
        say(json.dumps(found, indent=4, ensure_ascii=False))
    for failure in failures:
        complain(failure)
    return FAILED if failures else 0
