"""/etc/hostname, /etc/hosts and /etc/resolv.conf of a container, bind-mounted from outside.

They stay out of the container's layer, as Docker's do, so a commit or diff never shows them, and
are made anew at each start, as Docker makes hosts (by create, for one that follows at once). The
container can write to them, so they are in its own directory on disk: on the run directory's tmpfs
it could fill the machine's /run.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from supervisor import resolving
from supervisor.container import Container

NAMES = ("hostname", "hosts", "resolv.conf")

USUAL_FILE = 16 * 1024
LONGEST_FILE = 1024 * 1024

_LOCAL_HOSTS = (
    b"127.0.0.1\tlocalhost\n"
    b"::1\tlocalhost ip6-localhost ip6-loopback\n"
    b"fe00::0\tip6-localnet\n"
    b"ff00::0\tip6-mcastprefix\n"
    b"ff02::1\tip6-allnodes\n"
    b"ff02::2\tip6-allrouters\n"
)


def hostname(container: Container) -> str:
    """The name that it has: that of the one whose network it shares, or its own."""
    return container.life.hostname or own_hostname(container)


def own_hostname(container: Container) -> str:
    """The name asked for; else the host's in the host's network, else the short id."""
    if container.config.namespaces.uts == "host":
        return socket.gethostname()
    if container.config.hostname:
        return container.config.hostname
    if container.config.network_mode == "host":
        return socket.gethostname()
    return container.short_id


def write(directory: Path, container: Container) -> None:
    """Write those of the three files that are not as they should be.

    Raises:
        OSError: The file system refused.
    """
    shared = container.config.network_mode == "host"
    _put(f"{directory}/hostname", hostname(container).encode() + b"\n")
    asked = container.config.resolving
    hosts = _host_file("/etc/hosts") if shared else _LOCAL_HOSTS
    _put(f"{directory}/hosts", resolving.hosts(hosts, asked))
    _put(f"{directory}/resolv.conf", resolving.resolv_conf(_host_file("/etc/resolv.conf"), asked))


def _put(path: str, data: bytes) -> None:
    # Cutting a file back to write the same again costs ten times as much as looking at it.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        found = os.read(descriptor, len(data) + 1)
        if found == data:
            return
        if found:
            os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, data, 0)
    finally:
        os.close(descriptor)


def _host_file(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        # Small first: memory for so much is mapped and unmapped.
        data = os.read(descriptor, USUAL_FILE)
        return data if len(data) < USUAL_FILE else data + os.read(descriptor, LONGEST_FILE)
    finally:
        os.close(descriptor)
