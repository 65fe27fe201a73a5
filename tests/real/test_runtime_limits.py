"""Limits, on whatever cgroup trees this machine has."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from runtime.cgroups import Limits
from runtime.errors import CgroupsUnusable

MIB = 1024 * 1024


def directory(driver, started, controller):
    """Where this machine keeps a container's values of one controller."""
    tree = driver.cgroups.trees.v1.get(controller, driver.cgroups.trees.unified)
    return tree / driver.cgroups.parent / started.id


def value(driver, started, controller, v1, v2):
    name = v1 if driver.cgroups.hybrid else v2
    return (directory(driver, started, controller) / name).read_text().split()


def test_more_memory_than_allowed_is_an_oom_kill(driver):
    started = driver.start(
        "sh", "-c", "head -c 200m /dev/zero | tail", limits=Limits(memory=16 * MIB)
    )
    assert started.failure() is None
    assert os.waitstatus_to_exitcode(started.status()) in (137, -signal.SIGKILL)
    assert driver.cgroups.oom_kills(started.id) >= 1


def test_a_kill_is_no_oom_kill(driver):
    started = driver.start("sleep", "1000", limits=Limits(memory=16 * MIB))
    assert started.failure() is None
    started.kill()
    assert os.WTERMSIG(started.status()) == signal.SIGKILL
    assert driver.cgroups.oom_kills(started.id) == 0


def test_memory_values(driver):
    limits = Limits(memory=16 * MIB, memory_swap=24 * MIB)
    started = driver.start("sleep", "1000", limits=limits)
    kept = value(driver, started, "memory", "memory.limit_in_bytes", "memory.max")
    assert kept == [str(16 * MIB)]
    swap = "memory.memsw.limit_in_bytes"
    kept = value(driver, started, "memory", swap, "memory.swap.max")
    assert kept == [str(24 * MIB if driver.cgroups.hybrid else 8 * MIB)]


def test_too_many_processes_are_refused(driver):
    script = "i=0; while [ $i -lt 20 ]; do sleep 100 & i=$((i+1)); done; echo all"
    started = driver.start("sh", "-c", script, limits=Limits(pids=8))
    assert started.output() == ""
    assert "can't fork" in started.errors()


def test_cpu_values(driver):
    limits = Limits(cpu_quota=50_000, cpu_period=200_000, cpu_shares=512)
    started = driver.start("sleep", "1000", limits=limits)
    if driver.cgroups.hybrid:
        files = [
            directory(driver, started, "cpu") / name
            for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares")
        ]
        assert [file.read_text().strip() for file in files] == ["50000", "200000", "512"]
    else:
        assert value(driver, started, "cpu", "", "cpu.max") == ["50000", "200000"]
        assert value(driver, started, "cpu", "", "cpu.weight") == ["20"]


def test_the_init_itself_is_inside_its_limits(driver):
    started = driver.start("sleep", "1000", limits=Limits(memory=64 * MIB, pids=9))
    assert started.failure() is None
    lines = Path(f"/proc/{started.pid}/cgroup").read_text().splitlines()
    own = f"/{driver.cgroups.parent}/{started.id}"
    inside = {line.split(":")[1] for line in lines if line.endswith(own)}
    assert inside == ({"memory", "pids", ""} if driver.cgroups.hybrid else {""})


def test_without_limits_only_the_v2_tree_is_touched(driver):
    started = driver.start("sleep", "1000")
    for tree in driver.cgroups.trees.v1.values():
        assert not (tree / driver.cgroups.parent / started.id).exists()


def test_the_container_sees_its_own_limits_read_only(driver):
    v1 = "/sys/fs/cgroup/memory/memory.limit_in_bytes"
    script = f"cat {v1} 2>/dev/null || cat /sys/fs/cgroup/memory.max; cut -d: -f3 /proc/self/cgroup"
    seen = driver.run(script, limits=Limits(memory=32 * MIB)).split()
    assert seen[0] == str(32 * MIB)
    assert set(seen[1:]) == {"/"}
    script = "mkdir /sys/fs/cgroup/x /sys/fs/cgroup/memory/x /sys/fs/cgroup/unified/x; true"
    started = driver.start("sh", "-c", script, limits=Limits(memory=32 * MIB))
    lines = started.errors().splitlines()
    assert len(lines) == 3
    assert "Read-only file system" in lines[0]


def test_a_value_that_the_kernel_refuses_leaves_nothing(driver):
    with pytest.raises(OSError, match="can't write"):
        driver.cgroups.create("bad", Limits(cpu_quota=1, cpu_period=1))
    trees = (driver.cgroups.trees.unified, *driver.cgroups.trees.v1.values())
    assert [tree for tree in trees if (tree / driver.cgroups.parent / "bad").exists()] == []


def test_remove_takes_what_was_made_below(driver):
    driver.cgroups.create("nested")
    below = driver.cgroups.trees.unified / driver.cgroups.parent / "nested"
    (below / "a/b").mkdir(parents=True)
    driver.cgroups.remove("nested")
    driver.cgroups.remove("nested")
    assert not below.exists()


@pytest.mark.parametrize("old_kernel", [False, True])
def test_kill_reaches_every_process(driver, old_kernel, monkeypatch):
    # It never ends by itself, whichever of them is killed first.
    script = "for i in 1 2 3; do sleep 1000 & done; echo up; while :; do sleep 1000; done"
    started = driver.start("sh", "-c", script)
    assert started.readline() == "up\n"
    if old_kernel:
        driver.cgroups._kill_each(driver.cgroups._unified / started.id)
    else:
        driver.cgroups.kill(started.id)
    assert os.WTERMSIG(started.status()) == signal.SIGKILL
    assert not driver.cgroups.populated(started.id)


def test_removing_a_cgroup_that_is_in_use_is_refused(driver):
    started = driver.start("sleep", "1000")
    assert driver.cgroups.populated(started.id)
    with pytest.raises(OSError, match="busy"):
        driver.cgroups.remove(started.id)


def test_what_is_not_there_is_not_populated_and_can_be_killed(driver):
    assert not driver.cgroups.populated("ghost")
    driver.cgroups.kill("ghost")
    assert driver.cgroups.oom_kills("ghost") == 0


def test_a_controller_that_is_missing_is_named(driver, monkeypatch):
    if not driver.cgroups.hybrid:
        pytest.skip("v2: the controllers are all in one tree")
    monkeypatch.delitem(driver.cgroups.trees.v1, "pids")
    with pytest.raises(CgroupsUnusable, match="a pids limit needs the pids cgroup controller"):
        driver.cgroups.create("none", Limits(pids=5))
