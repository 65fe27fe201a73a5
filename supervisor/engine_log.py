"""structlog, set up once: JSON lines to a file or pipe, colours to a terminal."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TextIO, cast

import structlog


class Unbreakable:
    """A stream that loses what it can't write: a full disk, a terminal that is gone, a reader that
    has died. There is nobody to tell, and what was to be logged has to go on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or don't."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or don't."""
        with contextlib.suppress(OSError):
            self._stream.flush()


def set_up(debug: bool, stream: TextIO | None = None) -> None:
    """Send the engine's own log to `stream` (standard error by default)."""
    target = stream or sys.stderr
    last: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if target.isatty()
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.DEBUG if debug else logging.INFO
        ),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, Unbreakable(target))),
        cache_logger_on_first_use=False,
    )
