"""Output that waits for its log: `mode=non-blocking`.

Who gives output never waits. A thread takes what waits and writes it; where it is too slow, the
oldest output is dropped, counted, and the gap is noted in the log. What waits is in this process
only, so a kill -9 loses it: at most `max-buffer-size`, and in practice the batch under way.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from time import time_ns
from typing import TYPE_CHECKING, NamedTuple

import structlog

if TYPE_CHECKING:
    from logs.container_log import ContainerLog
    from logs.log_stream import LogStream

log = structlog.get_logger()

LEAVE_S = 1.0
"""How long a supervisor that stops waits for output that the disk does not take."""


class _Batch(NamedTuple):
    stream: LogStream
    data: bytes
    number: int
    time_ns: int


class Ring:
    """The waiting output of one log, and the thread that writes it while there is any to come.

    Attributes:
        dropped_bytes: Output that was dropped, since the disk was too slow.
    """

    __slots__ = (
        "_batches",
        "_change",
        "_ending",
        "_gaps",
        "_leaving",
        "_log",
        "_thread",
        "_waiting",
        "_when_closed",
        "dropped_bytes",
    )

    def __init__(self, log: ContainerLog) -> None:
        self._log = log
        self._batches: collections.deque[_Batch] = collections.deque()
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self._waiting = 0
        self._gaps: dict[LogStream, tuple[int, bool]] = {}
        self._ending = False
        self._leaving = False
        self._when_closed: list[Callable[[], object]] = []
        self.dropped_bytes = 0

    def put(self, stream: LogStream, data: bytes, number: int) -> None:
        """Leave a batch to be written, and drop the oldest if there is too much.

        Raises:
            ValueError: the log is closed.
        """
        with self._change:
            if self._ending:
                raise ValueError(f"the log of {self._log.container_id} is closed")
            self._batches.append(_Batch(stream, data, number, time_ns()))
            self._waiting += len(data)
            most = self._log.options.max_buffer_size
            while self._waiting > most and len(self._batches) > 1:
                oldest = self._batches.popleft()
                size = len(oldest.data)
                self._waiting -= size
                before, _ = self._gaps.get(oldest.stream, (0, False))
                torn = not oldest.data.endswith(b"\n")
                self._gaps[oldest.stream] = (before + size, torn)
                self.dropped_bytes += size
            if self._thread is None and self._begin():
                return
            self._change.notify()
            thread = self._thread
        if thread is None:
            # No thread to be had: then it waits for the disk after all.
            while self._batches:
                batch = self._batches.popleft()
                self._waiting -= len(batch.data)
                self._write(batch)

    def _begin(self) -> bool:
        """Start the thread. The caller has the lock."""
        thread = threading.Thread(target=self._run, name="log-ring", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            words = {"container": self._log.container_id[:12], "reason": str(error)}
            log.warning("log.ring_without_thread", **words)
            return False
        self._thread = thread
        return True

    def close(self, closed: Callable[[], object] | None) -> None:
        """Close the log when all is written that waits, then call `closed`. It does not wait."""
        with self._change:
            self._ending = True
            if self._thread is not None:
                if closed is not None:
                    self._when_closed.append(closed)
                self._change.notify()
                return
        self._log.close_now()
        if closed is not None:
            closed()

    def leave(self) -> bool:
        """Write what waits, as far as the disk takes it in `LEAVE_S`; write nothing after that.

        Returns:
            False where the thread is closing the log, and needs it until then.
        """
        with self._change:
            thread = self._thread
            if self._ending:
                return thread is None or self._leaving
            self._ending = self._leaving = True
            self._change.notify()
        if thread is not None:
            thread.join(LEAVE_S)
        with self._change:
            self.dropped_bytes += sum(len(batch.data) for batch in self._batches)
            self._batches.clear()
        return True

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            self._write(batch)
        if not self._leaving:
            self._log.close_now()
        with self._change:
            self._thread = None
        for closed in self._when_closed:
            closed()

    def _write(self, batch: _Batch) -> None:
        try:
            batch.stream.append_now(batch.data, batch.number, batch.time_ns)
        except Exception:
            log.exception("log.ring_failed", container=self._log.container_id[:12])

    def _next(self) -> _Batch | None:
        with self._change:
            while not self._batches:
                if self._ending:
                    return None
                self._change.wait()
            batch = self._batches.popleft()
            self._waiting -= len(batch.data)
            gap = self._gaps.pop(batch.stream, None)
            return batch if gap is None else self._behind(batch, *gap)

    def _behind(self, batch: _Batch, size: int, torn: bool) -> _Batch:
        """Note a gap before a batch. What is left of a line that it has torn goes, too."""
        rest = batch.data.find(b"\n") + 1 if torn else 0
        if rest == len(batch.data):
            rest = 0  # the end of a line is all there is, and better than nothing
        given_up = batch.stream.note_gap(size + rest)
        self.dropped_bytes += rest + given_up
        return batch._replace(data=batch.data[rest:])
