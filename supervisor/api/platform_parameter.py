"""The parameter `platform` of requests about images, as the API has it since 1.48: in JSON."""

from __future__ import annotations

import msgspec

from supervisor.api.messages import Request
from supervisor.api.parameters import shown
from supervisor.errors import BadParameter
from supervisor.registries import platforms
from supervisor.registries.manifests import PlatformSpec


class _Asked(msgspec.Struct):
    architecture: str
    os: str
    variant: str = ""


def asked(request: Request) -> PlatformSpec | None:
    """Return the platform that a request is about; None where it names none.

    Raises:
        BadParameter: It is none.
    """
    text = request.parameter("platform")
    return parse(text) if text else None


def parse(text: str) -> PlatformSpec:
    """Read a platform (`linux/arm64` is taken, too).

    Raises:
        BadParameter: It is none.
    """
    if not text.lstrip().startswith("{"):
        return platforms.parse(text)
    try:
        found = msgspec.json.decode(text, type=_Asked)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise BadParameter(f"invalid platform {shown(text)}: {error}") from None
    return platforms.normalised(PlatformSpec(found.os, found.architecture, found.variant))
