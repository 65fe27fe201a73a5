"""Who may talk to the engine, and where: further hosts, TLS, the socket's group, the authorisation.

A TCP port is reachable by every user of the machine and by whoever gets a packet to it, and who
talks to the engine is root here. So TCP is had with client certificates or not at all.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import shlex
from collections.abc import Sequence

TLS_PORT = 2376
"""Docker's, for TLS."""

_DEFAULTS = ("ca.pem", "cert.pem", "key.pem")
_OPTIONS = ("--tlscacert", "--tlscert", "--tlskey")


class RefusedAccess(Exception):
    """An option about who may talk to the engine can't be meant; the text says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files in PEM.

    Attributes:
        authority: Certificates of those who sign clients' certificates.
        certificate: Ours, with what stands between it and its authority.
        key: Ours, without a password.
    """

    authority: str
    certificate: str
    key: str


@dataclasses.dataclass(frozen=True, slots=True)
class AccessOptions:
    """What `mdocker daemon` was told.

    Attributes:
        hosts: Where to listen beside RUN_DIR/mdocker.sock, normalised: unix:///PATH, tcp://HOST:PORT.
        tls: For the hosts that begin with tcp://.
        group: Who may use the unix sockets beside root, by name or number; "" for nobody, None for
            the group `docker` where there is one.
        authorization: A command that is asked about each request; its words, the first a path.
    """

    hosts: tuple[str, ...] = ()
    tls: TlsFiles | None = None
    group: str | None = None
    authorization: tuple[str, ...] = ()

    def without_tcp(self) -> AccessOptions:
        """The same, but nothing can be reached by TCP."""
        unix = tuple(host for host in self.hosts if host.startswith("unix://"))
        return dataclasses.replace(self, hosts=unix, tls=None)

    @property
    def plugins(self) -> list[str] | None:
        """What decides about requests, as `docker info` tells it."""
        return [os.path.basename(self.authorization[0])] if self.authorization else None

    def words(self) -> list[str]:
        """The options that say the same to another `mdocker daemon`."""
        words = [word for host in self.hosts for word in ("--host", host)]
        if self.tls is not None:
            files = (self.tls.authority, self.tls.certificate, self.tls.key)
            words.append("--tlsverify")
            words += [word for pair in zip(_OPTIONS, files, strict=True) for word in pair]
        if self.group is not None:
            words += ["--group", self.group]
        if self.authorization:
            words += ["--authorization-command", shlex.join(self.authorization)]
        return words


def checked(
    hosts: Sequence[str] = (),
    *,
    tls: bool = False,
    tlsverify: bool = False,
    files: tuple[str, str, str] = ("", "", ""),
    group: str | None = None,
    authorization: str = "",
) -> AccessOptions:
    """Check and normalise what a person wrote; a host that is named twice counts once.

    Args:
        tls: dockerd's TLS without client certificates, which is not to be had.
        files: The three of `TlsFiles`; what is empty is in ~/.docker, as for dockerd.

    Raises:
        RefusedAccess: One can't be meant; the text says what to write instead.
    """
    named = tuple(dict.fromkeys(_host(host) for host in hosts))
    reached = [host for host in named if host.startswith("tcp://")]
    if tls and not tlsverify:
        raise RefusedAccess(
            "--tls alone lets in whoever connects, and who talks to the engine is root here: "
            "use --tlsverify, which asks clients for a certificate of --tlscacert"
        )
    if reached and not tlsverify:
        raise RefusedAccess(
            f"--host {reached[0]}: who reaches this port would be root here, also by loopback: add "
            "--tlsverify with --tlscacert, --tlscert and --tlskey, or listen on a unix socket"
        )
    if not reached and (tlsverify or any(files)):
        option = "--tlsverify"
        if not tlsverify:
            option = next(name for name, given in zip(_OPTIONS, files, strict=True) if given)
        raise RefusedAccess(f"{option} has a meaning only with a --host tcp://HOST:PORT")
    return AccessOptions(
        named,
        _tls_files(files) if reached else None,
        group,
        _command(authorization),
    )


def address(host: str) -> tuple[str, int]:
    """The name or number and the port of a normalised tcp:// host."""
    name, _, port = host.removeprefix("tcp://").rpartition(":")
    return name.removeprefix("[").removesuffix("]"), int(port)


def _host(text: str) -> str:
    """Normalise a host. Raises RefusedAccess."""
    scheme, _, rest = text.partition("://")
    if scheme == "unix" and rest.startswith("/"):
        return f"unix://{os.path.normpath(rest)}"
    if scheme == "tcp":
        return f"tcp://{_tcp(text, rest)}"
    if scheme == "fd":
        raise RefusedAccess(
            f"--host {text}: sockets that systemd passes are taken without being named"
        )
    raise RefusedAccess(
        f'invalid argument "{text}" for "--host": unix:///PATH, or tcp://HOST:PORT with --tlsverify'
    )


def _tcp(text: str, rest: str) -> str:
    name, colon, port = rest.rstrip("/").rpartition(":")
    if not colon or rest.endswith("]"):
        name, port = rest.rstrip("/"), str(TLS_PORT)
    bare = name.removeprefix("[").removesuffix("]")
    if ":" in bare:
        try:
            # Without brackets nobody knows where the port begins.
            name = "" if bare == name else f"[{ipaddress.IPv6Address(bare)}]"
        except ValueError:
            name = ""
    if not name or "/" in name or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise RefusedAccess(
            f'invalid argument "{text}" for "--host": tcp://HOST:PORT with a name or an address of '
            "this machine (0.0.0.0 or [::] for all) and a port up to 65535"
        )
    return f"{name}:{int(port)}"


def _tls_files(files: tuple[str, str, str]) -> TlsFiles:
    directory = os.path.expanduser("~/.docker")
    named = (
        given or os.path.join(directory, default)
        for given, default in zip(files, _DEFAULTS, strict=True)
    )
    return TlsFiles(*(os.path.abspath(one) for one in named))


def _command(text: str) -> tuple[str, ...]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise RefusedAccess(
            f'invalid argument "{text}" for "--authorization-command": {error}'
        ) from error
    if words and not os.path.isabs(words[0]):
        raise RefusedAccess(
            f'invalid argument "{text}" for "--authorization-command": name the program by its '
            "whole path: it decides who is root here"
        )
    if not words and text:
        raise RefusedAccess("--authorization-command is empty: name a program by its whole path")
    return tuple(words)
