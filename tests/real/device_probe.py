"""The shell's part of tests with devices: what opening one says."""

from __future__ import annotations

DENIED = "Operation not permitted"
"""EPERM, which is the cgroup's."""

NODEV = "Permission denied"
"""EACCES, which is the mount's."""

# `look PATH` opens it for reading, then for writing, and prints PATH, "r" or "w", and what came of
# it: "open" or the words for the errno.
LOOK = r"""
look() {
    echo "$1 r $(dd if=$1 of=/dev/null bs=8 count=1 2>&1 | grep -o '[A-Z][a-z ]*$' || echo open)"
    echo "$1 w $(dd if=/dev/null of=$1 conv=notrunc 2>&1 | grep -o '[A-Z][a-z ]*$' || echo open)"
}
"""


def seen(output: str) -> dict[tuple[str, str], str]:
    """By path and "r" or "w", what `look` has printed."""
    found = {}
    for line in output.splitlines():
        path, way, words = line.split(" ", 2)
        found[path, way] = words
    return found


def looks(*paths: str) -> str:
    """A script that looks at each."""
    return LOOK + "".join(f"look {path}\n" for path in paths)
