"""Pull and push: the request with the credentials, the answer's lines to whoever looks."""

from __future__ import annotations

import contextlib
import sys
from typing import TextIO

from mdocker import image_names
from mdocker.client import Engine
from mdocker.connection import each_line
from mdocker.credentials import registry_auth
from mdocker.errors import EngineCut
from mdocker.messages import Request, read_news
from mdocker.output import is_terminal
from mdocker.paths import Query, quote
from mdocker.transfer_lines import Layers, Plain

MOST_DEATHS = 3
"""An engine that dies more often over the same request does so because of it."""


def pull(
    engine: Engine,
    image: str,
    *,
    platform: str = "",
    all_tags: bool = False,
    quiet: bool = False,
    out: TextIO,
) -> None:
    """Have the engine pull an image, and show how far it is.

    Args:
        image: As typed.
        all_tags: Whatever the repository has.
        quiet: Show nothing.
        out: Where to show it.

    Raises:
        CliError: It can't be had; the text says why.
    """
    name = image_names.read(image)
    named = name if all_tags else name.tagged()
    repository, tag = _split(named)
    query = {"fromImage": repository, "tag": tag or None, "platform": platform or None}
    _transfer(engine, "/images/create", query, image, None if quiet else out)


def push(engine: Engine, image: str, *, all_tags: bool = False, quiet: bool = False) -> None:
    """Have the engine push an image, and show on stdout how far it is.

    Raises:
        CliError: It can't be done; the text says why.
    """
    name = image_names.read(image)
    repository, tag = _split(name if all_tags else name.tagged())
    path = f"/images/{quote(repository, b'/:@')}/push"
    _transfer(engine, path, {"tag": tag or None}, image, None if quiet else sys.stdout)


def _split(name: image_names.ImageName) -> tuple[str, str]:
    """Repository, and tag or digest, as the API wants them."""
    if "@" in name.suffix:
        return name._replace(suffix="").full, name.suffix.partition("@")[2]
    return name._replace(suffix="").full, name.suffix.removeprefix(":")


def _transfer(engine: Engine, path: str, query: Query, image: str, out: TextIO | None) -> None:
    """Make the request; once more if the engine dies meanwhile, as it can be made again."""
    headers = (("X-Registry-Auth", registry_auth(image)),)
    request = Request.make("POST", path, query)._replace(headers=headers)
    shown = None if out is None else Layers(out) if is_terminal(out.fileno()) else Plain(out)

    def take(line: bytes) -> bool:
        if line.strip():
            news = read_news(line)
            if shown is not None:
                shown.take(news)
        return True

    try:
        for deaths in range(MOST_DEATHS + 1):
            try:
                with contextlib.closing(engine.connection()) as connection:
                    connection.send(request)
                    each_line(connection.stream(), take)
                return
            except EngineCut as cut:
                if deaths == MOST_DEATHS:
                    raise
                from mdocker.comeback import await_engine

                await_engine(engine.dial, cut).close()
    finally:
        if shown is not None:
            shown.close()
