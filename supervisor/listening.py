"""The API's listening socket: our own, or one that the service manager has opened for us.

With socket activation (sd_listen_fds(3)) the manager binds the socket before we live and keeps it
when we die: clients wait in its backlog and are never refused.
"""

from __future__ import annotations

import contextlib
import grp
import os
import socket
from collections.abc import MutableMapping, Sequence
from pathlib import Path

BACKLOG = 4096
SOCKET_MODE = 0o660
DOCKER_GROUP = "docker"
FIRST_PASSED = 3
"""SD_LISTEN_FDS_START."""

MOST_PASSED = 64
"""One is right; so many are looked at for the words that refuse more."""


class CannotListen(Exception):
    """There is no socket to listen on; the text says why and what to do."""


class Door:
    """A socket that clients connect to.

    Attributes:
        socket: Listening, non-blocking.
        path: Where it is.
        ours: We have bound it, so we take it away when we end.
    """

    def __init__(self, socket: socket.socket, path: Path, *, ours: bool) -> None:
        self.socket = socket
        self.path = path
        self.ours = ours

    def close(self) -> None:
        """Let go of it; clients find nobody from now on, unless the manager still has it."""
        self.socket.close()
        if self.ours:
            self.path.unlink(missing_ok=True)


def open_door(path: Path, passed: Sequence[int] = (), kept: socket.socket | None = None) -> Door:
    """Take the socket that the manager passes, or that a predecessor left, or else bind one.

    Args:
        path: Where to bind one.
        kept: Our predecessor's, in whose backlog clients wait.

    Raises:
        CannotListen: The address can't be bound, or what is passed is no such socket.
    """
    if kept is not None:
        return Door(kept, path, ours=True)
    if passed:
        return _activated(passed, path)
    return Door(_bound(path), path, ours=True)


def passed_sockets(environment: MutableMapping[str, str]) -> list[int]:
    """The descriptors that the manager has passed to this very process, for no child of ours.

    Args:
        environment: Ours; what it says of them is taken out, as it is for us alone.
    """
    pid = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "0")
    environment.pop("LISTEN_FDNAMES", "")
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    passed = list(range(FIRST_PASSED, FIRST_PASSED + min(int(count[:9]), MOST_PASSED)))
    for descriptor in passed:
        with contextlib.suppress(OSError):  # what is not open is refused when it is used
            os.set_inheritable(descriptor, False)
    return passed


def _activated(passed: Sequence[int], path: Path) -> Door:
    if len(passed) != 1:
        raise CannotListen(
            f"the service manager passes {len(passed)} sockets, one is wanted: "
            "name one ListenStream= in the socket unit"
        )
    try:
        listener = socket.socket(fileno=passed[0])
        listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise CannotListen(
            f"descriptor {passed[0]} of the service manager is no socket: {error.strerror}"
        ) from error
    if (listener.family, listener.type, listening) != (socket.AF_UNIX, socket.SOCK_STREAM, 1):
        listener.close()
        raise CannotListen(
            "the service manager passes something else than a listening unix stream socket: "
            "the socket unit wants one ListenStream=/PATH"
        )
    listener.setblocking(False)
    name = listener.getsockname()
    return Door(listener, Path(name) if name and isinstance(name, str) else path, ours=False)


def _bound(path: Path) -> socket.socket:
    """Bind the API's socket: mode 0660, group docker where there is one."""
    path.unlink(missing_ok=True)  # we hold the run directory's lock, so nobody listens on it
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old_mask = os.umask(0o777 & ~SOCKET_MODE)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise CannotListen(f"cannot listen on {path}: {error.strerror or error}") from error
    finally:
        os.umask(old_mask)
    with contextlib.suppress(KeyError):
        os.chown(path, 0, grp.getgrnam(DOCKER_GROUP).gr_gid)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener
