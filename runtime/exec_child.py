"""A process that enters a running container, between clone3 and execve. As wary as `runtime.init`.

It is a fork of the shim, born into the container's pid namespace and into a cgroup of its own
below the container's; so from its first moment the container's processes can see it. They can do
nothing to it but signal it: like the shim it is not dumpable, so without CAP_SYS_PTRACE on the
host nobody may trace it, or reach its memory, descriptors, root and executable by /proc (ptrace(2),
"Ptrace access mode checking"); where those inside have that capability, `runtime.exec_apart` goes
another way. It leaves everything of the shim's behind before it enters the rest:

    descriptors → v1 cgroups → setns(the init's pidfd) → user, limits, cwd, privileges → execve

A failing step is reported over the status pipe as an init's is.
"""

from __future__ import annotations

import os
import sys

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


BIRTH_BYTES = 8
"""Of the memory where `runtime.exec_apart` has the kernel write a pid."""

_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))).encode()
_PROGRAM = b"import sys; sys.path += sys.argv[1:2]; from runtime.exec_apart import main; main()"


def run(door: Kernel, plan: ExecPlan, ends: Ends, host: Host) -> NoReturn:
    """Be the child."""
    go(Becoming(door, plan, host, ends), plan, 0)


def leave(door: Kernel, plan: ExecPlan, ends: Ends, spec: int, birth: int, host: Host) -> NoReturn:
    """Be a child outside the container's pid namespace that becomes `runtime.exec_apart`."""
    child = Becoming(door, plan, host, ends)

    def stages() -> None:
        child.step = "start a program to enter it"
        kept = (ends.status, ends.stdout, ends.stderr, ends.entered, ends.stdin, spec, birth)
        for fd in kept:
            if fd >= 0:
                os.set_inheritable(fd, True)
        about = (
            b",".join(b"%d" % number for number in host.ignored_signals),
            *(b"%d" % number for number in (host.bounding, host.permitted, *host.nofile)),
            host.oom_score_adj,
            *(b"%d" % fd for fd in kept),
        )
        python = (os.fsencode(sys.executable), b"-I", b"-S", b"-E", b"-X", b"utf8", b"-c", _PROGRAM)
        # By this name it is the same file, on the mount that nobody can write to.
        door.execve(b"/proc/self/exe", [*python, _FOLDER, *about], {b"LC_ALL": b"C"})

    becoming.go(child, stages)


def go(child: Becoming, plan: ExecPlan, born: int) -> NoReturn:
    """Enter the container and become the command.

    Args:
        born: CLONE_NEWPID if it is not in the container's pid namespace yet, as which children of
            its are born there.
    """
    door = child.door

    def stages() -> None:
        child.take_ends()
        child.join_cgroups()
        child.step = "enter its namespaces"
        # Root and working directory are the container's root from then on.
        child.enter_namespaces(NAMESPACES | born)
        if plan.silent:
            child.step = "silence it"
            null = child.open_null(os.O_WRONLY)
            for number in plan.silent:
                door.dup2(null, number)
            door.close(null)
        if plan.terminal is not None:
            child.open_terminal()

    becoming.go(child, stages)
