"""How another supervisor like this one is started: by the shim after our death, or by ourselves.

The shim keeps the recipe as a memfd (`runtime/succession.py`), so it costs it nothing.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from runtime import kernel, rlimits
from runtime.succession import INHERITED
from supervisor.config import Settings

__all__ = ["INHERITED", "PACKAGES", "arguments", "recipe"]

PACKAGES = Path(__file__).parent.parent
"""Where our packages are, installed or a checkout; `python -m` looks there first."""

# What a service manager meant for the process that it started, and for no other.
NOT_FOR_OTHERS = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC")


def arguments(settings: Settings) -> list[str]:
    """The words that start another supervisor for the same directories."""
    words = [sys.executable, "-m", "mdocker", "daemon"]
    words += ["--root", str(settings.root), "--run-dir", str(settings.run_dir)]
    words += ["--backend", settings.backend]
    if not settings.respawn:
        words.append("--no-respawn")
    if settings.debug:
        words.append("--debug")
    words += settings.registries.words()
    words += settings.seccomp.words()
    for limit in settings.default_ulimits:
        words += ["--default-ulimit", rlimits.written(limit)]
    if settings.userns_remap:
        words += ["--userns-remap", settings.userns_remap]
    if settings.no_new_privileges:
        words.append("--no-new-privileges")
    words += settings.access.words()
    return words


def recipe(settings: Settings) -> int:
    """A memfd that tells the shim how to start another; the caller closes it.

    Raises:
        OSError: No descriptor for it.
    """
    environment = {name: value for name, value in os.environ.items() if name not in NOT_FOR_OTHERS}
    told = {"argv": arguments(settings), "env": environment, "cwd": str(PACKAGES)}
    return kernel.memfd_sealed("mdocker-successor", json.dumps(told).encode())
