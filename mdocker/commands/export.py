"""`export`."""

from __future__ import annotations

import contextlib
import os
from typing import Annotated

from mdocker import copy_rules as rules
from mdocker.client import Engine
from mdocker.connection import Stream
from mdocker.options import flag, injected
from mdocker.output import is_terminal, write_all
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
    if not output and is_terminal(1):
        raise rules.Refused("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    if output:
        try:
            rules.check_output(output)
        except rules.Refused as refused:
            raise rules.Refused(f"failed to export container: {refused}") from None
    with engine.stream("GET", container_path(container, "export")) as stream:
        if not output:
            _pour(stream, 1)
            return 0
        # Beside it, then renamed: who reads the file finds the old one or a whole new one.
        draft = os.path.join(os.path.dirname(output), f".{os.path.basename(output)}.{os.getpid()}")
        try:
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _pour(stream, fd)
            finally:
                os.close(fd)
            os.rename(draft, output)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            if isinstance(error, OSError):
                raise rules.Refused(f"unable to write {output}: {rules.words(error)}") from error
            raise
    return 0


def _pour(stream: Stream, descriptor: int) -> None:
    while not stream.ended:
        write_all(descriptor, stream.read())
