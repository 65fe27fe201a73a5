"""Commands in the containers of a `ShimDriver`, without any of the supervisor's code."""

from __future__ import annotations

import contextlib
import os
from itertools import count
from pathlib import Path

from runtime import kernel
from runtime import shim_protocol as protocol
from runtime.exec_spec import ExecSpec
from tests.real.shim_driver import Process

_NUMBERS = count()


class Entered(Process):
    """One exec."""

    def __init__(self, driver, exec_id, cgroup):
        super().__init__(driver, exec_id)
        self.cgroup = cgroup

    def status(self):
        """wait(2)'s status, once it has ended."""
        while self.id not in self._driver.exec_exits:
            message = self._driver.receive(protocol.ExecExited)
            self._driver.exec_exits[message.id] = message
        return self._driver.exec_exits[self.id].wait_status

    def pids(self):
        """Who is in its cgroup."""
        return {int(pid) for pid in (self.cgroup / "cgroup.procs").read_text().split()}


@contextlib.contextmanager
def entered(driver, started, *args, stdin=None, **spec):
    """Run a command in a container that runs; it has to have ended when this does.

    `stdin` is what it reads: no more than a pipe holds.
    """
    number = next(_NUMBERS)
    unified = Path(driver.cgroups.trees.unified, driver.cgroups.parent, started.id, f"e{number}")
    unified.mkdir()
    layers = (str(driver.home(started.id) / "upper"), str(driver.lower))
    values = {"layers": layers, "cgroup": str(unified), **spec}
    fd = kernel.memfd_sealed("exec", ExecSpec(args=args, **values).to_json())
    one = Entered(driver, f"e{number}", unified)
    theirs = one.pipes()
    typed = ()
    if stdin is not None:
        stdin_r, stdin_w = os.pipe()
        os.write(stdin_w, stdin)
        os.close(stdin_w)
        typed = (stdin_r,)
    protocol.send(driver.socket, protocol.Exec(one.id, started.id, fd, *theirs, typed))
    for end in (fd, *theirs, *typed):
        os.close(end)
    one.answered(driver.receive(protocol.Execed, protocol.ExecRefused))
    try:
        yield one
    except BaseException:
        (unified / "cgroup.kill").write_text("1")
        raise
    else:
        unified.rmdir()
    finally:
        one.close()


def execute(driver, started, script, **spec):
    """What a shell script prints in a container; it must end with 0."""
    with entered(driver, started, "sh", "-c", script, **spec) as one:
        assert one.refused is None, one.refused
        assert one.failure() is None
        output = one.output()
        errors = one.errors()
        assert one.status() == 0, errors
        return output
