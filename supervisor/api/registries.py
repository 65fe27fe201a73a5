"""What clients ask about registries: a login, and what there is under a name."""

from __future__ import annotations

from typing import Any

import msgspec

from runtime.images import references
from supervisor.api.messages import Reply, Request
from supervisor.api.parameters import json_object
from supervisor.engine import Engine
from supervisor.errors import Unsupported
from supervisor.registries import credentials, manifests
from supervisor.registries.errors import LoginRefused, Unauthorized, UnsupportedManifest
from supervisor.registries.login import log_in
from supervisor.registries.manifests import Descriptor, Manifest
from supervisor.registries.repository import Repository

LARGEST_CONFIG = 8 * 1024 * 1024

_encode = msgspec.json.Encoder().encode


async def auth(engine: Engine, request: Request) -> Reply | None:
    """POST /auth"""
    asked = credentials.from_object(await json_object(request, optional=True))
    token = None
    with request.connection.hangups.cancelling(request.connection.stream) as scope:
        token = await log_in(engine.registries, asked)
    if token is None or scope.cancelled_caught:
        request.connection.abandon()
        return None
    return Reply(body=_encode({"IdentityToken": token, "Status": "Login Succeeded"}))


async def distribution(engine: Engine, request: Request) -> Reply | None:
    """GET /distribution/{name}/json"""
    reference = references.parse(request.names[0])
    auth = credentials.from_header(request.header(b"x-registry-auth"))
    repository = engine.registries.repository(reference, auth)
    wanted = reference.digest or reference.tag or references.DEFAULT_TAG
    shown = None
    with request.connection.hangups.cancelling(request.connection.stream) as scope:
        try:
            manifest = await repository.manifest(wanted)
            shown = {
                "Descriptor": {
                    "mediaType": manifest.media_type,
                    "digest": manifest.digest,
                    "size": len(manifest.data),
                },
                "Platforms": await _platforms(repository, manifest),
            }
        except Unauthorized as error:
            raise LoginRefused(str(error)) from error
    if shown is None or scope.cancelled_caught:
        request.connection.abandon()
        return None
    return Reply(body=_encode(shown))


async def _platforms(repository: Repository, manifest: Manifest) -> list[dict[str, str]]:
    """Return which platforms there is an image for, as clients see them."""
    if manifest.is_list:
        named = [entry.platform for entry in manifests.parse_list(manifest)]
        return [_platform(*one[:3]) for one in named if one is not None]
    config = await _config(repository, manifests.parse_image(manifest).config)
    return [_platform(*(config.get(word) for word in ("os", "architecture", "variant")))]


def _platform(system: object, machine: object, variant: object) -> dict[str, str]:
    parts = {"architecture": machine, "os": system, "variant": variant}
    return {name: word for name, word in parts.items() if isinstance(word, str) and word}


async def _config(repository: Repository, descriptor: Descriptor) -> dict[str, Any]:
    if descriptor.size > LARGEST_CONFIG:
        raise UnsupportedManifest(f"the image's configuration has {descriptor.size} bytes")
    async with repository.blob(descriptor.digest, descriptor.size) as pieces:
        data = b"".join([piece async for piece in pieces])
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UnsupportedManifest("the image's configuration is no JSON object")
    return found


async def search(_engine: Engine, _request: Request) -> Reply:
    """GET /images/search"""
    raise Unsupported(
        "mdocker does not do searches: the API for it is Docker Hub's own, and other registries "
        "have none. Search at https://hub.docker.com, then 'mdocker pull NAME'; the tags of a "
        "repository are at https://REGISTRY/v2/NAME/tags/list"
    )
