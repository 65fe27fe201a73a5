"""kill -9 at moments that the seed chooses."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from dataclasses import dataclass

from tests.soak.patient import BACK_LIMIT_S, GaveUp

WHILE_IT_RECOVERS = 0.25
"""How often the next supervisor is killed too, within `RECOVERY_S` of its predecessor's death."""
RECOVERY_S = 0.8


@dataclass
class Deaths:
    """What was killed, and how often."""

    supervisor: int = 0
    shim: int = 0
    both: int = 0


class Killer:
    """Kills by `victims` (weights by name), about once every `every_s`, until told to stop."""

    def __init__(self, engine, presence, patient, choose, victims, every_s):
        self._engine = engine
        self._patient = patient
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
                if self.deaths == Deaths():
                    victim = names[0]  # a short soak has killed that one at least
                # Counted first: whoever sees what it did looks here for the reason.
                setattr(self.deaths, victim, getattr(self.deaths, victim) + 1)
                getattr(self, f"_kill_{victim}")()
        except (GaveUp, RuntimeError, OSError) as error:
            self.trouble = f"after {self.deaths}: {error!r}"
            self._presence.back()

    def _kill_supervisor(self):
        self._presence.gone()
        self._engine.kill()
        self._presence.killed()
        if not self._engine.respawn:
            self._engine.start()
        elif self._choose.random() < WHILE_IT_RECOVERS:
            self._kill_the_next(self._choose.uniform(0, RECOVERY_S))
        self._return()

    def _kill_the_next(self, after_s):
        """Kill the one that follows too, perhaps before it serves, perhaps before it is anybody."""
        self._over.wait(after_s)
        with contextlib.suppress(OSError, ValueError):  # it has not come so far as to have a name
            self._presence.gone()
            self._engine.kill()
            self._presence.killed()
            self.deaths.supervisor += 1

    def _kill_shim(self):
        self._presence.harmed()
        os.kill(self._engine.shim_pid, signal.SIGKILL)
        # A start needs a shim: once this is through, the new one has been handed everything, and
        # the next death is a single one again.
        self._engine.result("true")

    def _kill_both(self):
        self._presence.gone()
        os.kill(self._engine.shim_pid, signal.SIGKILL)
        self._engine.kill()
        self._presence.killed()
        try:
            self._engine.start()
        except RuntimeError as error:
            # The next shim may have been there already, and have started one.
            if "another supervisor" not in str(error):
                raise
        self._return()

    def _return(self):
        """Wait until the next one has answered somebody; ask it, in case nobody else does."""
        threading.Thread(target=self._ask, daemon=True).start()
        if not self._presence.wait(BACK_LIMIT_S):
            raise GaveUp(f"no supervisor {BACK_LIMIT_S} s after a kill")

    def _ask(self):
        with contextlib.suppress(GaveUp):
            self._patient.ask("GET", "/_ping", allowed=(200,))
