"""Where the engine is: flags first, then the environment, then the defaults."""

from __future__ import annotations

import os
from typing import NamedTuple

from mdocker.errors import UsageError

DEFAULT_ROOT = "/var/lib/mdocker"
DEFAULT_RUN_DIR = "/run/mdocker"


DEFAULT_PORT = 2376
"""Docker's, for TLS."""

_FILES = ("ca.pem", "cert.pem", "key.pem")


class Remote(NamedTuple):
    """An engine that is reached by TCP, always by TLS with certificates on both sides.

    Attributes:
        host: Its name or address, which its certificate must have.
        port: Where it listens.
        authority: Path of the certificates of who signs engines' certificates.
        certificate: Path of our own.
        key: Path of its key.
    """

    host: str
    port: int
    authority: str
    certificate: str
    key: str

    def __str__(self) -> str:
        """Return tcp://HOST:PORT."""
        return (
            f"tcp://[{self.host}]:{self.port}"
            if ":" in self.host
            else (f"tcp://{self.host}:{self.port}")
        )


class Settings(NamedTuple):
    """What the client needs to know before it can talk.

    Attributes:
        root: Where the engine keeps containers and images.
        run_dir: Where its socket and pid files are.
        socket: The path of the socket to talk to; tcp://HOST:PORT for one that is `remote`.
        may_start: Whether an engine is started when none listens there. Not when the socket
            was named by --host or MDOCKER_HOST and is not the one of `run_dir`: that engine is
            somebody else's.
        remote: How it is reached, if not by a unix socket.
    """

    root: str
    run_dir: str
    socket: str
    may_start: bool
    remote: Remote | None = None


def resolve(
    host: str = "",
    root: str = "",
    run_dir: str = "",
    tls: bool = False,
    tlsverify: bool = False,
    tlscacert: str = "",
    tlscert: str = "",
    tlskey: str = "",
) -> Settings:
    """Combine flags (empty for not given) with MDOCKER_HOST, MDOCKER_ROOT and MDOCKER_RUN_DIR.

    DOCKER_HOST is not read: it names somebody else's engine. The files for TLS are in
    DOCKER_CERT_PATH or ~/.docker, as they are Docker's.

    Raises:
        UsageError: The host is no address of ours, or TLS is asked for where there is none.
    """
    # A run directory given by hand is more particular than a host of the environment.
    if not host and not run_dir:
        host = os.environ.get("MDOCKER_HOST", "")
    root = root or os.environ.get("MDOCKER_ROOT", "") or DEFAULT_ROOT
    run_dir = run_dir or os.environ.get("MDOCKER_RUN_DIR", "") or DEFAULT_RUN_DIR
    if host.startswith("tcp://"):
        if tls and not tlsverify:
            raise UsageError("--tls alone trusts whatever engine answers: use --tlsverify")
        remote = _remote(host, tlscacert, tlscert, tlskey)
        return Settings(root, run_dir, str(remote), False, remote)
    if tls or tlsverify or tlscacert or tlscert or tlskey:
        raise UsageError("TLS is spoken with an engine at tcp://HOST:PORT alone: name it by --host")
    own = os.path.join(os.path.abspath(run_dir), "mdocker.sock")
    if not host:
        return Settings(root, run_dir, own, True)
    if not host.startswith("unix://") or not host.removeprefix("unix://"):
        raise UsageError(
            f'unable to use the host "{host}": it can be a unix socket, such as '
            "unix:///run/mdocker/mdocker.sock, or tcp://HOST:PORT, which is TLS always"
        )
    path = os.path.abspath(host.removeprefix("unix://"))
    return Settings(root, run_dir, path, path == own)


def _remote(host: str, authority: str, certificate: str, key: str) -> Remote:
    """Where an engine is reached by TCP. Raises UsageError."""
    text = host.removeprefix("tcp://").rstrip("/")
    name, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        name, port = text, str(DEFAULT_PORT)
    name = name.removeprefix("[").removesuffix("]")
    if not name or "/" in name or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise UsageError(f'unable to use the host "{host}": give tcp://HOST:PORT')
    directory = os.environ.get("DOCKER_CERT_PATH", "") or os.path.expanduser("~/.docker")
    files = (
        given or os.path.join(directory, default)
        for given, default in zip((authority, certificate, key), _FILES, strict=True)
    )
    return Remote(name, int(port), *files)
