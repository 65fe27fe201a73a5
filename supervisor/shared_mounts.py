"""Whether a path lies on a mount that is shared with others (mount_namespaces(7))."""

from __future__ import annotations

import os
from collections.abc import Iterable


def refusal(source: str, propagation: str, lines: Iterable[str]) -> str:
    """Say why a bind can't have this propagation, in Docker's words; empty if it can.

    Args:
        source: An existing path; symbolic links are followed.
        propagation: "rslave", "shared" …
        lines: Of /proc/self/mountinfo (proc_pid_mountinfo(5)).
    """
    kind = propagation.removeprefix("r")
    if kind not in ("shared", "slave"):
        return ""
    path = os.path.realpath(source)
    point, tags = _mount_of(path, lines)
    if any(tag.startswith("shared:") for tag in tags):
        return ""
    if kind == "slave" and any(tag.startswith("master:") for tag in tags):
        return ""
    wanted = "a shared mount" if kind == "shared" else "a shared or slave mount"
    return f"path {source} is mounted on {point} but it is not {wanted}"


def _mount_of(path: str, lines: Iterable[str]) -> tuple[str, list[str]]:
    """The mount that a path is on: its place, and its optional fields."""
    found, tags = "", []
    for line in lines:
        fields = line.split()
        point = fields[4].encode().decode("unicode_escape") if "\\" in fields[4] else fields[4]
        # Of several at one place the last hides the others.
        if len(point) >= len(found) and (
            point in ("/", path) or path.startswith(point.rstrip("/") + "/")
        ):
            found, tags = point, fields[6 : fields.index("-")]
    return found, tags
