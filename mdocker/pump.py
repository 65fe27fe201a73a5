"""From a container's output to our stdout and stderr, as fast as both go."""

from __future__ import annotations

import select
from collections.abc import Callable

from mdocker.comeback import Output
from mdocker.output import reader_left, write_streams


def show(output: Output, meanwhile: tuple[int, Callable[[], None]] | None = None) -> None:
    """Write a container's output out until it ends.

    Args:
        output: Where it comes from.
        meanwhile: A descriptor, and what to call whenever it is readable.

    Raises:
        BrokenPipeError: Who read our stdout has gone.
        EngineUnreachable: The engine went away in the middle, and no other could go on.
    """
    while not output.ended:
        poller = select.poll()
        reader_left(poller)
        if meanwhile is not None:
            poller.register(meanwhile[0], select.POLLIN)
        _show(output, poller, meanwhile)


def _show(
    output: Output, poller: select.poll, meanwhile: tuple[int, Callable[[], None]] | None
) -> None:
    """Go on as long as the output comes over the connection that it comes over now."""
    descriptor, connection = output.fileno(), output.connection
    poller.register(descriptor, select.POLLIN)
    while not output.ended and output.connection == connection:
        ready = dict(poller.poll()) if not output.pending else {descriptor: select.POLLIN}
        if meanwhile is not None and meanwhile[0] in ready:
            meanwhile[1]()
        if descriptor in ready:
            write_streams(output.read())
        elif 1 in ready:
            raise BrokenPipeError
