"""The API's listening sockets: our own, or ones that the service manager has opened for us.

With socket activation (sd_listen_fds(3)) the manager binds a socket before we live and keeps it
when we die: clients wait in its backlog and are never refused.
"""

from __future__ import annotations

import contextlib
import grp
import os
import socket
import stat
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from pathlib import Path

from supervisor import access
from supervisor.access import AccessOptions

BACKLOG = 4096
SOCKET_MODE = 0o660
DOCKER_GROUP = "docker"
FIRST_PASSED = 3
"""SD_LISTEN_FDS_START."""

MOST_PASSED = 64

Address = str | tuple[str, int]
"""Where a socket is bound, as getsockname(2) has it: a path, or an address and a port."""


class CannotListen(Exception):
    """There is no socket to listen on; the text says why and what to do."""


class Door:
    """A socket that clients connect to.

    Attributes:
        socket: Listening, non-blocking.
        host: Where it is, as --host has it.
        ours: We have bound it, so we take it away when we end.
        tls: Clients speak TLS.
    """

    def __init__(self, listener: socket.socket, *, ours: bool) -> None:
        self.socket = listener
        self.ours = ours
        self.tls = listener.family != socket.AF_UNIX
        self.address = bound_to(listener)
        self.host = _spelt(self.address)
        self._file = _identity(self.path) if ours and not self.tls else None

    @property
    def path(self) -> Path:
        """Where a unix socket is."""
        return Path(str(self.address))

    def close(self) -> None:
        """Let go of it; clients find nobody from now on, unless the manager still has it."""
        self.socket.close()
        # What stands there now may be somebody else's.
        if self._file is not None and _identity(self.path) == self._file:
            self.path.unlink(missing_ok=True)


def open_doors(
    main: Path,
    options: AccessOptions,
    passed: Sequence[int] = (),
    kept: Callable[[Address], socket.socket | None] = lambda address: None,
    left_out: Callable[[str], None] | None = None,
) -> list[Door]:
    """Take the sockets that the manager passes, or that a predecessor left, or else bind them.

    Args:
        main: Where the one is bound that there always is.
        options: Which others there are, and whose the unix sockets are.
        kept: Gives our predecessor's socket of an address, in whose backlog clients wait.
        left_out: Told why a host can't be had, and it is done without; None to refuse.

    Returns:
        The main one first.

    Raises:
        CannotListen: An address can't be bound, or what is passed is no such socket.
    """
    with contextlib.ExitStack() as undo:
        found = {}
        for descriptor in passed:
            door = Door(_activated(descriptor), ours=False)
            undo.callback(door.socket.close)
            found[door.address] = door
        wanted: list[Address] = [str(main)]
        for host in options.hosts:
            with _done_without(left_out):
                wanted.append(_address(host))
        doors: list[Door] = []
        if passed and wanted[0] not in found:
            # The manager may have put the main one elsewhere: it is the only one that has no host.
            moved = [one for one in found.values() if not one.tls and one.address not in wanted]
            if len(moved) == 1:
                found[wanted[0]] = found.pop(moved[0].address)
        for address in dict.fromkeys(wanted):
            with _done_without(left_out if doors else None):
                if address in found:
                    door = found.pop(address)
                else:
                    door = _own(address, options.group, kept(address), main)
                undo.callback(door.socket.close)
                doors.append(door)
        if found:
            others = ", ".join(door.host for door in found.values())
            raise CannotListen(
                f"the service manager passes a socket that nobody has named, {others}: take its "
                "ListenStream= out of the socket unit, or name it by --host (tcp:// with "
                "--tlsverify)"
            )
        undo.pop_all()
        return doors


@contextlib.contextmanager
def _done_without(tell: Callable[[str], None] | None) -> Iterator[None]:
    try:
        yield
    except CannotListen as refusal:
        if tell is None:
            raise
        tell(str(refusal))


