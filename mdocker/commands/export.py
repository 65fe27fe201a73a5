"""`export`."""

from __future__ import annotations

from typing import Annotated

from mdocker import saved_file
from mdocker.client import Engine
from mdocker.options import flag, injected
from mdocker.paths import container_path


def export(
    container: str,
    /,
    *,
    output: Annotated[
        str, flag("--output", "-o", help="A file to write to, instead of standard output")
    ] = "",
    engine: Annotated[Engine, injected()],
) -> int:
    """Write a container's root file system as a tar, as 'mdocker import' reads it.

    It may run. What is mounted in it is left out: an empty directory stands in its place (of the
    image host so does /usr, which is this machine's own).
    """
    saved_file.check(output, "failed to export container")
    with engine.stream("GET", container_path(container, "export")) as stream:
        saved_file.write(stream, output)
    return 0
