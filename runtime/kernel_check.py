"""What this kernel lacks, named before the first container fails on it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from runtime import flags, libc
from runtime.kernel import DOOR, Kernel

_NAMESPACES = ("mnt", "pid", "uts", "ipc", "net", "cgroup")


def missing(door: Kernel = DOOR, proc: Path = Path("/proc")) -> list[str]:
    """Names of the calls and features that mdocker needs and this kernel has not.

    Each call is made so that a kernel which knows it refuses it for another reason than ENOSYS;
    nothing is changed. A sandbox that forbids a call (EPERM from seccomp) shows up at the first
    start instead, with the step's name.
    """
    if libc.MACHINE not in ("x86_64", "aarch64"):
        return [f"a machine type that is known here (this is {libc.MACHINE})"]
    lacks = [f"{name} (Linux {since})" for name, since in _lacking_calls(door)]
    lacks += [
        f"{name} namespaces" for name in _NAMESPACES if not (proc / f"self/ns/{name}").exists()
    ]
    known = (proc / "filesystems").read_text().split()
    lacks += [f"file system {name}" for name in ("overlay", "tmpfs") if not _has(name, known)]
    return lacks


def _has(name: str, known: list[str]) -> bool:
    # overlay is a module on most distributions, loaded by the first mount of it.
    return name in known or any(Path(f"/lib/modules/{os.uname().release}").rglob(f"{name}.ko*"))


def _lacking_calls(door: Kernel) -> list[tuple[str, str]]:
    lacking = []
    for name, since, call in (
        ("clone3 with CLONE_INTO_CGROUP", "5.7", lambda: door.clone3(_IMPOSSIBLE, -1)),
        ("openat2", "5.6", lambda: door.openat2(-1, b"", 0, 0)),
        ("open_tree", "5.2", lambda: door.open_tree(b"", 0)),
        ("move_mount", "5.2", lambda: door.move_mount(-1, -1, b"")),
        ("close_range", "5.9", lambda: door.close_range(2, 1, 0)),
        ("pidfd_open", "5.3", lambda: door.pidfd_open(-1)),
    ):
        try:
            call()
        except OSError as error:
            # E2BIG: the kernel knows a shorter struct clone_args, without `cgroup`.
            if error.errno in (errno.ENOSYS, errno.E2BIG):
                lacking.append((name, since))
    return lacking


# Two flags that contradict each other: known kernels answer EINVAL and fork nothing.
_IMPOSSIBLE = flags.CLONE_PIDFD | flags.CLONE_NEWNS | 0x200  # CLONE_FS
