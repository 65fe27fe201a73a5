"""Where SIGTERM is turned into SIGKILL.

One `Escalation` belongs to a container, not to the request that began it: a client that hangs up
does not save the container, and a second request joins the one under way and can only bring its
deadline nearer.

    send the stop signal ──▶ wait until the deadline ──▶ SIGKILL to the whole cgroup
                                   │ exits                      │
                                   ▼                            ▼
                                 done              wait up to KILL_LIMIT_S, else report

The signal and the deadline, on a clock that no supervisor's death stops, are put on record before
the signal is sent: the next supervisor goes on with what is left of the time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Protocol

import anyio
import structlog

from supervisor.container import PendingStop

log = structlog.get_logger()

KILL_LIMIT_S = 10.0
"""A process that outlives SIGKILL this long is in uninterruptible sleep: reported, not awaited."""

DEFAULT_TIMEOUT_S = 10.0
"""Docker's, where neither the request nor the container names one."""


class Target(Protocol):
    """What is stopped: a running container, or a test's stand-in."""

    @property
    def exited(self) -> anyio.Event:
        """Set once the process has ended."""
        ...

    def send_signal(self, number: int) -> None:
        """Send to the container's init, through its pidfd."""
        ...

    def kill_all(self) -> None:
        """Send SIGKILL to every process of the container's cgroup."""
        ...

    def stuck_words(self) -> str:
        """Say which process does not die, and in which state the kernel holds it."""
        ...


class Escalation:
    """The stopping of one run of a container.

    Attributes:
        deadline: On the event loop's clock; `math.inf` to wait for ever.
        killed: SIGKILL had to be sent.
        stuck: Why the process outlives SIGKILL, empty if it does not.
        done: Set when the process has ended or was found to be stuck.
    """

    def __init__(
        self, target: Target, signal_number: int, timeout: float, *, sent: bool = False
    ) -> None:
        """Make it; `run` does it.

        Args:
            timeout: Seconds; negative for ever.
            sent: An earlier supervisor has sent the signal.
        """
        self._sent = sent
        self._target = target
        self._signal_number = signal_number
        self._scope: anyio.CancelScope | None = None
        self.deadline = deadline_after(timeout)
        self.killed = False
        self.stuck = ""
        self.done = anyio.Event()

    def hasten(self, timeout: float) -> None:
        """Join: bring the deadline nearer if `timeout` ends earlier; never push it back."""
        self.deadline = min(self.deadline, deadline_after(timeout))
        if self._scope is not None:
            self._scope.deadline = self.deadline

    async def run(self, on_signal: Callable[[int], None] = lambda number: None) -> None:
        """Stop the target; returns when it is gone, or is known to be stuck.

        Args:
            on_signal: Called for each signal sent (for the event stream).
        """
        try:
            if not self._sent:
                self._target.send_signal(self._signal_number)
                on_signal(self._signal_number)
            with anyio.CancelScope(deadline=self.deadline) as self._scope:
                await self._target.exited.wait()
            if self._target.exited.is_set():
                return
            self.killed = True
            self._target.kill_all()
            on_signal(9)
            with anyio.move_on_after(KILL_LIMIT_S):
                await self._target.exited.wait()
            if not self._target.exited.is_set():
                self.stuck = self._target.stuck_words()
                log.error("container.stuck", reason=self.stuck, waited_s=KILL_LIMIT_S)
        finally:
            self.done.set()


def pending(signal_number: int, timeout: float, earlier: PendingStop | None = None) -> PendingStop:
    """What is put on record of a stop; one that joins `earlier` only brings its deadline nearer."""
    deadline = None if timeout < 0 else _boot_ns() + int(timeout * 1e9)
    if earlier is None:
        return PendingStop(signal_number, deadline)
    deadlines = [one for one in (deadline, earlier.deadline_boot_ns) if one is not None]
    return PendingStop(earlier.signal, min(deadlines, default=None), earlier.sent)


def remaining_s(stop: PendingStop) -> float:
    """Seconds that are left of a recorded stop's timeout; -1 for ever."""
    if stop.deadline_boot_ns is None:
        return -1
    return max(0.0, (stop.deadline_boot_ns - _boot_ns()) / 1e9)


def _boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def deadline_after(timeout: float) -> float:
    """Turn a timeout in seconds (negative: for ever) into a deadline on the loop's clock."""
    return math.inf if timeout < 0 else anyio.current_time() + timeout
