"""Where the trees are, and which value goes to which file: the parts that need no kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime import block_limits, cpuset_trees
from runtime import cgroups as cgroups_module
from runtime.cgroup_limits import Limits, v1_values, v2_values, write_all, write_weight
from runtime.cgroup_trees import Trees, find_trees
from runtime.cgroups import Cgroups
from runtime.errors import CgroupsUnusable

V2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
SWAP = Limits(memory=100, memory_swap=150)
HYBRID = """31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /my\\040cgroups/memory rw shared:9 master:1 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def test_pure_v2():
    trees = find_trees(V2)
    assert str(trees.unified) == "/sys/fs/cgroup"
    assert trees.v1 == {}


def test_hybrid():
    trees = find_trees(HYBRID)
    assert str(trees.unified) == "/sys/fs/cgroup/unified"
    names = {name: str(path) for name, path in trees.v1.items()}
    assert names == {"cpu": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/my cgroups/memory"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no cgroup2 tree is mounted; mount one"),
        (HYBRID.rpartition("41 31")[0], "only cgroup v1"),
    ],
)
def test_no_v2_tree(text, words):
    with pytest.raises(CgroupsUnusable, match=words):
        find_trees(text)


def test_a_tree_that_can_not_be_written(tmp_path):
    table = tmp_path / "mountinfo"
    table.write_text("29 23 0:26 / /proc/no/such rw - cgroup2 cgroup2 rw\n")
    with pytest.raises(CgroupsUnusable, match="is the cgroup2 tree writable"):
        Cgroups.detect("engine", table)


@pytest.mark.parametrize(
    ("limits", "controllers"),
    [
        (Limits(), ()),
        (Limits(pids=0), ()),
        (Limits(pids=-1), ()),
        (Limits(cpu_quota=-1), ()),
        (Limits(memory_swap=-1), ()),
        (Limits(memory=1), ("memory",)),
        (Limits(cpu_shares=2), ("cpu",)),
        (Limits(cpu_period=1000), ("cpu",)),
        (Limits(memory=1, cpu_quota=1, pids=1), ("memory", "cpu", "pids")),
        (Limits(memory_reservation=1), ("memory",)),
        (Limits(memory_swappiness=0), ("memory",)),
        (Limits(cpuset_mems="0", blkio_weight=10), ("cpuset", "blkio")),
    ],
)
def test_only_what_has_a_limit_costs_a_directory(limits, controllers):
    assert limits.controllers() == controllers


@pytest.mark.parametrize(
    ("controller", "limits", "values"),
    [
        (
            "memory",
            Limits(memory=100),
            {"memory.limit_in_bytes": "100", "memory.memsw.limit_in_bytes?": "200"},
        ),
        (
            "memory",
            Limits(memory=100, memory_swap=150),
            {"memory.limit_in_bytes": "100", "memory.memsw.limit_in_bytes": "150"},
        ),
        (
            "memory",
            Limits(memory=100, memory_swap=-1),
            {"memory.limit_in_bytes": "100", "memory.memsw.limit_in_bytes": "-1"},
        ),
        (
            "cpu",
            Limits(cpu_period=1, cpu_quota=2, cpu_shares=3),
            {"cpu.cfs_period_us": "1", "cpu.cfs_quota_us": "2", "cpu.shares": "3"},
        ),
        ("pids", Limits(pids=7), {"pids.max": "7"}),
        ("memory", Limits(memory_reservation=7), {"memory.soft_limit_in_bytes": "7"}),
        ("memory", Limits(memory_swappiness=0), {"memory.swappiness": "0"}),
        ("cpuset", Limits(cpuset_cpus="0", pids=7), {"cpuset.cpus": "0"}),
        ("blkio", Limits(blkio_weight=10, pids=7), {}),
    ],
)
def test_values_of_v1(controller, limits, values):
    assert v1_values(controller, limits) == values


@pytest.mark.parametrize(
    ("limits", "values"),
    [
        (Limits(), {}),
        (Limits(memory=100), {"memory.max": "100", "memory.swap.max?": "100"}),
        (Limits(memory=100, memory_swap=150), {"memory.max": "100", "memory.swap.max": "50"}),
        (Limits(memory=100, memory_swap=100), {"memory.max": "100", "memory.swap.max": "0"}),
        (Limits(memory=100, memory_swap=-1), {"memory.max": "100", "memory.swap.max?": "max"}),
        (Limits(cpu_quota=5000), {"cpu.max": "5000 100000"}),
        (Limits(cpu_quota=5000, cpu_period=1000), {"cpu.max": "5000 1000"}),
        (Limits(cpu_period=1000), {"cpu.max": "max 1000"}),
        (Limits(cpu_shares=2), {"cpu.weight": "1"}),
        (Limits(cpu_shares=1024), {"cpu.weight": "39"}),
        (Limits(cpu_shares=262144), {"cpu.weight": "10000"}),
        (Limits(pids=9), {"pids.max": "9"}),
        (Limits(memory_reservation=9), {"memory.low": "9"}),
        (Limits(cpuset_mems="0-1"), {"cpuset.mems": "0-1"}),
    ],
)
def test_values_of_v2(limits, values):
    assert v2_values(limits) == values


