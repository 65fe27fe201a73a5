"""Commands in the containers of a `ShimDriver`, without any of the supervisor's code."""

from __future__ import annotations

import contextlib
import json
import os
from itertools import count
from pathlib import Path

from runtime import kernel
from runtime import shim_protocol as protocol
from runtime.exec_spec import ExecSpec

_NUMBERS = count()


class Entered:
    """One exec: its ends, and what the shim said."""

    def __init__(self, driver, exec_id, cgroup, ends):
        self.id = exec_id
        self.cgroup = cgroup
        self.pid, self.pidfd = 0, -1
        self.refused = None
        self._driver = driver
        self._ends = ends

    def failure(self):
        """The child's report, None once it has become the command."""
        text = self._read("status")
        return json.loads(text) if text else None

    def output(self):
        """All of stdout, at its end."""
        return self._read("stdout").decode()

    def errors(self):
        return self._read("stderr").decode()

    def readline(self):
        line = b""
        while not line.endswith(b"\n") and (byte := os.read(self._ends["stdout"], 1)):
            line += byte
        return line.decode()

    def status(self):
        """wait(2)'s status, once it has ended."""
        while self.id not in self._driver.exec_exits:
            message = self._driver.receive(protocol.ExecExited)
            self._driver.exec_exits[message.id] = message
        return self._driver.exec_exits[self.id].wait_status

    def pids(self):
        """Who is in its cgroup."""
        return {int(pid) for pid in (self.cgroup / "cgroup.procs").read_text().split()}

    def link_of(self, stream):
        """What /proc calls the pipe of "stdout", "stderr" or "status"."""
        return os.readlink(f"/proc/self/fd/{self._ends[stream]}")

    def close(self):
        for fd in (*self._ends.values(), self.pidfd):
            if fd >= 0:
                os.close(fd)
        self._ends, self.pidfd = {}, -1

    def _read(self, name):
        parts = []
        while part := os.read(self._ends[name], 65536):
            parts.append(part)
        return b"".join(parts)


@contextlib.contextmanager
def entered(driver, started, *args, **spec):
    """Run a command in a container that runs; it has to have ended when this does."""
    number = next(_NUMBERS)
    unified = Path(driver.cgroups.trees.unified, driver.cgroups.parent, started.id, f"e{number}")
    unified.mkdir()
    layers = (str(driver.home(started.id) / "upper"), str(driver.lower))
    values = {"layers": layers, "cgroup": str(unified), **spec}
    fd = kernel.memfd_sealed("exec", ExecSpec(args=args, **values).to_json())
    status_r, status_w = os.pipe()
    stdout_r, stdout_w = os.pipe()
    stderr_r, stderr_w = os.pipe()
    message = protocol.Exec(f"e{number}", started.id, fd, status_w, stdout_w, stderr_w, ())
    protocol.send(driver.socket, message)
    for end in (fd, status_w, stdout_w, stderr_w):
        os.close(end)
    ends = {"status": status_r, "stdout": stdout_r, "stderr": stderr_r}
    one = Entered(driver, f"e{number}", unified, ends)
    answer = driver.receive(protocol.Execed, protocol.ExecRefused)
    assert answer.id == one.id
    if isinstance(answer, protocol.Execed):
        one.pid, one.pidfd = answer.pid, answer.pidfd
    else:
        one.refused = answer
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
