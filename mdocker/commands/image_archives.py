"""`save` and `load`."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated, Any

from mdocker import saved_file
from mdocker.client import Engine
from mdocker.errors import FAILED, UsageError
from mdocker.messages import Request, read_news
from mdocker.options import flag, injected
from mdocker.output import is_terminal, say, warn
from mdocker.paths import repeated, target
from mdocker.transfer_lines import Layers
from mdocker.upload import answer_lines, opened, progress, read_piece


def save(
    image: str,
    /,
    *more: str,
    output: Annotated[
        str, flag("--output", "-o", help="A file to write to, instead of standard output")
    ] = "",
    platform: Annotated[
        str, flag("--platform", help="What the images must be for, such as linux/arm64")
    ] = "",
    engine: Annotated[Engine, injected()],
) -> int:
    """Write images as one tar, as 'mdocker load', docker, podman and skopeo read it.

    It is an OCI image layout and docker's own format at once. A layer that several images share is
    in it once. A name without a tag means all tags of that repository.
    """
    saved_file.check(output, "failed to save image")
    path = target("/images/get", {"names": image, "platform": platform or None})
    with engine.stream("GET", repeated(path, "names", more)) as stream:
        size = stream.headers.get("mdocker-archive-size", "")
        with progress("Saving", int(size) if size.isdigit() else None) as advance:
            saved_file.write(stream, output, advance)
    return 0


def load(
    *,
    input: Annotated[
        str, flag("--input", "-i", help="A file to read, instead of standard input")
    ] = "",
    quiet: Annotated[bool, flag("--quiet", "-q", help="Show no progress")] = False,
    platform: Annotated[
        str, flag("--platform", help="Take the images for this one, such as linux/arm64")
    ] = "",
    engine: Annotated[Engine, injected()],
) -> int:
    """Load images, with their names, from a tar that 'save' has written.

    Whoever has written it: mdocker, docker, podman, skopeo or buildah, as docker's format or as an
    OCI image layout; plain, or compressed by gzip, bzip2, xz or zstd. Of an image for several
    platforms the one for this machine is taken. All of an image is loaded, or nothing.
    """
    if not input and is_terminal(0):
        raise UsageError("requested load from stdin, but stdin is empty", FAILED)
    show_layers = is_terminal(1) and not quiet
    path = target("/images/load", {"quiet": not show_layers, "platform": platform or None})
    source = input or "-"
    with (
        opened(source) as (file, size),
        contextlib.closing(engine.connection()) as connection,
        contextlib.ExitStack() as sending,
    ):
        connection.send(Request("POST", path, chunked="application/x-tar"))
        advance = _nobody if quiet else sending.enter_context(progress("Sending", size))
        lines = answer_lines(connection, lambda: read_piece(file, source), advance)
        with contextlib.closing(Layers(sys.stdout)) as layers:
            for line in lines:
                sending.close()
                _show(read_news(line), layers if show_layers else None)
    return 0


def _show(news: dict[str, Any], layers: Layers | None) -> None:
    if text := str(news.get("stream") or ""):
        if layers is not None:
            layers.close()
        say(text.rstrip("\n"))
    elif str(news.get("status") or "").startswith("warning: "):
        warn(str(news["status"]).removeprefix("warning: "))
    elif layers is not None:
        layers.take(news)


def _nobody(step: int) -> None:
    """Nobody wants to know how far it is."""
