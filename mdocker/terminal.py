"""Our own terminal, while what runs in a container uses it.

Raw, so that each key arrives there, Ctrl-C too; with its size told; and given back as it was,
whatever ends us: the end, an error, a signal. Ctrl-Z reaches the container as any key does. A
SIGTSTP that somebody sends stops us as any program, and the terminal is the shell's until we go on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import termios
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from mdocker import output
from mdocker.errors import NotATerminal

# Those that would end us, and can be handled in time: signal(7).
_ENDING = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGABRT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGTERM,
    signal.SIGXCPU,
)
_Handler = Callable[[int, FrameType | None], None]

_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6


def check(descriptor: int = 0) -> None:
    """Refuse to give somebody a terminal that is none: `-it` in a pipeline.

    Raises:
        NotATerminal: In Docker's words.
    """
    if not os.isatty(descriptor):
        raise NotATerminal("the input device is not a TTY")


def size(descriptor: int = 1) -> tuple[int, int] | None:
    """Lines and columns of the terminal that shows our output; None where none does, or knows."""
    try:
        columns, lines = os.get_terminal_size(descriptor)
    except OSError:
        return None
    return (lines, columns) if lines or columns else None


class OurTerminal:
    """While entered, stdin is raw if it is a terminal, and changes of the size are told.

    Attributes:
        descriptor: Readable when the size may have changed; for poll. Then call `new_size`.
    """

    def __init__(self, stdin: int = 0, stdout: int = 1, *, raw: bool = True) -> None:
        """Take descriptors, which stay the caller's.

        Args:
            stdin: What is typed.
            stdout: What shows it.
            raw: Whether what is typed is meant for the container.
        """
        self._stdin = stdin
        self._stdout = stdout
        self._wants_raw = raw and os.isatty(stdin)
        self._before: list[Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._wakeup = -1
        self._others = output.waits_long
        self.descriptor, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def __enter__(self) -> Self:
        self._wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        self._handle(signal.SIGWINCH, _arrived)
        if self._wants_raw:
            for number in _ENDING:
                self._handle(number, self._end)
            self._handle(signal.SIGTSTP, self._stop)
            self._handle(signal.SIGCONT, self._go_on)
            output.waits_long = self._let_interrupt
            self._go_raw()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._wants_raw = False
        self.give_back()
        output.waits_long = self._others
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self.descriptor)
        os.close(self._write_end)

    def new_size(self) -> tuple[int, int] | None:
        """Lines and columns now; `descriptor` is silent until the next change."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.descriptor, 512)
        return size(self._stdout)

    def give_back(self) -> None:
        """Set it to what it was before us; a second time nothing happens."""
        before = self._before
        output.line_end = "\n"
        if before is not None and self._is_ours():
            with contextlib.suppress(termios.error):  # it is gone: hung up
                termios.tcsetattr(self._stdin, termios.TCSANOW, before)
        # Last of all: a signal that ends us may come at any moment, and does this once more.
        self._before = None

    def _handle(self, number: int, handler: _Handler) -> None:
        # What whoever started us wants ignored (nohup), stays so.
        if signal.getsignal(number) != signal.SIG_IGN:
            self._handlers[number] = signal.signal(number, handler)

    def _go_raw(self) -> None:
        """Set it as cfmakeraw(3) does: no echo, no line editing, no signals, output as it is."""
        if not self._wants_raw or not self._is_ours():
            return
        try:
            before = termios.tcgetattr(self._stdin)
            raw = _raw(before)
            if before != raw:
                self._before = before  # first: a signal that ends us may come at any moment
            termios.tcsetattr(self._stdin, termios.TCSANOW, raw)
        except termios.error:
            return
        output.line_end = "\r\n"

    def _is_ours(self) -> bool:
        """Whether we may set it: in the background it is somebody else's (and would stop us)."""
        try:
            return os.tcgetpgrp(self._stdin) == os.getpgrp()
        except OSError:
            return True  # not our session's, so there is no background

    def _let_interrupt(self, waits: bool) -> None:
        """While nobody is there whom keys would reach, Ctrl-C ends us; all others are kept."""
        if self._before is None or not self._is_ours():
            return
        with contextlib.suppress(termios.error):
            mode = termios.tcgetattr(self._stdin)
            if waits:
                mode[_LFLAG] |= termios.ISIG
            else:
                mode[_LFLAG] &= ~termios.ISIG
            termios.tcsetattr(self._stdin, termios.TCSANOW, mode)

    def _end(self, number: int, frame: FrameType | None) -> None:
        """Give it back and end by the signal, as who sent it expects."""
        self._wants_raw = False
        self.give_back()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Give it back and stop; from SIGCONT on it is raw again."""
        self.give_back()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._stop)
        self._go_raw()

    def _go_on(self, number: int, frame: FrameType | None) -> None:
        """The shell has set the terminal for itself meanwhile, and its size may be another."""
        self._go_raw()


def _raw(mode: list[Any]) -> list[Any]:
    raw = [*mode[:_CC], list(mode[_CC])]
    raw[_IFLAG] &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    raw[_OFLAG] &= ~termios.OPOST
    raw[_CFLAG] = raw[_CFLAG] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    raw[_LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    raw[_CC][termios.VMIN], raw[_CC][termios.VTIME] = 1, 0
    return raw


def _arrived(number: int, frame: FrameType | None) -> None:
    """The wake-up descriptor has the news already; a handler must merely exist."""
