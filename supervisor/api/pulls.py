"""POST /images/create with fromImage. There are no registries yet: what is here is told, and that
nobody was asked for a newer one; what is not here is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from runtime.images import references
from supervisor.api.create import check_platform
from supervisor.api.messages import Reply, Request
from supervisor.engine import Engine
from supervisor.errors import BadParameter, NotFound

_SYSTEMS = frozenset({"darwin", "freebsd", "linux", "windows"})
_MACHINES = frozenset(
    {"386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x"}
)
_PART = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_encode = msgspec.json.Encoder().encode


async def pull(engine: Engine, request: Request) -> Reply:
    """Tell the images that are here under the name asked for; all tags if it names none.

    Raises:
        InvalidReference: It is no name.
        BadParameter: `platform` is no platform.
        NotFound: No image has the name, or what has it is for another platform.
    """
    name, tag = request.parameter("fromImage"), request.parameter("tag")
    platform = _platform(request.parameter("platform"))
    if tag:
        name += f"{'@' if tag.startswith('sha256:') else ':'}{tag}"
    wanted = references.parse(name)
    if wanted.tag or wanted.digest:
        here = _named(engine, lambda tag: tag == wanted.tagged())
    else:
        here = _named(engine, lambda tag: tag.rpartition(":")[0] == wanted.familiar_name)
    if not here:
        raise NotFound(
            # Clients (docker-py's ImageNotFound) know a missing image by Docker's words about it.
            f"pull access denied for {wanted.familiar}, repository does not exist: mdocker cannot "
            "pull from registries yet; use `mdocker import` for a root file system archive, or the "
            "built-in image `host`"
        )
    for found in here:
        check_platform(platform, engine.images.resolve(found), found)
    lines = [
        _encode(
            {
                "status": f"Status: Image {found} is here and is used as it is: mdocker cannot ask "
                "registries for a newer one yet"
            }
        )
        for found in here
    ]
    return Reply(body=b"".join(line + b"\r\n" for line in lines))


def _named(engine: Engine, fits: Callable[[str], bool]) -> list[str]:
    return sorted(tag for image in engine.images.images() for tag in image.tags if fits(tag))


def _platform(asked: str) -> str:
    """Check a platform as containerd's parser does: system, machine, or both and a variant."""
    parts = asked.lower().split("/")
    if not asked or (len(parts) in (2, 3) and all(map(_PART.fullmatch, parts))):
        return asked
    if len(parts) > 1:
        raise BadParameter(f'"{asked}": cannot parse platform specifier: invalid argument')
    if parts[0] not in _SYSTEMS | _MACHINES:
        # Docker's words, to the letter: clients compare them.
        raise BadParameter(f'"{asked}": unknown operating system or architecture: invalid argument')
    return f"linux/{asked}" if parts[0] in _MACHINES else asked
