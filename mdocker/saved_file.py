"""An archive from the engine on its way to a file or a pipe."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from mdocker import copy_rules as rules
from mdocker.connection import Stream
from mdocker.output import is_terminal, write_all


def check(output: str, what: str) -> None:
    """See that an archive can be written, before it is asked for.

    Args:
        output: The file; empty for standard output.
        what: Begins the refusal, such as "failed to save image".

    Raises:
        Refused: Standard output is a terminal, or the file can't be made; Docker's texts.
    """
    if not output:
        if is_terminal(1):
            raise rules.Refused(
                "cowardly refusing to save to a terminal. Use the -o flag or redirect"
            )
        return
    try:
        rules.check_output(output)
    except rules.Refused as refused:
        raise rules.Refused(f"{what}: {refused}") from None


def write(stream: Stream, output: str, advance: Callable[[int], None] = lambda step: None) -> None:
    """Write all of it: to a file that is the old one until it is whole, or to standard output.

    Args:
        output: The file; empty for standard output.
        advance: Told how many bytes were written.

    Raises:
        Refused: It can't be written.
        EngineCut: The engine broke it off; a file is as it was.
    """
    if not output:
        _pour(stream, 1, advance)
        return
    # Beside it, then renamed: who reads the file finds the old one or a whole new one.
    draft = os.path.join(os.path.dirname(output), f".{os.path.basename(output)}.{os.getpid()}")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _pour(stream, fd, advance)
        finally:
            os.close(fd)
        os.rename(draft, output)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        if isinstance(error, OSError):
            raise rules.Refused(f"unable to write {output}: {rules.words(error)}") from error
        raise


def _pour(stream: Stream, descriptor: int, advance: Callable[[int], None]) -> None:
    while not stream.ended:
        pieces = stream.read()
        write_all(descriptor, pieces)
        advance(sum(map(len, pieces)))
