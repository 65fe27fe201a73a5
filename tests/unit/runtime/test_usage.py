"""What is read of a container's use where controllers count and where none does."""

import os

import pytest

from runtime.cgroup_trees import Trees
from runtime.cgroups import Cgroups
from runtime.usage import Transfer, machine, usage, usages

NO_LIMIT = 2**64 - 1


@pytest.fixture
def tree(tmp_path):
    """Makes the cgroups of a container `c` out of files, with our own process in it."""

    def make(files, v1=()):
        trees = {name: tmp_path / name for name in v1}
        cgroups = Cgroups("engine", Trees(tmp_path / "unified", trees))
        base = {
            "unified/cpu.stat": "usage_usec 30\nuser_usec 20\nsystem_usec 10\n",
            "unified/cgroup.procs": f"{os.getpid()}\n",
            "unified/cgroup.threads": f"{os.getpid()}\n1\n",
        }
        for name, text in (base | files).items():
            place, _, file = name.partition("/")
            path = tmp_path / place / "engine/c" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return cgroups

    return make


def test_where_no_controller_counts(tree):
    cgroups = tree({"unified/health/cgroup.threads": "7\n"}, v1=("memory", "pids", "cpu"))
    found = usage(cgroups, "c", 5)
    assert (found.cpu_ns, found.user_ns, found.system_ns) == (30_000, 20_000, 10_000)
    assert (found.periods, found.throttled_periods, found.throttled_ns) == (0, 0, 0)
    assert (found.pids, found.pids_limit) == (3, NO_LIMIT)
    assert found.transfers is None
    memory = found.memory
    assert memory.details == {"anon": memory.usage}
    assert memory.usage > 1 << 20
    assert (memory.limit, memory.peak, memory.failures) == (0, None, None)
    assert found.machine_cpu_ns == 5


def v1_files(usage_bytes):
    return {
        "cpu/cpu.stat": "nr_periods 5\nnr_throttled 2\nthrottled_time 900\n",
        "memory/memory.usage_in_bytes": f"{usage_bytes}\n",
        "memory/memory.max_usage_in_bytes": "5000\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/memory.failcnt": "3\n",
        "memory/memory.stat": "cache 1\ntotal_inactive_file 64\n",
        "pids/pids.current": "9\n",
        "pids/pids.max": "12\n",
    }


def test_v1(tree):
    found = usage(tree(v1_files(4096), v1=("memory", "pids", "cpu")), "c", 5)
    assert (found.periods, found.throttled_periods, found.throttled_ns) == (5, 2, 900)
    assert (found.pids, found.pids_limit) == (9, 12)
    memory = found.memory
    assert (memory.usage, memory.limit, memory.peak, memory.failures) == (4096, 0, 5000, 3)
    assert memory.details == {"cache": 1, "total_inactive_file": 64}


@pytest.mark.parametrize(("counted", "more"), [(4096, True), (1 << 50, False)])
def test_what_a_late_limit_does_not_count_is_looked_for(tree, counted, more):
    cgroups = tree(v1_files(counted), v1=("memory", "pids", "cpu"))
    found = usage(cgroups, "c", 5, memory_uncounted=True)
    assert (found.memory.usage > counted) == more
    assert found.memory.failures == 3


def test_v2(tree):
    files = {
        "unified/cpu.stat": "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\n"
        "nr_throttled 1\nthrottled_usec 7\n",
        "unified/memory.current": "8192\n",
        "unified/memory.max": "max\n",
        "unified/memory.stat": "anon 1\ninactive_file 2\n",
        "unified/pids.current": "2\n",
        "unified/pids.max": "max\n",
        "unified/io.stat": "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n7:0 \n",
    }
    found = usage(tree(files), "c", 5)
    assert (found.periods, found.throttled_periods, found.throttled_ns) == (4, 1, 7000)
    assert (found.memory.usage, found.memory.limit) == (8192, 0)
    assert (found.pids, found.pids_limit) == (2, NO_LIMIT)
    assert found.transfers == (Transfer(8, 16, 1, 2, 3, 4),)


def test_what_has_ended_is_missing(tree):
    cgroups = tree({})
    assert usage(cgroups, "ghost", 5) is None
    assert usages(cgroups, [("c", False)])["c"].machine_cpu_ns > 5
    assert list(usages(cgroups, [("ghost", False), ("c", False)])) == ["c"]


def test_the_machine():
    found = machine()
    assert found.cpus == os.cpu_count()
    assert found.memory > 1 << 25
    assert found.cpu_ns > 0
