"""Who gets a container's output live, and how far that has gone.

The pump's thread writes a batch into the log and then feeds it to the attachments. A client may
come in the middle of that, in the event loop: what it is fed from then on, and what it reads from
the log up to there, must fit together. So what has been fed is told as one value, which changes
under a lock together with the look at who is there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from logs.container_log import ContainerLog
from logs.framing import Stream
from logs.log_file import LogFile
from logs.spots import TAIL, Spot

if TYPE_CHECKING:
    from supervisor.attachments import Attachment
    from supervisor.container import Container


class Fed(NamedTuple):
    """How far a container's output has gone to whoever is attached.

    Attributes:
        file: The file of the log that was written then.
        size: Bytes of whole records in it.
        out: The beginning of a line of stdout that has been fed and is in no record yet.
        err: The same of stderr.
    """

    file: LogFile
    size: int
    out: bytes
    err: bytes

    def word(self) -> bytes:
        """The place, as `supervisor/api/places.py` has it. Raises OSError."""
        length = min(TAIL, self.size)
        spot = Spot.behind(self.file.read(length, self.size - length), self.size)
        return place_word(spot, len(self.out), len(self.err))


def place_word(spot: Spot, out: int = 0, err: int = 0) -> bytes:
    """A place in a container's output, as a word.

    Args:
        spot: The place in its log.
        out: Bytes of an unfinished line of stdout that are beyond it.
        err: The same of stderr.
    """
    return f"{spot.spell()}.{out}.{err}".encode()


class Feeds:
    """The attachments of one run. Iterated in the pump's thread, right after each batch."""

    __slots__ = ("_container", "_fed", "_lock", "_log")

    def __init__(self, container: Container, container_log: ContainerLog) -> None:
        """Begin before the first batch."""
        self._container = container
        self._log = container_log
        self._lock = threading.Lock()
        self._fed = _fed(container_log)

    def __iter__(self) -> Iterator[Callable[[int, bytes], None]]:
        with self._lock:
            self._fed = _fed(self._log)
            attachments = tuple(self._container.attachments)
        return iter([attachment.feed for attachment in attachments])

    @property
    def fed(self) -> Fed | None:
        """How far it has gone; None where there is no log to tell it by."""
        return self._fed

    def join(self, attachment: Attachment) -> Fed | None:
        """Add an attachment; return what it will not be fed, None where no log can tell."""
        with self._lock:
            self._container.attachments.append(attachment)
            return self._fed


def join(container: Container, attachment: Attachment) -> Fed | None:
    """Attach somebody; return what is not fed to them, None where it does not run or has no log."""
    run = container.run
    if run is not None and run.feeds is not None:
        return run.feeds.join(attachment)
    container.attachments.append(attachment)
    return None if run is None else _fed(run.log)


def place(container: Container) -> bytes | None:
    """The place behind the batch that is being fed; called where it is fed. Raises OSError."""
    run = container.run
    fed = run.feeds.fed if run is not None and run.feeds is not None else None
    return None if fed is None else fed.word()


def _fed(container_log: ContainerLog) -> Fed | None:
    file = container_log.file
    if file is None:
        return None
    out, err = container_log.stream(Stream.STDOUT), container_log.stream(Stream.STDERR)
    return Fed(file, file.size, out.held, err.held)
