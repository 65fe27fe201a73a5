"""Which limits this machine's cgroups can hold, as `docker info` tells them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from runtime.cgroups import Cgroups


class Abilities(NamedTuple):
    """What there is.

    Attributes:
        flags: By Docker's names.
        warnings: Docker's texts about what there is not.
    """

    flags: dict[str, bool]
    warnings: list[str]


_RATES = ("read_bps", "write_bps", "read_iops", "write_iops")
_WORDS = {
    "MemoryLimit": "memory limit",
    "SwapLimit": "swap limit",
    "OomKillDisable": "oom kill disable",
    "CpuCfsQuota": "cpu cfs quota",
    "CpuCfsPeriod": "cpu cfs period",
    "CPUShares": "cpu shares",
    "CPUSet": "cpuset",
    "PidsLimit": "pids limit",
}


def look(cgroups: Cgroups) -> Abilities:
    """Look at the machine's cgroup trees."""
    trees = cgroups.trees
    if cgroups.hybrid:
        return _v1(trees.v1)
    return _v2(trees.unified, trees.unified / cgroups.parent)


def _v1(trees: dict[str, Path]) -> Abilities:
    def has(controller: str, name: str) -> bool:
        return controller in trees and (trees[controller] / name).exists()

    flags = {
        "MemoryLimit": has("memory", "memory.limit_in_bytes"),
        "SwapLimit": has("memory", "memory.memsw.limit_in_bytes"),
        "OomKillDisable": has("memory", "memory.oom_control"),
        "CpuCfsQuota": has("cpu", "cpu.cfs_quota_us"),
        "CpuCfsPeriod": has("cpu", "cpu.cfs_period_us"),
        "CPUShares": has("cpu", "cpu.shares"),
        "CPUSet": has("cpuset", "cpuset.cpus"),
        "PidsLimit": "pids" in trees,
    }
    told = _missing(flags)
    # The root has no weight of its own; what BFQ counts is there where its weights are.
    if not has("blkio", "blkio.weight") and not has("blkio", "blkio.bfq.io_service_bytes"):
        told += ["WARNING: No blkio weight support", "WARNING: No blkio weight_device support"]
    for rate in _RATES:
        if not has("blkio", f"blkio.throttle.{rate}_device"):
            told.append(f"WARNING: No blkio throttle.{rate}_device support")
    return Abilities(flags, told)


def _v2(root: Path, own: Path) -> Abilities:
    """The root has no limits: they are seen in the engine's own directory."""
    offered = (root / "cgroup.controllers").read_text().split()

    flags = {
        "MemoryLimit": "memory" in offered,
        "SwapLimit": (own / "memory.swap.max").exists(),
        "OomKillDisable": False,
        "CpuCfsQuota": "cpu" in offered,
        "CpuCfsPeriod": "cpu" in offered,
        "CPUShares": "cpu" in offered,
        "CPUSet": "cpuset" in offered,
        "PidsLimit": "pids" in offered,
    }
    told = [one for one in _missing(flags) if "oom kill" not in one]
    if not (own / "io.weight").exists() and not (own / "io.bfq.weight").exists():
        told += ["WARNING: No io.weight support", "WARNING: No io.weight (per device) support"]
    if not (own / "io.max").exists():
        told += [
            f"WARNING: No io.max ({word}) support" for word in ("rbps", "wbps", "riops", "wiops")
        ]
    return Abilities(flags, told)


def _missing(flags: dict[str, bool]) -> list[str]:
    return [f"WARNING: No {_WORDS[name]} support" for name, there in flags.items() if not there]
