"""A process that enters a running container, between clone3 and execve. As wary as `runtime.init`.

It is a fork of the shim, born into the container's pid namespace and into a cgroup of its own
below the container's; so from its first moment the container's processes can see it. They can do
nothing to it but signal it: like the shim it is not dumpable, so without CAP_SYS_PTRACE on the
host nobody may trace it, or reach its memory, descriptors, root and executable by /proc (ptrace(2),
"Ptrace access mode checking"). It leaves everything of the shim's behind before it enters the rest:

    descriptors → v1 cgroups → setns(the init's pidfd) → user, limits, cwd, privileges → execve

A failing step is reported over the status pipe as an init's is.
"""

from __future__ import annotations

import os

from runtime import becoming, flags
from runtime.becoming import HIGHEST_FD, STATUS_FD, Becoming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from runtime.becoming import Host
    from runtime.exec_plan import ExecPlan
    from runtime.kernel import Kernel

_CONTAINER_FD = 4
_NAMESPACES = flags.OWN_NAMESPACES | flags.CLONE_NEWNET


class Ends:
    """The descriptors it is born with; all are above `init.FIRST_FREE_FD`.

    Attributes:
        container: The pidfd of the container's init.
    """

    __slots__ = ("container", "status", "stderr", "stdout")

    def __init__(self, status: int, stdout: int, stderr: int, container: int) -> None:
        self.status = status
        self.stdout = stdout
        self.stderr = stderr
        self.container = container


def run(door: Kernel, plan: ExecPlan, ends: Ends, host: Host) -> NoReturn:
    """Be the child."""
    child = _Entrant(door, plan, host, ends.status)

    def stages() -> None:
        child.take_ends(ends)
        child.enter(plan)

    becoming.go(child, stages)


class _Entrant(Becoming):
    """The stages before it becomes what was asked for, in order."""

    __slots__ = ()

    def take_ends(self, ends: Ends) -> None:
        """Own session, own stdout and stderr, and no descriptor of the shim's any more."""
        door = self.door
        door.dup2(ends.status, STATUS_FD, False)
        self.status = STATUS_FD
        door.dup2(ends.stdout, 1)
        door.dup2(ends.stderr, 2)
        door.dup2(ends.container, _CONTAINER_FD, False)
        door.close_range(_CONTAINER_FD + 1, HIGHEST_FD, 0)
        door.setsid()
        door.prctl(flags.PR_SET_DUMPABLE, 0)

    def enter(self, plan: ExecPlan) -> None:
        """Join the container's limits and namespaces; root and cwd are its root from then on."""
        door = self.door
        self.step = "enter its cgroups"
        for procs in plan.joins:
            fd = door.open(procs, os.O_WRONLY | os.O_CLOEXEC)
            door.write(fd, b"0")
            door.close(fd)
        self.step = "enter its namespaces"
        door.setns(_CONTAINER_FD, _NAMESPACES)
        door.close(_CONTAINER_FD)
