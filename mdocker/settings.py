"""Where the engine is: flags first, then the environment, then the defaults."""

from __future__ import annotations

import os
from typing import NamedTuple

from mdocker.errors import UsageError

DEFAULT_ROOT = "/var/lib/mdocker"
DEFAULT_RUN_DIR = "/run/mdocker"


class Settings(NamedTuple):
    """What the client needs to know before it can talk.

    Attributes:
        root: Where the engine keeps containers and images.
        run_dir: Where its socket and pid files are.
        socket: The path of the socket to talk to.
        may_start: Whether an engine is started when none listens there. Not when the socket
            was named by --host or MDOCKER_HOST and is not the one of `run_dir`: that engine is
            somebody else's.
    """

    root: str
    run_dir: str
    socket: str
    may_start: bool


def resolve(host: str = "", root: str = "", run_dir: str = "") -> Settings:
    """Combine flags (empty for not given) with MDOCKER_HOST, MDOCKER_ROOT and MDOCKER_RUN_DIR.

    DOCKER_HOST is not read: it names somebody else's engine.

    Raises:
        UsageError: The host is no unix:// address.
    """
    # A run directory given by hand is more particular than a host of the environment.
    if not host and not run_dir:
        host = os.environ.get("MDOCKER_HOST", "")
    root = root or os.environ.get("MDOCKER_ROOT", "") or DEFAULT_ROOT
    run_dir = run_dir or os.environ.get("MDOCKER_RUN_DIR", "") or DEFAULT_RUN_DIR
    own = os.path.join(os.path.abspath(run_dir), "mdocker.sock")
    if not host:
        return Settings(root, run_dir, own, True)
    if not host.startswith("unix://") or not host.removeprefix("unix://"):
        raise UsageError(
            f'unable to use the host "{host}": only unix sockets are possible, '
            "such as unix:///run/mdocker/mdocker.sock"
        )
    path = os.path.abspath(host.removeprefix("unix://"))
    return Settings(root, run_dir, path, path == own)
