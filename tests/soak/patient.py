"""A client that outlives the supervisor: what a death cut off is asked again."""

from __future__ import annotations

import http.client
import threading
import time

from tests.real.engine_process import UnixConnection

CUT = (OSError, http.client.HTTPException)
BACK_LIMIT_S = 30.0
"""A supervisor that is not back by then is a fault."""


class GaveUp(Exception):
    """The engine did not answer in time, or answered what it must not."""


class Presence:
    """Whether the engine is there, and how many deaths there have been.

    Attributes:
        deaths: Grows at each; whoever sees another number than before knows of a reason.
        away_s: How long no request was answered, for each time.
    """

    def __init__(self):
        self._there = threading.Event()
        self._killed = 0.0
        self.deaths = 0
        self.away_s = []

    def gone(self):
        """About to be killed: what fails from now on has a reason."""
        self._there.clear()
        self.deaths += 1

    def killed(self):
        """It is dead: whatever is asked from now on, another one answers."""
        self._killed = time.monotonic()
        self.deaths += 1

    def answered(self, deaths):
        """A request was answered that began when there had been so many deaths."""
        killed = self._killed  # others answer at the same time
        if deaths == self.deaths and killed and not self._there.is_set():
            self.away_s.append(time.monotonic() - killed)
            self.back()

    def back(self):
        """It is there (or nobody needs to wait for it any more)."""
        self._killed = 0.0
        self._there.set()

    def harmed(self):
        """Something has died that a request may notice, but the API is there."""
        self.deaths += 1

    def wait(self, seconds):
        return self._there.wait(seconds)

    @property
    def is_there(self):
        return self._there.is_set()


class Patient:
    """Asks until there is an answer. Thread-safe; each request has a connection of its own."""

    def __init__(self, engine, presence, tally):
        self._engine = engine
        self._presence = presence
        self._tally = tally

    def ask(self, method, path, body=None, *, allowed, excused=()):
        """Ask, and again if a death cut it off; returns (answer, how often it was asked).

        Args:
            allowed: The statuses that the caller can deal with.
            excused: Statuses besides that are asked again if something died meanwhile.

        Raises:
            GaveUp: No answer in time, another status, or a cut that no death explains.
        """
        until = time.monotonic() + BACK_LIMIT_S
        asked = 0
        while True:
            deaths = self._presence.deaths
            asked += 1
            try:
                answer = self._engine.request(method, path, body)
            except CUT as error:
                self._cut(f"{method} {path[:60]}", error, deaths, until)
                continue
            self._presence.answered(deaths)
            if answer.status in allowed:
                return answer, asked
            if answer.status in excused and self._presence.deaths != deaths:
                self._tally.excused += 1
                if time.monotonic() > until:
                    raise GaveUp(f"{method} {path[:60]}: {answer}")
                continue
            raise GaveUp(f"{method} {path[:60]}: {answer}")

    def first_byte(self, container):
        """Wait until something of its log can be read; False if it ended without a word."""
        until = time.monotonic() + BACK_LIMIT_S
        path = f"/v1.50/containers/{container}/logs?stdout=1&stderr=1&follow=1"
        while True:
            deaths = self._presence.deaths
            connection = UnixConnection(self._engine.socket)
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                if response.read(1):
                    return True
                if self._presence.deaths == deaths:
                    return False
            except CUT as error:
                self._cut(f"follow {container[:12]}", error, deaths, until)
            finally:
                connection.close()

    def _cut(self, what, error, deaths, until):
        self._tally.cut += 1
        if self._presence.is_there and self._presence.deaths == deaths:
            raise GaveUp(f"{what}: {error!r}, and nothing had died")
        if not self._presence.wait(max(until - time.monotonic(), 0)):
            raise GaveUp(f"{what}: no engine for {BACK_LIMIT_S} s")