@pytest.mark.parametrize(
    ("files", "weight", "written"),
    [
        (["blkio.bfq.weight"], 300, "300"),
        (["blkio.weight"], 0, "500"),
        (["io.bfq.weight", "io.weight"], 300, "300"),
        (["io.weight"], 10, "1"),
        (["io.weight"], 1000, "10000"),
        (["io.weight"], 0, "100"),
    ],
)
def test_a_weight_goes_where_the_kernel_takes_one(tmp_path, files, weight, written):
    for name in files:
        (tmp_path / name).write_text("")
    write_weight(tmp_path, weight)
    assert (tmp_path / files[0]).read_text() == written
    assert all((tmp_path / name).read_text() == "" for name in files[1:])


@pytest.mark.parametrize("values", [v1_values("memory", SWAP), v2_values(SWAP)])
def test_swap_on_a_kernel_that_counts_none(tmp_path, values):
    for name in values:
        if "sw" not in name:
            (tmp_path / name).touch()
    with pytest.raises(CgroupsUnusable, match="leave --memory-swap out"):
        write_all(tmp_path, values)
    # One that follows from the memory is nobody's wish.
    (tmp_path / "memory.max").touch()
    write_all(tmp_path, v2_values(Limits(memory=100)))


def test_a_weight_that_no_kernel_takes_is_refused(tmp_path):
    with pytest.raises(CgroupsUnusable, match="CONFIG_BFQ_GROUP_IOSCHED"):
        write_weight(tmp_path, 100)


def test_a_v1_cpuset_is_filled_from_above(tmp_path):
    tree = tmp_path / "cpuset"
    directory = tree / "engine/c"
    directory.mkdir(parents=True)
    for place, cpus in ((tree, "0-3\n"), (directory.parent, "\n"), (directory, "2\n")):
        (place / "cpuset.cpus").write_text(cpus)
        (place / "cpuset.mems").write_text("0\n" if place == tree else "")
    cpuset_trees.fill(directory, tree)
    assert (directory.parent / "cpuset.cpus").read_text() == "0-3"
    assert (directory / "cpuset.cpus").read_text() == "2\n"
    assert (directory / "cpuset.mems").read_text() == "0"


def test_an_exec_that_ends_while_processes_are_listed(tmp_path, monkeypatch):
    cgroups = Cgroups("engine", Trees(tmp_path))
    command = tmp_path / "engine/c/exec-1"
    command.mkdir(parents=True)
    (command.parent / "cgroup.procs").write_text("7\n")
    scandir = os.scandir

    def at_its_end(path):
        if os.fspath(path) == str(command):
            command.rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", at_its_end)
    assert cgroups.pids("c") == {7}
    assert not command.exists()


RATES = Limits(
    device_read_bps=(("8:0", 1000), ("8:16", 5)),
    device_write_bps=(("8:0", 2000),),
    device_read_iops=(("8:0", 30),),
    device_write_iops=(("8:0", 40),),
)
V1_RATES = {
    "blkio.throttle.read_bps_device": ["8:0 1000", "8:16 5"],
    "blkio.throttle.write_bps_device": ["8:0 2000"],
    "blkio.throttle.read_iops_device": ["8:0 30"],
    "blkio.throttle.write_iops_device": ["8:0 40"],
}


@pytest.fixture
def lines(monkeypatch):
    """What is written, by file, each line by itself: plain files keep the last one only."""
    found = {}
    monkeypatch.setattr(
        block_limits, "write", lambda file, line: found.setdefault(file.name, []).append(line)
    )
    return found


@pytest.mark.parametrize(
    ("hybrid", "written", "taken"),
    [
        (True, V1_RATES, ["8:0 0", "8:16 0"]),
        (
            False,
            {"io.max": ["8:0 rbps=1000", "8:16 rbps=5", "8:0 wbps=2000", "8:0 riops=30"]},
            ["8:0 rbps=max", "8:16 rbps=max"],
        ),
    ],
)
def test_rates_of_devices(tmp_path, lines, hybrid, written, taken):
    for name in written:
        (tmp_path / name).touch()
    block_limits.apply(hybrid, tmp_path, Limits(), RATES)
    assert {name: found[: len(written[name])] for name, found in lines.items()} == written
    lines.clear()
    # What stays as it is is not written again; what goes is given back.
    block_limits.apply(hybrid, tmp_path, RATES, RATES)
    assert lines == {}
    block_limits.apply(hybrid, tmp_path, RATES, Limits())
    assert next(iter(lines.values()))[:2] == taken


