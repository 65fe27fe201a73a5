"""/etc/hostname, /etc/hosts and /etc/resolv.conf of a container, bind-mounted from outside.

They stay out of the container's layer, as Docker's do, so a commit or diff never shows them.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from supervisor.container import Container

NAMES = ("hostname", "hosts", "resolv.conf")

_LOCAL_HOSTS = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "ff00::0\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)


def hostname(container: Container) -> str:
    """The name asked for; else the host's in the host's network, else the short id."""
    if container.config.hostname:
        return container.config.hostname
    if container.config.network_mode == "host":
        return socket.gethostname()
    return container.short_id


def write(directory: Path, container: Container) -> None:
    """Write the three files.

    Raises:
        OSError: The disk refused.
    """
    shared = container.config.network_mode == "host"
    _put(directory, "hostname", hostname(container) + "\n")
    _put(directory, "hosts", _host_file("/etc/hosts") if shared else _LOCAL_HOSTS)
    _put(directory, "resolv.conf", _host_file("/etc/resolv.conf"))


def _put(directory: Path, name: str, text: str) -> None:
    descriptor = os.open(
        f"{directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644
    )
    try:
        os.write(descriptor, text.encode("utf-8", "surrogateescape"))
    finally:
        os.close(descriptor)


def _host_file(path: str) -> str:
    try:
        return Path(path).read_text(errors="surrogateescape")
    except FileNotFoundError:
        return ""
