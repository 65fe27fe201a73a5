"""The talk between supervisor and shim: one message, one SOCK_SEQPACKET packet.

    supervisor                                                  shim
        │  Spawn(id, spec, status_w, stdout_w, stderr_w, stdout_r, stderr_r, fds) │
        │ ──────────────────────────────────────────────────────────────────▶ │ clones at once
        │  Spawned(id, pid, start_ticks, pidfd)   or  SpawnRefused(id, …)      │
        │ ◀────────────────────────────────────────────────────────────────── │
        │        (the init tells its own failure over the status pipe)         │
        │  Exited(id, pid, wait_status, time_ns)                               │
        │ ◀────────────────────────────────────────────────────────────────── │ as soon as reaped
        │  CloseStdin(id)                                                      │
        │  Forget(id)                                                          │
        │ ──────────────────────────────────────────────────────────────────▶ │ drops its duplicates
        │  Exec(id, container, spec, status_w, stdout_w, stderr_w)             │
        │ ──────────────────────────────────────────────────────────────────▶ │ clones at once
        │  Execed(id, pid, pidfd)                 or  ExecRefused(id, …)       │
        │  ExecExited(id, pid, wait_status, time_ns)     once, as soon as reaped │
        │ ◀────────────────────────────────────────────────────────────────── │
        │  Hold(name, fds)          keeps duplicates (replaces what it held)   │
        │ ──────────────────────────────────────────────────────────────────▶ │
        │  Successor(recipe, …)     how to start another, should this one die  │
        │  or Farewell()            it ends on purpose: nobody is to follow    │
        │ ──────────────────────────────────────────────────────────────────▶ │
        ╎                                                                      ╎
        │  HandOver(id, pid, start_ticks, …, fds)    (to a shim that follows a │
        │ ──────────────────────────────────────────────────────────────────▶ │ dead one)
        ╎                                                                      ╎
        │  Adopt()                                     (a new supervisor asks) │
        │ ──────────────────────────────────────────────────────────────────▶ │
        │  Adopted(id, pid, start_ticks, wait_status | None, time_ns, fds) *   │
        │  Held(name, fds) *   AdoptEnd(count, pid, code)                      │
        │ ◀────────────────────────────────────────────────────────────────── │
        │  Quit()                           ends the shim if nothing is alive  │
        │ ──────────────────────────────────────────────────────────────────▶ │

A packet is a JSON object {"t": type, "n": number of descriptors, …fields} of ASCII text, with the
descriptors in one SCM_RIGHTS message, in the order in which the class names them. Who receives
descriptors owns them; who sends them still owns the originals.

An exit can be told twice, by Exited and by Adopted, if it happens around an Adopt: take the first.
A process that ended before its execve is told by Exited like any other.
An exec ends with the connection: the shim kills its cgroup then, and tells nobody of its exit.
"""

from __future__ import annotations

import errno
import os
import sys

# The C module: `socket` would cost each fork of the shim 10 % (it imports enum and selectors).
from _socket import CMSG_SPACE, MSG_CTRUNC, SCM_RIGHTS, SOL_SOCKET

from runtime import json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import ClassVar, dataclass_transform
else:

    def dataclass_transform(**_: object) -> object:
        """What typing's does at run time, without importing typing."""
        return lambda decorated: decorated


SHIM_NAME = b"mdocker-shim"
"""The shim's, and of what it clones until execve: /proc/PID/comm (prctl(2), PR_SET_NAME)."""

PACKET_BYTES = 8 * 1024
"""The longest packet; a spec travels as a memfd, so nothing comes near it."""

MAX_FDS = 253
"""SCM_MAX_FD of the kernel: so many descriptors fit one packet."""

UNKNOWN_STATUS = -1
"""In place of a wait status: it has ended, nobody can tell how (`runtime.endings`)."""

_MSG_CMSG_CLOEXEC = 0x40000000
_ANCILLARY_BYTES = CMSG_SPACE(MAX_FDS * 4)


class ProtocolFault(Exception):
    """The other side sent what this protocol doesn't know; the connection is of no more use."""


class FdsLost(OSError):
    """A packet came without all of its descriptors, as this process may open no more.

    Attributes:
        message_type: Of the packet, or "".
        message_id: The container or exec that it spoke of, or "".
    """

    def __init__(self, code: int, text: str, message_type: str, message_id: str) -> None:
        super().__init__(code, text)
        self.message_type = message_type
        self.message_id = message_id


