"""How a process ended, learnt by somebody who need not be its parent.

After a supervisor's or a shim's death the inits have another parent than whoever holds their
pidfds: the supervisor as subreaper, or the machine's PID 1. Their status is told, in this order:

    waitid(P_PIDFD, WNOWAIT)    to the parent alone                            wait(2)
    field 52 of /proc/PID/stat  while the zombie is not reaped                 proc(5)
    PIDFD_GET_INFO              once anybody has reaped it, from Linux 6.15    linux/pidfd.h
    the proc connector          to whoever listened at that moment (`runtime.exit_events`)

Nothing here reaps: whoever is the parent does that (`bury`) when the status is where the next death
can't reach it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct

from runtime import process_stat
from runtime.kernel import wait_status
from runtime.shim_protocol import UNKNOWN_STATUS

__all__ = ["UNKNOWN_STATUS", "bury", "has_ended", "is_told_after_reaping", "status_of"]

# struct pidfd_info of linux/pidfd.h in its first version, 64 bytes: mask, cgroupid, eleven ids,
# exit_code; _IOWR(0xFF, 11, …).
_PIDFD_INFO = struct.Struct("=QQ11Ii")
_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_EXIT = 1 << 3
_EXIT_INFO_SINCE = (6, 15)


def status_of(pid: int, start_ticks: int, pidfd: int) -> int | None:
    """wait(2)'s status of a process that has ended, None where it lives or nobody can tell.

    Args:
        pid: Its number; another process may have it by now, which `start_ticks` would show.
        pidfd: Its pidfd, which is readable once it has ended (pidfd_open(2)).
    """
    status = _as_parent(pidfd)
    if status is None:
        status = _of_zombie(pid, start_ticks)
    return _of_reaped(pidfd) if status is None else status


def has_ended(pidfd: int) -> bool:
    """Whether its process, with all its threads, has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def bury(pidfd: int) -> None:
    """Reap it if it is an ended child of the caller; nothing happens otherwise."""
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return


def is_told_after_reaping() -> bool:
    """Whether this kernel tells the status of what somebody else has reaped (PIDFD_INFO_EXIT)."""
    major, minor = os.uname().release.split(".")[:2]
    digits = minor[: len(minor) - len(minor.lstrip("0123456789"))]
    return (int(major), int(digits or 0)) >= _EXIT_INFO_SINCE


def _as_parent(pidfd: int) -> int | None:
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if result is None else wait_status(result.si_code, result.si_status)


def _of_zombie(pid: int, start_ticks: int) -> int | None:
    try:
        fields = process_stat.fields(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    ended = fields[process_stat.STATE] in (b"Z", b"X")
    if not ended or int(fields[process_stat.START_TICKS]) != start_ticks:
        return None
    return int(fields[process_stat.EXIT_CODE])


def _of_reaped(pidfd: int) -> int | None:
    info = bytearray(_PIDFD_INFO.pack(_PIDFD_INFO_EXIT, 0, *(0,) * 11, 0))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError as error:
        # No such ioctl before 6.13; ESRCH before 6.15, or where nobody held it as it was reaped.
        if error.errno in (errno.ENOTTY, errno.EINVAL, errno.ESRCH):
            return None
        raise
    mask, *_, exit_code = _PIDFD_INFO.unpack(info)
    return exit_code if mask & _PIDFD_INFO_EXIT else None
