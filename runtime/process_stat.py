"""/proc/PID/stat, which tells a process's state, parent, start and end (proc_pid_stat(5)), and its
name, /proc/PID/comm.
"""

from __future__ import annotations

import os

# Where a field stands in what `fields` gives; the man page counts from 1.
STATE = 3 - 3
PARENT = 4 - 3
TERMINAL = 7 - 3
FLAGS = 9 - 3
USER_TICKS = 14 - 3
SYSTEM_TICKS = 15 - 3
START_TICKS = 22 - 3
EXIT_CODE = 52 - 3


_PF_EXITING = 0x4
"""Of the flags (include/linux/sched.h): it ends; set before it lets go of anything."""


def fields(pid: int | str) -> list[bytes]:
    """The fields from 3 on, behind the command's name; `pid` may be "self".

    Raises:
        FileNotFoundError: There is no such process.
        ProcessLookupError: It went while this was read.
    """
    text = _read(pid, "stat")
    # The name may hold anything but ends at the last bracket.
    return text[text.rindex(b")") + 2 :].split()


def start_ticks(pid: int | str) -> int:
    """When a process started, in clock ticks since the boot: tells pids apart that are used again.

    Raises what `fields` raises.
    """
    return int(fields(pid)[START_TICKS])


def is_ending(pid: int, started: int = 0) -> bool:
    """Whether a process has ended or is about to, so that its namespaces can't be joined any more,
    nor can it be moved to another cgroup.

    Args:
        started: Its `start_ticks`, if another process may have its number by now.
    """
    try:
        found = fields(pid)
    except (FileNotFoundError, ProcessLookupError):
        return True
    is_another = bool(started) and int(found[START_TICKS]) != started
    return is_another or bool(int(found[FLAGS]) & _PF_EXITING)


def name(pid: int | str) -> bytes:
    """What execve and prctl(PR_SET_NAME) call it (proc_pid_comm(5)); 15 bytes at most.

    Raises what `fields` raises.
    """
    return _read(pid, "comm").removesuffix(b"\n")


def _read(pid: int | str, file: str) -> bytes:
    # Not open(): its buffer and its questions to the kernel are a tenth of a start's cost.
    fd = os.open(f"/proc/{pid}/{file}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)
