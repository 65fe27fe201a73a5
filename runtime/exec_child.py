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
from runtime.becoming import Becoming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from runtime.becoming import Ends, Host
    from runtime.exec_plan import ExecPlan
    from runtime.kernel import Kernel

NAMESPACES = flags.OWN_NAMESPACES | flags.CLONE_NEWNET
"""Which of the container's it enters; into the pid namespace it is born."""


def run(door: Kernel, plan: ExecPlan, ends: Ends, host: Host) -> NoReturn:
    """Be the child."""
    child = Becoming(door, plan, host, ends)

    def stages() -> None:
        child.take_ends()
        child.join_cgroups()
        child.step = "enter its namespaces"
        # Root and working directory are the container's root from then on.
        child.enter_namespaces(NAMESPACES)
        if plan.silent:
            child.step = "silence it"
            null = child.open_null(os.O_WRONLY)
            for number in plan.silent:
                door.dup2(null, number)
            door.close(null)
        if plan.terminal is not None:
            child.open_terminal()

    becoming.go(child, stages)
