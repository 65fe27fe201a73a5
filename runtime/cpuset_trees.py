"""cgroup v1's cpusets: they take no process before they have CPUs and memory nodes (cpuset(7)).

v2's need nothing of the kind: an empty value is that of the directory above.
"""

from __future__ import annotations

from pathlib import Path

from runtime.cgroup_limits import write

FILES = ("cpuset.cpus", "cpuset.mems")


def fill(directory: Path, tree: Path) -> None:
    """Give a container's directory, and each above it, what the one above that has, if empty.

    Nothing happens in a tree of other controllers.

    Raises:
        OSError: The kernel refused.
    """
    for name in FILES:
        if not (directory / name).exists():
            return
        above = directory.relative_to(tree).parents
        for place in (*(tree / one for one in reversed(above) if one.name), directory):
            if not (place / name).read_text().strip():
                write(place / name, (place.parent / name).read_text().strip())
