"""A runtime beside ours that is given the same payloads: runc with an OCI bundle.

runc 1.1.5 is older than the escapes of 2024 and 2025, so it shows that their payloads work.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
from itertools import count
from pathlib import Path

import pytest

from runtime.spec import DEFAULT_CAPABILITIES, DEFAULT_MASKED_PATHS, DEFAULT_READONLY_PATHS

_NUMBERS = count()
_OPTIONS = ["nosuid", "noexec", "nodev"]
_MOUNTS = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "mode=755", "size=65536k"],
    },
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
    },
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*_OPTIONS, "ro"]},
]
_NAMESPACES = [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")]


class Runc:
    """runc in a directory of its own."""

    def __init__(self, directory: Path, rootfs: Path) -> None:
        """Raises: pytest's skip, where there is none."""
        program = shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if program is None:
            pytest.skip("needs runc (apt-get install runc)")
        self.program = program
        self.rootfs = rootfs
        self._directory = directory
        version = subprocess.check_output([program, "--version"], text=True).split()[2]
        self.version = tuple(map(int, re.findall(r"\d+", version)[:3]))

    def config(self, *args: str) -> dict:
        """A bundle's configuration, as dockerd would write it."""
        names = list(DEFAULT_CAPABILITIES)
        sets = dict.fromkeys(("bounding", "effective", "permitted"), names)
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": list(args),
                "env": ["PATH=/bin:/usr/bin"],
                "cwd": "/",
                "capabilities": sets,
            },
            "root": {"path": str(self.rootfs)},
            "hostname": "peer",
            "mounts": copy.deepcopy(_MOUNTS),
            "linux": {
                "namespaces": copy.deepcopy(_NAMESPACES),
                "maskedPaths": list(DEFAULT_MASKED_PATHS),
                "readonlyPaths": list(DEFAULT_READONLY_PATHS),
            },
        }

    def run(self, config: dict) -> tuple[int, str]:
        """Run it to its end; returns its exit code, and all that it and runc have said."""
        name = f"escapes-{os.getpid()}-{next(_NUMBERS)}"
        bundle = self._directory / name
        bundle.mkdir(parents=True)
        (bundle / "config.json").write_text(json.dumps(config))
        state = str(self._directory / "state")
        try:
            done = subprocess.run(
                [self.program, "--root", state, "run", "--bundle", str(bundle), name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=30,
                check=False,
            )
        finally:
            subprocess.run(
                [self.program, "--root", state, "delete", "--force", name],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
        return done.returncode, done.stdout


def bind(source: Path | str, target: str, *options: str) -> dict:
    """A bind mount of a bundle."""
    return {
        "destination": target,
        "type": "bind",
        "source": str(source),
        "options": ["rbind", *options],
    }
