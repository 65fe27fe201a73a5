"""kill -9 at moments that the seed chooses."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass, field

from tests.soak.patient import BACK_LIMIT_S, CUT, GaveUp


@dataclass
class Deaths:
    """What was killed, and how long the API was away each time."""

    supervisor: int = 0
    shim: int = 0
    both: int = 0
    away_s: list[float] = field(default_factory=list)


class Killer:
    """Kills by `victims` (weights by name), about once every `every_s`, until told to stop."""

    def __init__(self, engine, presence, choose, victims, every_s):
        self._engine = engine
        self._presence = presence
        self._choose = choose
        self._victims = victims
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer", daemon=True)
        self.deaths = Deaths()
        self.trouble = None

    def start(self):
        self._thread.start()

    def stop(self):
        """No kill begins after this; returns when the engine is back from the last one."""
        self._over.set()
        self._thread.join()

    def _run(self):
        try:
            while not self._over.wait(self._every_s * self._choose.uniform(0.3, 1.7)):
                names = list(self._victims)
                victim = self._choose.choices(names, [self._victims[n] for n in names])[0]
                getattr(self, f"_kill_{victim}")()
                setattr(self.deaths, victim, getattr(self.deaths, victim) + 1)
        except (GaveUp, RuntimeError, OSError) as error:
            self.trouble = f"after {self.deaths}: {error!r}"
            self._presence.back()

    def _kill_supervisor(self):
        self._presence.gone()
        began = time.monotonic()
        self._engine.kill()
        self._return(began)

    def _kill_shim(self):
        self._presence.harmed()
        os.kill(self._engine.shim_pid, signal.SIGKILL)
        # A start needs a shim: once this is through, the new one has been handed everything, and
        # the next death is a single one again.
        self._engine.result("true")

    def _kill_both(self):
        self._presence.gone()
        began = time.monotonic()
        os.kill(self._engine.shim_pid, signal.SIGKILL)
        self._engine.kill()
        self._engine.start()
        self._return(began)

    def _return(self, began):
        """Wait for the next supervisor; where the shim does not start one, do that."""
        if not self._engine.respawn:
            self._engine.start()
        while True:
            try:
                self._engine.get("/_ping")
                break
            except CUT as error:
                if time.monotonic() - began > BACK_LIMIT_S:
                    raise GaveUp(
                        f"no supervisor {BACK_LIMIT_S} s after a kill: {error!r}"
                    ) from error
        self.deaths.away_s.append(time.monotonic() - began)
        self._presence.back()
