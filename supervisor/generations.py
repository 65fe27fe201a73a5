"""Which supervisors there were: one entry for each that came to answer, kept over their deaths.

A container does not notice that its supervisor is another one; whoever looks at its timeline wants
to. One entry for each supervisor is enough for all containers, so an adoption writes nothing.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from runtime.process_stat import start_ticks
from supervisor.journal import Journal

KEPT = 64
FILE = "supervisors"


_TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")


def process_began_ns() -> int:
    """When this process began, ns since the epoch, to 10 ms (field 22 of proc_pid_stat(5))."""
    began = start_ticks("self") * _TICK_NS
    age_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - began
    return time.time_ns() - max(age_ns, 0)


class Generation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One supervisor.

    Attributes:
        pid: Its process id; the same as before after an upgrade.
        began_ns: When it began, ns since the epoch.
        ready_ns: When it knew all containers and answered.
        adopted: How many were running then.
    """

    pid: int
    began_ns: int
    ready_ns: int
    adopted: int = 0


class Generations:
    """The list of them, in the run directory: a reboot forgets it, as it ends all containers."""

    def __init__(self, run_dir: Path) -> None:
        self._journal = Journal(run_dir / FILE, Generation, KEPT)

    def ready(self, main_ns: int, adopted: int) -> Generation:
        """Note that this process answers as the supervisor from now on.

        Args:
            main_ns: When its own code began. That counts where the process is older than its
                program, having executed its successor; else the process' start does.
        """
        pid, began_ns, now = os.getpid(), process_began_ns(), time.time_ns()
        if any(one.pid == pid and one.began_ns >= began_ns - _TICK_NS for one in self.since(0)):
            began_ns = main_ns
        new = Generation(pid, began_ns, max(now, began_ns), adopted)
        self._journal.append(new)
        # One line in the life of a process is not worth a descriptor.
        self._journal.close()
        return new

    def since(self, at_ns: int) -> list[Generation]:
        """Return those that came after a moment, the oldest first; `2 * KEPT` at most."""
        return [one for one in self._journal.read() if one.began_ns >= at_ns]
