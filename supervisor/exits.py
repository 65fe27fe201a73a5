"""How a process ended, from the wait status that the kernel gave its parent."""

from __future__ import annotations

import os

import msgspec

from supervisor.phases import signal_name


class Ending(msgspec.Struct, frozen=True):
    """The exact cause of an end.

    Attributes:
        code: Docker's number: the exit status, or 128 + signal.
        signal: The signal that ended it, 0 for none.
        core_dumped: The kernel wrote a core.
        time_ns: When it was reaped, ns since the epoch.
        unknown: Why nobody can tell, or what else is not known; empty where all is.
    """

    code: int
    signal: int = 0
    core_dumped: bool = False
    time_ns: int = 0
    unknown: str = ""

    @property
    def words(self) -> str:
        """The cause in a few words: `exit 3`, `SIGKILL`, `not known`."""
        if self.unknown and self.code == UNKNOWN_CODE:
            return "not known"
        if not self.signal:
            return f"exit {self.code}"
        return signal_name(self.signal)


UNKNOWN_CODE = 255
"""What Docker reports for a process whose end nobody saw."""


def decode(wait_status: int, time_ns: int) -> Ending:
    """Decode a wait status (wait(2), WIFEXITED and friends)."""
    if os.WIFSIGNALED(wait_status):
        number = os.WTERMSIG(wait_status)
        return Ending(
            code=128 + number,
            signal=number,
            core_dumped=os.WCOREDUMP(wait_status),
            time_ns=time_ns,
        )
    return Ending(code=os.WEXITSTATUS(wait_status), time_ns=time_ns)


def unknown(time_ns: int) -> Ending:
    """An end of which nobody could tell more than that it came."""
    return Ending(
        code=UNKNOWN_CODE,
        time_ns=time_ns,
        unknown="the exit code is unknown: the shim died, and somebody else reaped the process "
        "before this kernel told anybody how it ended",
    )
