"""What the engine counts while it works, cheap enough to be counted always.

`GET /metrics` (`supervisor/api/metrics.py`) makes Prometheus' text of it. prometheus-client is
imported there, at the first scrape: nobody pays for it who does not scrape.
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from supervisor.phases import Phase

if TYPE_CHECKING:
    from logs.drivers import ContainerLog
    from supervisor.container import Life

PHASE_BOUNDS_S = (
    *(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 600.0, 3600.0, 86400.0),
)
LAG_BOUNDS_S = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)


class Histogram:
    """Counts of values by upper bound.

    Attributes:
        bounds: Ascending; a value counts under the first bound that is not below it.
        total: The sum of all values.
    """

    __slots__ = ("_counts", "bounds", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.total = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def note(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect.bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def cumulative(self) -> list[int]:
        """How many values were at most each bound, and last, how many there were."""
        return list(itertools.accumulate(self._counts))


class Counts:
    """The counters of one engine, from its supervisor's start on.

    Attributes:
        starts: Containers that were started.
        failed_starts: Starts that came to nothing.
        exits: Ends by cause (see `cause`).
        restarts: Starts that a restart policy asked for.
        adopted: Containers that were running when this supervisor came.
        ends_unseen: Ends whose cause nobody could learn.
        recovery_s: How long this supervisor took from its start until it had adopted all.
        oom_kills: Processes of containers that were killed as memory had run out.
        probes: Health checks by result ("success", "failure", "timeout").
        log_read, log_written, log_dropped: Bytes, of the runs that have ended.
    """

    def __init__(self) -> None:
        self.starts = 0
        self.failed_starts = 0
        self.exits: Counter[str] = Counter()
        self.restarts = 0
        self.adopted = 0
        self.ends_unseen = 0
        self.recovery_s = 0.0
        self.oom_kills = 0
        self.probes: Counter[str] = Counter()
        self.log_read = 0
        self.log_written = 0
        self.log_dropped = 0
        self.lag = LAG
        self.phases: dict[str, Histogram] = {}

    def phase(self, name: str, seconds: float) -> None:
        """Count how long a phase took."""
        histogram = self.phases.get(name)
        if histogram is None:
            histogram = self.phases[name] = Histogram(PHASE_BOUNDS_S)
        histogram.note(seconds)

    def over(self, phases: Iterable[Phase]) -> None:
        """Count phases that have ended."""
        for phase in phases:
            self.phase(phase.name, phase.seconds)

    def ended(self, life: Life, phases: Iterable[Phase], log: ContainerLog) -> None:
        """Count a run that has ended, and take over what its log has counted."""
        self.exits[cause(life)] += 1
        self.over(phases)
        self.log_read += log.read_bytes
        self.log_written += log.written_bytes
        self.log_dropped += log.dropped_bytes


LAG = Histogram(LAG_BOUNDS_S)
"""How long a task that could run had to wait for the event loop, in seconds.

It is taken where the loop is waited for anyhow: from a thread's ring to its being heard, after an
accept, and when the watchdog is told that all is well. So an idle engine does nothing for it. One
for the process, as the loop is.
"""


_KILLED = 137
"""The exit code of who was killed, and of a shell whose command was."""

CAUSES = ("success", "failure", "signal", "stopped", "oom", "unknown")


def cause(life: Life) -> str:
    """Say in one word, of `CAUSES`, why a run ended: the label of a counter."""
    if life.error:
        return "unknown"
    if life.stopped_by_request:
        return "stopped"
    if life.oom_killed and life.exit_code == _KILLED:
        return "oom"
    if life.signal:
        return "signal"
    return "failure" if life.exit_code else "success"
