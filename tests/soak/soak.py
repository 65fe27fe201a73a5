"""The whole soak: a world of slots, each with one container after the other, and a killer."""

from __future__ import annotations

import random
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field

from tests.real.engine_process import EngineProcess, demultiplexed
from tests.soak.account import Findings
from tests.soak.chronicle import Chronicle
from tests.soak.kept_alive import KEPT_ALIVE
from tests.soak.killer import Killer
from tests.soak.leftovers import behind, settled, takes
from tests.soak.lives import PLAIN, Life
from tests.soak.patient import GaveUp, Patient, Presence

WAYS = (*PLAIN, *KEPT_ALIVE)
MEGABYTE = 1 << 20
SHIM_GROWTH = 2 * MEGABYTE
SUPERVISOR_GROWTH = 40 * MEGABYTE
"""One that is never killed fills its memory of events (4,096 of them) and its allocator's pools in
the first minute, and is flat from there on: run `--every 0` and look at the progress."""


@dataclass
class Tally:
    """What was counted. Its plain numbers are added to by many threads, under the lock."""

    containers: int = 0
    exits: int = 0
    removed: int = 0
    cut: int = 0
    excused: int = 0
    findings: Findings = field(default_factory=Findings)
    faults: list[str] = field(default_factory=list)
    ways: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def log(self, findings):
        with self.lock:
            self.findings.add(findings)

    def fault(self, words):
        with self.lock:
            self.faults.append(words)

    def lived(self, way):
        with self.lock:
            self.ways[way] = self.ways.get(way, 0) + 1


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes:
        victims: Weights of "supervisor", "shim" and "both".
        every_s: Mean time between two kills; 0 for none.
        pause_s: Bounds of how long a client thinks between two requests.
        backend: The supervisor's.
        respawn: The shim starts the next supervisor; else the soak does.
        ways: How containers live, and how often each is chosen.
    """

    seconds: float
    seed: int
    slots: int = 200
    victims: dict[str, float] = field(default_factory=lambda: {"supervisor": 6, "shim": 1})
    every_s: float = 1.0
    pause_s: tuple[float, float] = (0.1, 4.0)
    backend: str = "asyncio"
    respawn: bool = True
    ways: tuple = WAYS


class Soak:
    """One soak in a directory of its own."""

    def __init__(self, plan, directory, say=print):
        self.plan = plan
        self.say = say
        self.tally = Tally()
        self.presence = Presence()
        self.engine = EngineProcess(directory, backend=plan.backend, respawn=plan.respawn)
        self.patient = Patient(self.engine, self.presence, self.tally)
        self.pause_s = plan.pause_s
        self.split = demultiplexed
        self.killer = Killer(
            self.engine,
            self.presence,
            self.patient,
            random.Random(f"{plan.seed} kills"),
            plan.victims,
            plan.every_s,
        )
        self.chronicle = Chronicle(self.engine, self.presence)
        self.lives = {}  # those that went as they should, with how many runs they had
        self.untold = self.told_twice = 0
        self._until = 0.0
        self._before = None
        self._after = None
        self.left = []

    def run(self):
        """Run it; returns True where nothing was lost, wrong, or left."""
        # Two hundred threads: the one that kills must not wait for all that check a log.
        sys.setswitchinterval(0.0005)
        self.engine.start()
        self.presence.back()
        try:
            self._warm_up()
            self._before = self._taken()
            self.chronicle.start()
            self._until = time.monotonic() + self.plan.seconds
            slots = [
                threading.Thread(target=self._slot, args=(number,), daemon=True)
                for number in range(self.plan.slots)
            ]
            for slot in slots:
                slot.start()
            if self.plan.every_s:
                self.killer.start()
            while time.monotonic() < self._until and not self.killer.trouble:
                time.sleep(min(10, max(self._until - time.monotonic(), 0)))
                self.say(self._progress())
            for slot in slots:
                slot.join()
            if self.plan.every_s:
                self.killer.stop()
            self._audit()
        finally:
            self.engine.close()
        return self.passed

    def _warm_up(self):
        """Have everything in place that the first container brings for good."""
        for _ in range(3):
            self.engine.result("true")

    def _taken(self):
        return takes(self.engine.supervisor_pid), takes(self.engine.shim_pid)

    def _taken_at_last(self):
        supervisor, shim = self._before
        return (
            settled(self.engine.supervisor_pid, supervisor),
            settled(self.engine.shim_pid, shim),
        )

    def _slot(self, number):
        """One container after the other, until the time is over."""
        choose = random.Random(f"{self.plan.seed} slot {number}")
        ways, weights = zip(*self.plan.ways, strict=True)
        turn = 0
        while time.monotonic() < self._until and not self.killer.trouble:
            turn += 1
            way = choose.choices(ways, weights)[0]
            life = Life(self, f"{way.__name__.replace('_', '-')}-{number}-{turn}", choose)
            try:
                self._live(way, life)
            except GaveUp as trouble:
                self.tally.fault(f"{life.name} ({life.id[:12]}): {trouble}")
            except Exception:  # noqa: BLE001  (a thread's traceback must reach the count)
                self.tally.fault(f"{life.name} ({life.id[:12]}): {traceback.format_exc()}")

    def _live(self, way, life):
        try:
            way(life)
        except GaveUp:
            if not life.was_cut_off():
                raise
            self.tally.lived("was_cut_off")
        else:
            self.tally.lived(way.__name__)
            self.lives[life.id] = life.runs

    def _audit(self):
        """Nothing may be left of what was removed; after a fault its container may."""
        for container in self.engine.get("/containers/json?all=1").json:
            if not self.tally.faults:
                self.tally.fault(f"{container['Names'][0]} is still there: {container['Status']}")
            self.engine.delete(f"/containers/{container['Id']}?force=1")
        pids = self.engine.supervisor_pid, self.engine.shim_pid
        self.left = behind(self.engine, *pids)
        self.untold, self.told_twice, words = self.chronicle.finish(self.lives)
        self.tally.findings.words += [f"events of {word}" for word in words]
        if self.untold or self.told_twice or self.chronicle.disordered:
            self.tally.fault("events are missing, too many, or out of order")
        self._warm_up()
        self._after = self._taken_at_last()
        if self.killer.trouble:
            self.tally.fault(f"the killer: {self.killer.trouble}")
        for who, before, after, growth in zip(
            ("supervisor", "shim"),
            self._before,
            self._after,
            (SUPERVISOR_GROWTH, SHIM_GROWTH),
            strict=True,
        ):
            if after.descriptors > before.descriptors:
                self.tally.fault(
                    f"the {who} has {after.descriptors} descriptors, it had {before.descriptors}; "
                    f"more: {after.more_than(before)}"
                )
            if after.memory > before.memory + growth:
                self.tally.fault(f"the {who} takes {after.memory} bytes, it took {before.memory}")

    @property
    def passed(self):
        return not self.tally.faults and not self.left and self.tally.findings.clean

    def _progress(self):
        left = max(self._until - time.monotonic(), 0)
        deaths = self.killer.deaths
        return (
            f"  {left:4.0f} s left: {self.tally.containers} containers, "
            f"{self.tally.findings.lines} lines checked, "
            f"{deaths.supervisor + deaths.shim + deaths.both} kills, "
            f"{len(self.tally.faults)} faults{self._memory()}"
        )

    def _memory(self):
        """What both take now, where neither is just being replaced."""
        try:
            supervisor, shim = self._taken()
        except (OSError, ValueError, TypeError):
            return ""
        return f"; supervisor {supervisor.memory >> 10} KiB, shim {shim.memory >> 10} KiB"

    def closing_count(self):
        """The count, as lines of text."""
        tally, findings, deaths = self.tally, self.tally.findings, self.killer.deaths
        away = sorted(self.presence.away_s) or [0.0]
        lines = [
            f"seed {self.plan.seed}, {self.plan.seconds:g} s, {self.plan.slots} slots",
            f"containers {tally.containers}, exits {tally.exits}, removed {tally.removed}: "
            + ", ".join(f"{way} {count}" for way, count in sorted(tally.ways.items())),
            f"kills survived: supervisor {deaths.supervisor}, shim {deaths.shim}, "
            f"both {deaths.both}; requests cut off and asked again {tally.cut}, "
            f"refused for a death {tally.excused}",
            f"API away: median {away[len(away) // 2] * 1e3:.0f} ms, "
            f"longest {away[-1] * 1e3:.0f} ms",
            f"lines {findings.lines}, bytes {findings.bytes}: lost {findings.lost}, "
            f"repeated {findings.repeated}, unknown {findings.foreign}, "
            f"out of order in {findings.disordered} streams",
            f"events {self.chronicle.events}: untold {self.untold}, repeated {self.told_twice}, "
            f"out of order {self.chronicle.disordered}, forgotten {self.chronicle.forgotten} times",
            f"leaked {len(self.left)}",
        ]
        if self._after:
            for who, before, after in zip(
                ("supervisor", "shim"), self._before, self._after, strict=True
            ):
                lines.append(
                    f"{who}: {before.memory >> 10} KiB, {before.descriptors} descriptors before; "
                    f"{after.memory >> 10} KiB, {after.descriptors} after"
                )
        lines += [f"LEFT {words}" for words in self.left[:20]]
        lines += [f"LOG {words}" for words in findings.words[:20]]
        lines += [f"FAULT {words}" for words in tally.faults[:20]]
        if len(tally.faults) > 20:
            lines.append(f"and {len(tally.faults) - 20} faults more")
        lines.append("passed" if self.passed else "FAILED")
        return "\n".join(lines)
