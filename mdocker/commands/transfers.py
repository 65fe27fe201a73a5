"""`pull` and `push`."""

from __future__ import annotations

import sys
from typing import Annotated

from mdocker import image_names
from mdocker.client import Engine
from mdocker.errors import FAILED, UsageError
from mdocker.options import flag, injected
from mdocker.output import say
from mdocker.transfers import pull as pull_image
from mdocker.transfers import push as push_image


def pull(
    image: str,
    /,
    *,
    all_tags: Annotated[
        bool, flag("--all-tags", "-a", help="All tags that the repository has")
    ] = False,
    platform: Annotated[
        str,
        flag(
            "--platform", help="For another machine than this, such as linux/arm64 or linux/arm/v7"
        ),
    ] = "",
    quiet: Annotated[
        bool, flag("--quiet", "-q", help="Print the image's whole name alone")
    ] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Download an image from a registry.

    The name says where it is: [REGISTRY[:PORT]/]PATH, at docker.io if no registry is named. A tag
    means whatever the registry calls so now ('latest' if none is given), a digest one image for
    ever. Layers that are here are not downloaded again. Ctrl-C ends it, and nothing stays of it.
    Who you are at a registry is taken from ~/.docker/config.json.
    """
    name = image_names.read(image)
    if all_tags and name.suffix:
        raise UsageError("tag can't be used with --all-tags/-a", FAILED)
    _say_default_tag(name, all_tags=all_tags, quiet=quiet)
    pull_image(engine, image, platform=platform, all_tags=all_tags, quiet=quiet, out=sys.stdout)
    say(name.full if all_tags else name.tagged().full)
    return 0


def push(
    image: str,
    /,
    *,
    all_tags: Annotated[bool, flag("--all-tags", "-a", help="All tags of this repository")] = False,
    quiet: Annotated[
        bool, flag("--quiet", "-q", help="Print the image's whole name alone")
    ] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Upload an image to the registry that its name says.

    Give it such a name by 'mdocker tag' first: [REGISTRY[:PORT]/]PATH[:TAG]. Layers that the
    registry has are not sent. What lies on the image 'host' can't be pushed: it is this machine's
    files. Who you are at a registry is taken from ~/.docker/config.json.
    """
    name = image_names.read(image)
    if all_tags and name.suffix:
        raise UsageError("tag can't be used with --all-tags/-a", FAILED)
    _say_default_tag(name, all_tags=all_tags, quiet=quiet)
    push_image(engine, image, all_tags=all_tags, quiet=quiet)
    if quiet:
        say(name.full if all_tags else name.tagged().full)
    return 0


def _say_default_tag(name: image_names.ImageName, *, all_tags: bool, quiet: bool) -> None:
    if not (name.suffix or all_tags or quiet):
        say("Using default tag: latest")
        sys.stdout.flush()
