"""How soon our processes get a processor on a machine whose containers want all of it.

The kernel divides the processors between sessions first (sched(7), "The autogroup feature"), and
each container is a session of its own: beside a hundred busy ones a supervisor that has just been
started would wait seconds for the half second of work that makes it answer. A session's share is
set in /proc/PID/autogroup, and is not inherited by the sessions made in it, so containers and execs
stay as they are. Where the kernel has no autogroups nothing is changed; where a container is in a
CPU cgroup (pure v2), that cgroup keeps it from crowding us out.
"""

from __future__ import annotations

import os

NICE = -15
"""28 times the weight of an ordinary session; we use little, but that soon."""


def be_prompt(pid: int = 0) -> bool:
    """Give the session of `pid` (0 for ours) a larger share; tells whether it has got it.

    A process that isn't the leader of its session, such as one in somebody's terminal, stays as it
    is: the share would be that of all the session's processes.
    """
    pid = pid or os.getpid()
    if os.getsid(pid) != pid:
        return False
    try:
        fd = os.open(f"/proc/{pid}/autogroup", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"%d" % NICE)
        finally:
            os.close(fd)
    except OSError:
        return False  # no autogroups, or they are switched off, or we may not
    return True
