"""What `docker info` tells of limits: from the files of a machine's trees."""

import pytest

from runtime import cgroup_abilities
from runtime.cgroup_trees import Trees
from runtime.cgroups import Cgroups

V1 = {
    "memory": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control"),
    "cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares"),
    "cpuset": ("cpuset.cpus",),
    "pids": ("pids.max",),
    "blkio": (
        "blkio.bfq.io_service_bytes",
        *(f"blkio.throttle.{kind}_device" for kind in ("read_bps", "write_bps")),
        *(f"blkio.throttle.{kind}_device" for kind in ("read_iops", "write_iops")),
    ),
}


@pytest.fixture
def v1(tmp_path):
    for controller, names in V1.items():
        (tmp_path / controller).mkdir()
        for name in names:
            (tmp_path / controller / name).touch()
    return Cgroups("engine", Trees(tmp_path / "v2", {name: tmp_path / name for name in V1}))


@pytest.fixture
def v2(tmp_path):
    own = tmp_path / "engine"
    own.mkdir()
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    for name in ("memory.swap.max", "io.weight", "io.max"):
        (own / name).touch()
    return Cgroups("engine", Trees(tmp_path))


def test_a_hybrid_machine_with_everything(v1):
    flags, warnings = cgroup_abilities.look(v1)
    assert (set(flags.values()), warnings) == ({True}, [])


@pytest.mark.parametrize(
    ("missing", "flag", "warning"),
    [
        ("memory/memory.memsw.limit_in_bytes", "SwapLimit", "No swap limit support"),
        ("cpu/cpu.cfs_quota_us", "CpuCfsQuota", "No cpu cfs quota support"),
        ("memory/memory.oom_control", "OomKillDisable", "No oom kill disable support"),
        ("blkio/blkio.bfq.io_service_bytes", "", "No blkio weight support"),
        (
            "blkio/blkio.throttle.read_bps_device",
            "",
            "No blkio throttle.read_bps_device support",
        ),
    ],
)
def test_what_a_hybrid_machine_lacks(v1, tmp_path, missing, flag, warning):
    (tmp_path / missing).unlink()
    flags, warnings = cgroup_abilities.look(v1)
    assert warnings[0] == f"WARNING: {warning}"
    assert [name for name, there in flags.items() if not there] == [flag][: bool(flag)]


def test_a_controller_that_is_not_mounted(v1):
    del v1.trees.v1["cpuset"]
    assert cgroup_abilities.look(v1).warnings == ["WARNING: No cpuset support"]


def test_pure_v2(v2, tmp_path):
    flags, warnings = cgroup_abilities.look(v2)
    assert [name for name, there in flags.items() if not there] == ["OomKillDisable"]
    assert warnings == []
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    (tmp_path / "engine/memory.swap.max").unlink()
    (tmp_path / "engine/io.max").unlink()
    assert cgroup_abilities.look(v2).warnings == [
        "WARNING: No swap limit support",
        "WARNING: No cpuset support",
        "WARNING: No pids limit support",
        *(f"WARNING: No io.max ({word}) support" for word in ("rbps", "wbps", "riops", "wiops")),
    ]
