"""A list that is shown anew whenever something happens, until Ctrl-C.

The engine's events say when: nobody asks over and over whether there is news. Only what the mere
passing of time changes ("Up 5 seconds") is asked for when it can have changed: each second in a
container's first minute, then each minute, then each hour.
"""

from __future__ import annotations

import json
import math
import os
import re
import select
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from mdocker.comeback import begin_again
from mdocker.errors import EngineCut
from mdocker.messages import Request
from mdocker.output import is_terminal, reader_left
from mdocker.screen import Pages, Screen

if TYPE_CHECKING:
    from mdocker.client import Engine

_SHOWN = ("create", "start", "restart", "die", "stop", "pause", "unpause", "rename",
          "health_status", "destroy")  # fmt: skip
"""The events after which a list of containers may look different."""

_LEAST_PAUSE_S = 0.1
"""Between two lists: a thousand starts at once are no thousand lists."""

_AGES = ((re.compile(r"\bseconds?\b"), 1.0), (re.compile(r"\bminutes?\b"), 60.0))
_AT_LAST_S = 3600.0


def watch(engine: Engine, rendered: Callable[[], str]) -> None:
    """Show a list now and after each change.

    On a terminal it is drawn in place, cut to what fits. Elsewhere each state is written out
    below the one before it, with an empty line between.

    Args:
        engine: Whose events tell of changes.
        rendered: Asks for the list and makes it text, in lines.

    Raises:
        EngineRefused: The engine refuses.
        EngineUnreachable: It went away, and none came back.
        BrokenPipeError: Who read our stdout has gone.
        KeyboardInterrupt: Ctrl-C.
    """
    # Listening comes first: what happens while the first list is made is not missed.
    with _Happenings(engine) as happenings:
        text = rendered()
        with Screen() if is_terminal(1) else Pages() as screen:
            while True:
                listed = time.monotonic()
                screen.show(text)
                happenings.await_one(_lasts_s(text), screen.resized)
                time.sleep(max(0.0, listed + _LEAST_PAUSE_S - time.monotonic()))
                text = rendered()


def _lasts_s(text: str) -> float:
    """Return after how many seconds time alone may have changed a list."""
    return next((seconds for unit, seconds in _AGES if unit.search(text)), _AT_LAST_S)


class _Happenings:
    """The engine's events about containers; those of the next engine, when it dies."""

    def __init__(self, engine: Engine) -> None:
        filters = json.dumps({"type": ["container"], "event": _SHOWN})
        self._engine = engine
        self._request = Request.make("GET", "/events", {"filters": filters})
        self._stream = engine.begin(self._request)
        self._winch, self._winched = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def __enter__(self) -> _Happenings:
        self._wakeup = signal.set_wakeup_fd(self._winched, warn_on_full_buffer=False)
        self._handler = signal.signal(signal.SIGWINCH, _arrived)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGWINCH, self._handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._winch)
        os.close(self._winched)
        self._stream.close()

    def await_one(self, seconds: float, resized: Callable[[], None]) -> None:
        """Wait for an event, and take all that have come; or until a time has passed."""
        deadline = time.monotonic() + seconds
        while True:
            poller = select.poll()
            reader_left(poller)
            poller.register(self._stream, select.POLLIN)
            poller.register(self._winch, select.POLLIN)
            left = max(0.0, deadline - time.monotonic())
            pending = self._stream.pending
            ready = dict(poller.poll(0 if pending else math.ceil(left * 1000)))
            if 1 in ready:
                raise BrokenPipeError
            if self._winch in ready:
                os.read(self._winch, 512)
                resized()
            if pending or self._stream.fileno() in ready:
                if self._take():
                    return
            elif time.monotonic() >= deadline:
                return

    def _take(self) -> bool:
        """Read on; tell whether that means that something has happened."""
        try:
            pieces = self._stream.read()
            if self._stream.ended:
                raise EngineCut("the engine has ended its events")
        except EngineCut as cut:
            self._stream.close()
            self._stream = begin_again(self._engine, self._request, cut)
            return True  # whatever happened meanwhile, a list of now shows it
        return any(bytes(piece).strip() for piece in pieces)


def _arrived(number: int, frame: FrameType | None) -> None:
    """The wake-up descriptor has the news already."""
