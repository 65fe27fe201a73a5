"""Signals to the client, handed on to the container that runs in its foreground."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Self

FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGWINCH,
)


class SignalInbox:
    """While entered, the forwarded signals do nothing but arrive at a descriptor.

    Attributes:
        descriptor: Readable when signals have come; for poll.
    """

    def __init__(self) -> None:
        self.descriptor, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before: dict[int, signal._HANDLER] = {}
        self._wakeup = -1

    def __enter__(self) -> Self:
        self._wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in FORWARDED:
            self._before[number] = signal.signal(number, _arrived)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self.descriptor)
        os.close(self._write_end)

    def take(self) -> list[str]:
        """Return what has come, as the API spells signals, without waiting."""
        try:
            numbers = os.read(self.descriptor, 512)
        except BlockingIOError:
            return []
        return [signal.Signals(number).name for number in numbers if number in FORWARDED]


def _arrived(number: int, frame: FrameType | None) -> None:
    """The wake-up descriptor has the news already; a handler must merely exist."""
