"""The event stream held against the lives: it is one, in order, whoever dies meanwhile."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter

from tests.real.engine_process import UnixConnection
from tests.soak.patient import CUT

CAUGHT_UP_S = 20.0
FOLLOWED = ("create", "start", "die", "destroy")


class Chronicle:
    """Listens from before the first container to after the last, coming back after each death.

    Attributes:
        events: How many have been told.
        disordered: Those that were not newer than the one before.
        forgotten: How often the engine said that it remembers not far enough back.
    """

    def __init__(self, engine, presence):
        self._engine = engine
        self._presence = presence
        self._latest_ns = 0
        self._told = {}
        self._over = False
        self._connection = None
        self._thread = threading.Thread(target=self._listen, name="chronicle", daemon=True)
        self.events = 0
        self.disordered = 0
        self.forgotten = 0

    def start(self):
        """Listen from now on."""
        self._latest_ns = time.time_ns()
        self._thread.start()

    def finish(self, lives):
        """Stop listening once all that is due of `lives` was told, or was not told in time.

        Args:
            lives: {container id: how many runs it had (least, most)}, all of them removed.

        Returns:
            (events that are missing, events that are too many), and words about the first.
        """
        until = time.monotonic() + CAUGHT_UP_S
        while True:
            missing, extra, words = self._held_against(lives)
            if not missing or time.monotonic() > until:
                self._over = True
                if self._connection is not None and self._connection.sock is not None:
                    self._connection.sock.shutdown(socket.SHUT_RDWR)
                return missing, extra, words
            time.sleep(0.1)

    def _held_against(self, lives):
        missing = extra = 0
        words = []
        for container, (least, most) in lives.items():
            told = self._told.get(container, Counter())
            starts = min(max(told["start"], least), most)
            due = {"create": 1, "start": starts, "die": starts, "destroy": 1}
            for action, count in due.items():
                if told[action] < count:
                    missing += count - told[action]
                    words.append(f"{container[:12]}: {count} {action} due, {told[action]} told")
                elif told[action] > count:
                    extra += told[action] - count
                    words.append(f"{container[:12]}: {count} {action} due, {told[action]} told")
        return missing, extra, words

    def _listen(self):
        while not self._over:
            connection = self._connection = UnixConnection(self._engine.socket)
            try:
                connection.request("GET", f"/v1.50/events?resume={self._latest_ns}")
                response = connection.getresponse()
                if int(response.headers.get("Mdocker-Begins", 0)) > self._latest_ns:
                    self.forgotten += 1
                while line := response.readline():
                    if line.endswith(b"\n"):
                        self._take(json.loads(line))
            except CUT:
                self._presence.wait(1)
            finally:
                connection.close()

    def _take(self, event):
        if event["timeNano"] <= self._latest_ns:
            self.disordered += 1
        self._latest_ns = max(event["timeNano"], self._latest_ns)
        self.events += 1
        if event["Type"] == "container" and event["Action"] in FOLLOWED:
            told = self._told.setdefault(event["Actor"]["ID"], Counter())
            told[event["Action"]] += 1
