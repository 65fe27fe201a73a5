"""`commit`."""

from __future__ import annotations

from typing import Annotated

from mdocker.client import Engine
from mdocker.errors import FAILED, UsageError
from mdocker.options import flag, injected
from mdocker.output import say
from mdocker.paths import repeated, target


def commit(
    container: str,
    name: str = "",
    /,
    *,
    author: Annotated[
        str, flag("--author", "-a", help='Such as "Ann Example <ann@example.org>"')
    ] = "",
    change: Annotated[
        tuple[str, ...],
        flag("--change", "-c", help="A Dockerfile instruction, such as 'CMD [\"sh\"]'"),
    ] = (),
    message: Annotated[str, flag("--message", "-m", help="A comment for the image")] = "",
    pause: Annotated[
        bool,
        flag("--pause", "-p", help="Pause the container meanwhile; --pause=false to let it run"),
    ] = True,
    no_pause: Annotated[bool, flag("--no-pause", help="The same as --pause=false")] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Make an image of what a container is now: its files and its configuration.

    What lies in volumes and other mounts is not in it. A container that runs is paused while its
    files are read. Changes: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL,
    STOPSIGNAL, USER, VOLUME and WORKDIR.
    """
    if not container:
        raise UsageError("Container name cannot be empty", FAILED)
    query = {
        "container": container.removeprefix("/"),
        "repo": name or None,
        "author": author or None,
        "comment": message or None,
        "pause": None if pause and not no_pause else False,
    }
    path = repeated(target("/commit", query), "changes", change)
    say(engine.json("POST", path)["Id"])
    return 0
