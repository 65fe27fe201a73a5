"""Where this machine's cgroup trees are, read from mountinfo (proc_pid_mountinfo(5)). Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from runtime.errors import CgroupsUnusable

_V1_CONTROLLERS = ("memory", "cpu", "pids", "cpuset", "blkio", "devices")


@dataclass(frozen=True, slots=True)
class Trees:
    """Mount points.

    Attributes:
        unified: The v2 tree.
        v1: Controller name to the v1 tree that carries it; empty on pure v2.
    """

    unified: Path
    v1: dict[str, Path] = field(default_factory=dict)


def find_trees(mountinfo: str) -> Trees:
    """Pick the trees out of the text of /proc/self/mountinfo.

    Raises:
        CgroupsUnusable: no v2 tree is mounted.
    """
    unified: Path | None = None
    v1: dict[str, Path] = {}
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        if not separator:
            continue
        kind, _, options = after.split(" ", 2)
        # Octal escapes: space, tab, newline and backslash (proc_pid_mountinfo(5)).
        mount_point = Path(before.split(" ")[4].encode().decode("unicode_escape"))
        if kind == "cgroup2" and unified is None:
            unified = mount_point
        elif kind == "cgroup":
            for option in options.split(","):
                if option in _V1_CONTROLLERS:
                    v1.setdefault(option, mount_point)
    if unified is None:
        raise CgroupsUnusable(
            "no cgroup2 tree is mounted"
            + (" (only cgroup v1, whose trees alone can't carry a lifecycle)" if v1 else "")
            + "; mount one: mount -t cgroup2 none /sys/fs/cgroup"
            + ("/unified" if v1 else "")
        )
    return Trees(unified, v1)
