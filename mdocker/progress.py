"""A progress bar on stderr by rich; only ever imported where a terminal looks at it."""

from __future__ import annotations

import time

_REFRESH_S = 0.05


class Bar:
    """One line that grows. rich's own refresh thread is left out: we know when work was done."""

    def __init__(self, title: str, total: float | None, *, size: bool = False) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TransferSpeedColumn,
        )

        amount = (DownloadColumn(), TransferSpeedColumn()) if size else (MofNCompleteColumn(),)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            *amount,
            TimeElapsedColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
        )
        self._progress.start()
        self._task = self._progress.add_task(title, total=total)
        self._drawn = 0.0
        self._closed = False

    def advance(self, step: float = 1) -> None:
        """Add to what is done; draw at most twenty times a second, until it is closed."""
        if self._closed:
            return
        self._progress.advance(self._task, step)
        now = time.monotonic()
        if now - self._drawn >= _REFRESH_S:
            self._drawn = now
            self._progress.refresh()

    def close(self) -> None:
        """Draw the last state and leave the line."""
        self._closed = True
        self._progress.refresh()
        self._progress.stop()
