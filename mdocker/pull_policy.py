"""`--pull` of `run` and `create`: when the image is pulled first."""

from __future__ import annotations

import sys

from mdocker.client import Engine
from mdocker.container_options import ContainerOptions
from mdocker.errors import EngineRefused, UsageError

_POLICIES = ("always", "missing", "never")


def check_policy(policy: str) -> None:
    """Refuse a --pull that is none of Docker's.

    Raises:
        UsageError: It is something else.
    """
    if policy not in _POLICIES:
        raise UsageError(f"invalid pull option: '{policy}': must be one of {', '.join(_POLICIES)}")


def is_missing(error: EngineRefused) -> bool:
    """Whether the engine says that it does not have an image, or not for the platform asked."""
    return error.status == 404 and error.message.lower().startswith(("no such image", "image "))


def pull_for_run(
    engine: Engine, image: str, options: ContainerOptions, *, because_missing: bool = False
) -> None:
    """Pull the image of a container. All that is to be said of it goes to stderr.

    Args:
        because_missing: Say so.

    Raises:
        CliError: It can't be had.
    """
    from mdocker import image_names
    from mdocker.transfers import pull

    if because_missing and not options.quiet:
        name = image_names.read(image).tagged().familiar
        sys.stderr.write(f"Unable to find image '{name}' locally\n")
        sys.stderr.flush()
    pull(engine, image, platform=options.platform, quiet=options.quiet, out=sys.stderr)


def ensure_image(engine: Engine, image: str, options: ContainerOptions) -> None:
    """Have the image here before several containers are made of it, as the policy says.

    Raises:
        CliError: It can't be had.
    """
    from mdocker.paths import quote

    check_policy(options.pull)
    if options.pull == "always":
        pull_for_run(engine, image, options)
    elif options.pull == "missing":
        try:
            engine.call("GET", f"/images/{quote(image, b'/:@')}/json")
        except EngineRefused as error:
            if is_missing(error):  # the rest is told when containers are made
                pull_for_run(engine, image, options, because_missing=True)
