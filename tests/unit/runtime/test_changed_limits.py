"""Which values a change of limits writes, and when it refuses: on plain files, as on pure v2."""

import os
import subprocess
from pathlib import Path

import pytest

from runtime import changed_limits, process_stat
from runtime.cgroup_limits import Limits
from runtime.cgroup_trees import Trees
from runtime.cgroups import Cgroups
from runtime.changed_limits import MemoryInUse, change

MIB = 1 << 20


@pytest.fixture
def v2(tmp_path):
    """A container's directory in a tree that takes all values, and the cgroups around it."""
    cgroups = Cgroups("engine", Trees(tmp_path))
    directory = tmp_path / "engine/c"
    directory.mkdir(parents=True)
    for place in (tmp_path, directory.parent):
        (place / "cgroup.controllers").write_text("memory cpu pids")
        (place / "cgroup.subtree_control").write_text("memory cpu pids")
    (directory / "cgroup.controllers").write_text("memory cpu pids")
    (directory / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (directory / "memory.current").write_text("4096\n")
    for name in ("memory.max", "memory.swap.max", "cpu.max", "cpu.weight", "pids.max"):
        (directory / name).write_text("")
    return cgroups, directory


def written(directory: Path):
    names = ("memory.max", "memory.swap.max", "cpu.max", "cpu.weight", "pids.max")
    return {name: text for name in names if (text := (directory / name).read_text())}


@pytest.mark.parametrize(
    ("before", "after", "values"),
    [
        (Limits(), Limits(), {}),
        (
            Limits(),
            Limits(memory=1 << 40),
            {"memory.max": str(1 << 40), "memory.swap.max": str(1 << 40)},
        ),
        (
            Limits(memory=5),
            Limits(memory=1 << 40, memory_swap=-1),
            {"memory.max": str(1 << 40), "memory.swap.max": "max"},
        ),
        (Limits(memory=5), Limits(), {"memory.max": "max", "memory.swap.max": "max"}),
        (
            Limits(cpu_quota=5000),
            Limits(cpu_shares=2),
            {"cpu.max": "max 100000", "cpu.weight": "1"},
        ),
        (
            Limits(cpu_shares=2),
            Limits(cpu_quota=5000, cpu_period=9000),
            {"cpu.max": "5000 9000", "cpu.weight": "100"},
        ),
        (Limits(pids=5), Limits(pids=7), {"pids.max": "7"}),
        (Limits(pids=5), Limits(), {"pids.max": "max"}),
    ],
)
def test_only_what_differs_is_written(v2, before, after, values):
    cgroups, directory = v2
    change(cgroups, "c", before, after)
    assert written(directory) == values


def test_memory_that_is_in_use_is_not_taken_away(v2):
    cgroups, directory = v2
    with pytest.raises(MemoryInUse, match=r"unable to set memory limit to 6291456 \(current"):
        change(cgroups, "c", Limits(), Limits(memory=6 * MIB, pids=5))
    assert written(directory) == {}


def test_what_fails_half_way_is_taken_back(v2):
    cgroups, directory = v2
    (directory / "pids.max").unlink()
    with pytest.raises(FileNotFoundError):
        change(cgroups, "c", Limits(cpu_quota=5000), Limits(cpu_quota=7000, pids=5))
    assert written_cpu(directory) == "5000 100000"


def written_cpu(directory):
    # The tree's files keep what is longer of what was written before.
    return (directory / "cpu.max").read_text()


def test_a_container_that_forks_all_the_time_is_frozen_while_it_is_moved(monkeypatch, tmp_path):
    """Each look finds a new process, until it is frozen."""
    cgroups = Cgroups("engine", Trees(tmp_path, {"pids": tmp_path / "pids"}))
    directory = tmp_path / "pids/engine/c"
    directory.mkdir(parents=True)
    (directory / "cgroup.procs").write_text("")
    unified = cgroups.unified("c")
    unified.mkdir(parents=True)
    (unified / "cgroup.freeze").write_text("0")
    frozen, moved, looks = [], [], []

    def pids(container_id):
        looks.append(1)
        forking = (unified / "cgroup.freeze").read_text() == "0"
        return {*moved, *([1000 + len(looks)] if forking else [])}

    def move(pid, _):
        moved.append(pid)
        frozen.append((unified / "cgroup.freeze").read_text() == "1")
        (directory / "cgroup.procs").write_text("".join(f"{one}\n" for one in moved))

    monkeypatch.setattr(cgroups, "pids", pids)
    monkeypatch.setattr(changed_limits, "_move", move)
    monkeypatch.setattr(process_stat, "is_ending", lambda pid: False)
    changed_limits._join(cgroups, "c", directory)
    assert frozen == [False, False, False, True]
    assert (unified / "cgroup.freeze").read_text() == "0"


def test_one_that_ends_is_not_waited_for(monkeypatch, tmp_path):
    """The kernel takes its number, moves nothing, and says nothing."""
    cgroups = Cgroups("engine", Trees(tmp_path, {"pids": tmp_path / "pids"}))
    directory = tmp_path / "pids/engine/c"
    directory.mkdir(parents=True)
    (directory / "cgroup.procs").write_text("")
    with subprocess.Popen(["true"]) as ending:
        os.waitid(os.P_PID, ending.pid, os.WEXITED | os.WNOWAIT)
        monkeypatch.setattr(cgroups, "pids", lambda _: {ending.pid})
        monkeypatch.setattr(changed_limits, "_move", lambda pid, _: None)
        changed_limits._join(cgroups, "c", directory)
