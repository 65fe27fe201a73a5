"""An exec where those inside may trace whom they see (CAP_SYS_PTRACE).

Such a container could look into, and take over, whoever is born into its pid namespace with more
rights than it has, or with the machine's files for its root (/proc/PID/root). So nobody is: this is
a program of its own, started outside by the shim's child (`exec_child.leave`), that enters
everything else, gives up its rights, and only then has a sibling inside that becomes the command:
another child of the shim's, which goes on with that one (`shim_exec`). A fresh program, since the
sibling is a copy of it and can be read: of the shim's memory nothing is in it.

    argv  DIRECTORY IGNORED BOUNDING PERMITTED SOFT HARD SCORE, and the numbers of descriptors:
          STATUS STDOUT STDERR ENTERED STDIN (-1 for none) SPEC BIRTH

BIRTH is a memfd of `BIRTH_BYTES`. The kernel writes the sibling's pid there when it makes it, so
that the shim learns of it whoever is killed when.
"""

from __future__ import annotations

# The C module of `signal`, whose import costs each exec.
import _signal  # type: ignore[import-not-found]  # typeshed has none
import mmap
import os
import sys

from runtime import becoming, exec_child, flags, terminal
from runtime.becoming import Becoming, Ends, Host
from runtime.exec_plan import ExecPlan, compile_exec
from runtime.kernel import DOOR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Be that program."""
    _, ignored, bounding, permitted, soft, hard, score, *numbers = sys.argv[1:]
    status, stdout, stderr, entered, stdin, spec, birth = map(int, numbers)
    plan = compile_exec(os.pread(spec, os.fstat(spec).st_size, 0))
    host = Host(
        # Those of the shim, which outlive an execve, and what Python ignores by itself.
        sorted({*map(int, ignored.split(",")), _signal.SIGPIPE, _signal.SIGXFSZ}),
        int(bounding),
        int(permitted),
        (int(soft), int(hard)),
        score.encode(),
    )
    ends = Ends(status, stdout, stderr, entered, stdin)
    page = mmap.mmap(birth, exec_child.BIRTH_BYTES)
    # The sibling, which those inside can write to, shall not have it: the shim believes it.
    page.madvise(mmap.MADV_DONTFORK)
    exec_child.go(_Apart(plan, host, ends, page), plan, flags.CLONE_NEWPID)


class _Apart(Becoming):
    """It leaves the execve to a sibling inside."""

    __slots__ = ("_page",)

    def __init__(self, plan: ExecPlan, host: Host, ends: Ends, page: mmap.mmap) -> None:
        super().__init__(DOOR, plan, host, ends)
        self._page = page

    def last_rights_given_up(self) -> None:
        """Have the sibling, and return in it alone."""
        door, wanted = self.door, self.wanted
        # What the filter needed (`becoming.to_filter`); the sibling shall not have it for a moment.
        if becoming.to_filter(wanted):
            left = wanted.keep & self.host.permitted if os.getuid() == 0 else 0
            door.capset(left, left, 0)
            door.prctl(flags.PR_SET_DUMPABLE, 0)
        if wanted.terminal is not None:
            # It goes to the sibling's session; whom this hangs up is this process alone.
            _signal.signal(_signal.SIGHUP, _signal.SIG_IGN)
            terminal.give_up()
            _signal.signal(_signal.SIGHUP, _signal.SIG_DFL)
        self.step = "have a process in its pid namespace"
        if door.clone_sibling(self._page):
            os._exit(0)
        door.setsid()
        if wanted.terminal is not None:
            terminal.take_control()
        self.step = "execute"
