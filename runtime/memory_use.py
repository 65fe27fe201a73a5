"""How much memory processes hold, where no cgroup counts it (proc_pid_statm(5))."""

from __future__ import annotations

import os
from collections.abc import Iterable

_PAGE = os.sysconf("SC_PAGE_SIZE")


def anonymous_bytes(pids: Iterable[int]) -> int:
    """What processes hold that is in no file: resident without what is shared.

    Files that are mapped count for nobody, nor does memory in /dev/shm; after a fork a page counts
    for each until one of them writes it.
    """
    return sum(map(_anonymous, pids)) * _PAGE


def _anonymous(pid: int) -> int:
    try:
        fd = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        _, resident, shared, *_ = os.read(fd, 256).split()
    except ProcessLookupError:
        return 0
    finally:
        os.close(fd)
    return int(resident) - int(shared)