@dataclass_transform(frozen_default=True)
class Message:
    """Base of all messages. Subclasses list their fields as annotations.

    A field whose name is in `FD_FIELDS` is a descriptor (-1 for none) and travels beside the text;
    a field `fds` is a tuple of them, which come behind the named ones.
    """

    TYPE: ClassVar[str]
    FIELDS: ClassVar[tuple[str, ...]] = ()
    _NAMES: ClassVar[frozenset[str]] = frozenset()
    FD_FIELDS: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls.TYPE = cls.__name__
        names = [name for name in cls.__annotations__ if name != "FD_FIELDS"]
        cls.FIELDS = tuple(names)
        cls._NAMES = frozenset(names)
        _TYPES[cls.TYPE] = cls

    def __init__(self, *values: object, **named: object) -> None:
        for name, value in zip(self.FIELDS, values, strict=False):
            self.__dict__[name] = value
        self.__dict__.update(named)
        if len(values) + len(named) != len(self.FIELDS) or not self.__dict__.keys() >= self._NAMES:
            raise TypeError(f"{self.TYPE} takes {self.FIELDS}, not {self.__dict__}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{self.TYPE}.{name} can't be changed")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __hash__(self) -> int:
        return hash((self.TYPE, *self.__dict__.values()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{self.TYPE}({fields})"

    def descriptors(self) -> list[int]:
        """The descriptors that travel with this message, in order."""
        own = [self.__dict__[name] for name in self.FD_FIELDS]
        return [*own, *self.__dict__.get("fds", ())]


_TYPES: dict[str, type[Message]] = {}


class Spawn(Message):
    """Clone an init. `spec` is a memfd with `Spec.to_json`; the `_w` ends go to the init, of the
    `_r` ends the shim keeps duplicates until Forget.

    `fds` is nothing, or (stdin_r, stdin_w): the first goes to the init, the second is kept until
    CloseStdin or Forget. With a terminal both `_w` are one end of a SOCK_SEQPACKET pair, and both
    `_r` the other: the init sends the master there (`runtime.terminal`)."""

    FD_FIELDS: ClassVar[tuple[str, ...]] = (
        "spec",
        "status_w",
        "stdout_w",
        "stderr_w",
        "stdout_r",
        "stderr_r",
    )
    id: str
    spec: int
    status_w: int
    stdout_w: int
    stderr_w: int
    stdout_r: int
    stderr_r: int
    fds: tuple[int, ...]


class CloseStdin(Message):
    """Nobody is to write to this container's stdin any more: drop the write end."""

    id: str


class Forget(Message):
    """The supervisor has this container's exit on disk and needs nothing of it any more."""

    id: str


class Exec(Message):
    """Run a command in a container that was told as started. `spec` is a memfd with
    `ExecSpec.to_json`; the `_w` ends go to the command, and its stdin, if it is to have one, is in
    `fds`. `id` names the exec, not the container. With a terminal both `_w` are a socket."""

    FD_FIELDS: ClassVar[tuple[str, ...]] = ("spec", "status_w", "stdout_w", "stderr_w")
    id: str
    container: str
    spec: int
    status_w: int
    stdout_w: int
    stderr_w: int
    fds: tuple[int, ...]


class Hold(Message):
    """Keep duplicates of `fds` under `name`; none drops what is held under it."""

    name: str
    fds: tuple[int, ...]


class Successor(Message):
    """Should this supervisor die, start another.

    `recipe` is a memfd with JSON {"argv": […], "env": {…}, "cwd": …}; `output` becomes its stdout
    and stderr, `fds` are the listening sockets: its descriptors from 3 on. It replaces what an
    earlier one said."""

    FD_FIELDS: ClassVar[tuple[str, ...]] = ("recipe", "output")
    recipe: int
    output: int
    fds: tuple[int, ...]


class Farewell(Message):
    """This supervisor ends on purpose, or somebody else restarts it: start no other."""


class HandOver(Message):
    """Hold this container too, which an earlier shim cloned. Fields and `fds` as in `Adopted`, but
    the streams may be missing where they are at their end."""

    id: str
    pid: int
    start_ticks: int
    wait_status: int | None
    time_ns: int
    fds: tuple[int, ...]


class Adopt(Message):
    """A new supervisor asks for everything the shim holds."""


class Quit(Message):
    """End, if no container is alive; otherwise nothing happens."""


class Spawned(Message):
    """The init exists. `start_ticks` is field 22 of /proc/PID/stat, for telling pids apart."""

    FD_FIELDS: ClassVar[tuple[str, ...]] = ("pidfd",)
    id: str
    pid: int
    start_ticks: int
    pidfd: int


class SpawnRefused(Message):
    """No init was made, and nothing of the attempt is left."""

    id: str
    errno: int
    message: str


class Exited(Message):
    """The init has ended. `wait_status` as of wait(2), `time_ns` since the epoch."""

    id: str
    pid: int
    wait_status: int
    time_ns: int


class Execed(Message):
    """The exec's process exists; it reports a failing step over the status pipe."""

    FD_FIELDS: ClassVar[tuple[str, ...]] = ("pidfd",)
    id: str
    pid: int
    pidfd: int


class ExecRefused(Message):
    """No process was made for the exec."""

    id: str
    errno: int
    message: str


class ExecExited(Message):
    """The exec's process was reaped. `wait_status` as of wait(2), `time_ns` since the epoch."""

    id: str
    pid: int
    wait_status: int
    time_ns: int


class Adopted(Message):
    """One container that the shim holds. `fds` is (stdout_r, stderr_r), and (pidfd, stdout_r,
    stderr_r) while it lives, with stdin_w behind these if there is one; `wait_status` is None and
    `time_ns` 0 until it was reaped."""

    id: str
    pid: int
    start_ticks: int
    wait_status: int | None
    time_ns: int
    fds: tuple[int, ...]


class Held(Message):
    """What a Hold left with the shim."""

    name: str
    fds: tuple[int, ...]


class AdoptEnd(Message):
    """All was told: `count` containers, by the shim whose process id is `pid` and whose program is
    `code` (`runtime.shim_launch.code`)."""

    count: int
    pid: int
    code: str


def encode(message: Message) -> tuple[bytes, list[int]]:
    """A message as (packet, descriptors to send with it)."""
    fds = message.descriptors()
    beside = ("fds", *message.FD_FIELDS)
    values = {name: value for name, value in message.__dict__.items() if name not in beside}
    return json_text.dump({"t": message.TYPE, "n": len(fds), **values}), fds


def decode(packet: bytes, fds: list[int]) -> Message:
    """The message that `encode` made; it owns `fds` from here on.

    Raises:
        ProtocolFault: the packet is none of this protocol's; `fds` still belong to the caller.
    """
    try:
        values = json_text.load(packet)
        kind = _TYPES[values.pop("t")]
        if values.pop("n") != len(fds):
            raise ProtocolFault(f"{kind.TYPE} came with {len(fds)} descriptors")
        for name, fd in zip(kind.FD_FIELDS, fds, strict=False):
            values[name] = fd
        if "fds" in kind.FIELDS:
            values["fds"] = tuple(fds[len(kind.FD_FIELDS) :])
        return kind(**values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolFault(f"not a message of this protocol: {packet[:80]!r}") from error


def send_packet(sock: socket.socket, packet: bytes, fds: list[int]) -> None:
    """Send one packet whole.

    Raises:
        BlockingIOError: the other side doesn't read; nothing was sent, try again when writable.
        OSError: the connection is gone.
    """
    ancillary = []
    if fds:
        data = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
        ancillary.append((SOL_SOCKET, SCM_RIGHTS, data))
    sock.sendmsg([packet], ancillary)


def send(sock: socket.socket, message: Message) -> None:
    """`encode`, then `send_packet`; raises what that raises."""
    send_packet(sock, *encode(message))


def receive(sock: socket.socket) -> Message | None:
    """The next message, or None when the other side has closed.

    Raises:
        BlockingIOError: nothing is there.
        FdsLost: this process is out of descriptors; those that did come were closed.
        ProtocolFault: what came is no message of this protocol; its descriptors were closed.
        OSError: the connection is gone.
    """
    packet, ancillary, bits, _ = sock.recvmsg(PACKET_BYTES, _ANCILLARY_BYTES, _MSG_CMSG_CLOEXEC)
    fds = [
        int.from_bytes(data[at : at + 4], sys.byteorder)
        for level, kind, data in ancillary
        if (level, kind) == (SOL_SOCKET, SCM_RIGHTS)
        for at in range(0, len(data) - 3, 4)
    ]
    try:
        if not packet:
            if fds:
                raise ProtocolFault("an empty packet with descriptors")
            return None
        if bits & MSG_CTRUNC:
            about = json_text.load(packet)
            code, named = errno.EMFILE, about.get("id", "")
            raise FdsLost(code, os.strerror(code), about.get("t", ""), named)
        return decode(packet, fds)
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
