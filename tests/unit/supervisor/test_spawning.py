"""Finding the init of a start whose shim has died."""

import os
import subprocess

from runtime.process_stat import start_ticks
from supervisor.spawning import find_init


class FakeCgroups:
    def __init__(self, *children):
        self.processes = {child.pid for child in children}

    def pids(self, _container_id):
        return self.processes


def test_without_a_pid_namespace_of_its_own_it_is_the_oldest():
    children = [subprocess.Popen(["sleep", "1000"]) for _ in range(3)]
    try:
        found = find_init(FakeCgroups(*children), "c", apart=False)
        assert found is not None
        os.close(found.pidfd)
        oldest = min(children, key=lambda child: (start_ticks(child.pid), child.pid))
        assert (found.pid, found.start_ticks) == (oldest.pid, start_ticks(oldest.pid))
        assert find_init(FakeCgroups(*children), "c") is None  # none is the first of one
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert find_init(FakeCgroups(*children), "c", apart=False) is None
