"""Signals to processes that are known by a number only."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable


def signal_if(pid: int, number: int, is_meant: Callable[[], bool]) -> bool:
    """Send a signal to a process if it is the one that is meant; tell whether it was sent.

    Args:
        is_meant: Looks at /proc/PID. Whoever gets the pid after that is not signalled: its process
            is held by a pidfd meanwhile. An OSError means that it is not.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False  # it has ended meanwhile, or is a thread
    try:
        if not is_meant():
            return False
        signal.pidfd_send_signal(pidfd, number)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return True