@pytest.mark.parametrize(
    ("file", "written"),
    [
        ("blkio.bfq.weight_device", ["8:0 10", "8:16 1000"]),
        ("io.bfq.weight", ["8:0 10", "8:16 1000"]),
        ("io.weight", ["8:0 1", "8:16 10000"]),
    ],
)
def test_weights_of_devices(tmp_path, lines, file, written):
    weights = Limits(blkio_weight_devices=(("8:0", 10), ("8:16", 1000)))
    with pytest.raises(CgroupsUnusable, match="CONFIG_BFQ_GROUP_IOSCHED"):
        block_limits.apply(True, tmp_path, Limits(), weights)
    (tmp_path / file).touch()
    block_limits.apply(True, tmp_path, Limits(), weights)
    block_limits.apply(True, tmp_path, weights, Limits())
    assert lines == {file: [*written, "8:0 default", "8:16 default"]}


def test_rates_on_a_kernel_that_has_none(tmp_path):
    with pytest.raises(CgroupsUnusable, match="CONFIG_BLK_DEV_THROTTLING"):
        block_limits.apply(False, tmp_path, Limits(), RATES)


@pytest.mark.parametrize(
    ("path", "words"), [("/no/such", "no such file"), ("/dev/null", "no block device")]
)
def test_what_is_no_device_is_named(path, words):
    with pytest.raises(block_limits.NoSuchDevice, match=f"{path}.*{words}"):
        block_limits.number(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="attributes of directories are root's alone")
@pytest.mark.parametrize("hybrid", [True, False])
def test_a_container_below_another_directory(tmp_path, hybrid):
    (tmp_path / "memory/theirs").mkdir(parents=True)
    (tmp_path / "pids").mkdir()
    v1 = {"memory": tmp_path / "memory", "pids": tmp_path / "pids"} if hybrid else {}
    trees = Trees(tmp_path / "unified", v1)
    trees.unified.mkdir()
    cgroups = Cgroups("engine", trees)
    plan = cgroups.create("c", parent="theirs/jobs")
    assert plan.unified == f"{trees.unified}/theirs/jobs/c"
    # Whatever somebody has limited there is to hold for it: it is in each tree.
    assert plan.joins == tuple(f"{tree}/theirs/jobs/c" for tree in v1.values())
    assert plan.memory_limited
    # Whoever comes next finds it by its id.
    another = Cgroups("engine", trees)
    assert another.containers() == {"c"}
    assert another.unified("c/e1") == trees.unified / "theirs/jobs/c/e1"
    assert another.below("c", "e1").joins == plan.joins
    another.remove_below("c/e1")
    another.remove("c")
    # What was there stays, what was made goes.
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_dir()}
    assert left == {"memory", "memory/theirs", "pids", "unified", "unified/engine"}
    assert cgroups.create("c").unified == f"{trees.unified}/engine/c"


@pytest.mark.parametrize("parent", ["tasks", "jobs/tasks", "jobs/tasks/x", "jobs/cgroup.procs"])
def test_a_file_of_a_cgroup_is_none_to_be_in(tmp_path, parent):
    trees = Trees(tmp_path / "unified", {"cpu": tmp_path / "cpu"})
    for place in (trees.unified, *trees.v1.values()):
        (place / "jobs").mkdir(parents=True)
    for file in ("cpu/tasks", "cpu/jobs/tasks", "unified/jobs/cgroup.procs"):
        (tmp_path / file).touch()
    before = set(tmp_path.rglob("*"))
    cgroups = Cgroups("engine", trees)
    with pytest.raises(CgroupsUnusable, match="is a file of the cgroup above it"):
        cgroups.create("c", parent=parent)
    assert set(tmp_path.rglob("*")) == before
    cgroups.remove("c")


@pytest.mark.skipif(os.geteuid() != 0, reason="attributes of directories are root's alone")
def test_what_is_below_another_directory_is_counted_on_v2_as_all_are(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(
        cgroups_module, "write", lambda file, text: written.append((str(file.parent), text))
    )
    places = [str(tmp_path / name) for name in ("", "jobs", "jobs/7")]
    for place in places:
        os.makedirs(place, exist_ok=True)
        Path(place, "cgroup.controllers").write_text("memory io pids cpu\n")
        Path(place, "cgroup.subtree_control").write_text("pids io\n")
    Cgroups("engine", Trees(tmp_path)).create("c", parent="jobs/7")
    assert written == [(place, "+memory") for place in places]