def _own(address: Address, group: str | None, kept: socket.socket | None, main: Path) -> Door:
    if kept is None and isinstance(address, str):
        kept = _bound(Path(address), group, alone=address == str(main))
    elif kept is None:
        kept = _bound_by_tcp(*address)
    return Door(kept, ours=True)


def bound_to(listener: socket.socket) -> Address:
    """Where a socket is bound; "" for one that has no name."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return name if isinstance(name, str) else ""
    return name[0], name[1]


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


def _activated(descriptor: int) -> socket.socket:
    try:
        listener = socket.socket(fileno=descriptor)
        listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise CannotListen(
            f"descriptor {descriptor} of the service manager is no socket: {error.strerror}"
        ) from error
    family = listener.family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
    if (family, listener.type, listening) != (True, socket.SOCK_STREAM, 1):
        listener.close()
        raise CannotListen(
            "the service manager passes something else than a listening stream socket: "
            "the socket unit wants ListenStream=/PATH"
        )
    listener.setblocking(False)
    return listener


def _address(host: str) -> Address:
    """Where a host would be bound. Raises CannotListen."""
    if host.startswith("unix://"):
        return host.removeprefix("unix://")
    name, port = access.address(host)
    try:
        *_, address = socket.getaddrinfo(
            name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise CannotListen(f"cannot listen on {host}: {error.strerror or error}") from error
    except UnicodeError as error:
        raise CannotListen(f"cannot listen on {host}: that is no name of a machine") from error
    return str(address[0]), int(address[1])


def _spelt(address: Address) -> str:
    if isinstance(address, str):
        return f"unix://{address}"
    name, port = address
    return f"tcp://[{name}]:{port}" if ":" in name else f"tcp://{name}:{port}"


def _identity(path: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = path.lstat()
        return found.st_dev, found.st_ino
    return None


def _bound(path: Path, group: str | None, *, alone: bool) -> socket.socket:
    """Bind a unix socket: mode 0660, for its group.

    Args:
        alone: Nobody listens there, as we hold the directory's lock.

    Raises:
        CannotListen: It can't be bound, somebody else listens there, or there is no such group.
    """
    owner = _group_id(group)
    try:
        if alone:
            path.unlink(missing_ok=True)
        else:
            _clear(path)
    except OSError as error:
        raise CannotListen(f"cannot listen on {path}: {error.strerror or error}") from error
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old_mask = os.umask(0o777 & ~SOCKET_MODE)
    try:
        listener.bind(str(path))
        os.chown(path, 0 if os.geteuid() == 0 else -1, owner, follow_symlinks=False)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotListen(f"cannot listen on {path}: {error.strerror or error}") from error
    finally:
        os.umask(old_mask)
    listener.setblocking(False)
    return listener


def _clear(path: Path) -> None:
    """Take away a socket that nobody listens on any more.

    Raises:
        CannotListen: Somebody does, or it is something else.
        OSError: It can't be looked at or taken away.
    """
    if not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise CannotListen(f"cannot listen on {path}: it is there already, and no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # a full backlog: somebody is there
    raise CannotListen(
        f"cannot listen on {path}: another program listens there (dockerd?): stop it, or name "
        "another path by --host"
    )


def _group_id(group: str | None) -> int:
    """The group of the unix sockets; root's where nobody else is meant. Raises CannotListen."""
    if group == "":
        return 0
    with contextlib.suppress(KeyError):
        return grp.getgrnam(DOCKER_GROUP if group is None else group).gr_gid
    if group is None:
        return -1
    if group.isascii() and group.isdigit() and int(group) < 2**32 - 1:
        return int(group)
    raise CannotListen(f'invalid argument "{group}" for "--group": there is no such group')


def _bound_by_tcp(name: str, port: int) -> socket.socket:
    """Bind a TCP socket. Raises CannotListen."""
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Connections of our predecessor's that linger must not keep us from its address: socket(7).
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((name, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        where = _spelt((name, port))
        raise CannotListen(f"cannot listen on {where}: {error.strerror or error}") from error
    listener.setblocking(False)
    return listener
