"""Starting another supervisor when the one that is connected dies.

The supervisor says how, once it serves (`Successor`), and says when nobody is to follow
(`Farewell`). It is dead when its connection has ended and its process too: only then its locks are
free. Until the new one is there, clients wait in the backlog of the listening
socket, of which we hold a duplicate.

Back-off: one that served for `_STEADY_S` is followed at once; each death before that doubles the
delay. One that does not come up at all is tried again for as long as there are containers to look
after, ever more rarely.
"""

from __future__ import annotations

# The C module of `signal`, which imports enum.
import _signal  # type: ignore[import-not-found]  # typeshed has none
import os
import struct
import time
from _socket import SO_PEERCRED, SOL_SOCKET
from fcntl import F_DUPFD_CLOEXEC
from fcntl import fcntl as _fcntl

from runtime import json_text, run_dir, scheduling
from runtime.endings import has_ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select
    import socket
    from collections.abc import Callable

    from runtime.shim_protocol import Successor

LISTENER_FD = 3
"""From where on a successor finds the sockets that its predecessor listened on."""

INHERITED = "MDOCKER_INHERITED"
"""Environment variable: `listener=3,listener=4`, what a process was started with."""

_STEADY_S = 1.0
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 30.0
_LONGEST_AFTER_SERVING_S = 1.0
_PATIENCE = 8
_LISTENER_PATIENCE = 3
_DEFAULT_SIGNALS = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM)
_UCRED = struct.Struct("3i")


class Succession:
    """Who is the supervisor, and who follows.

    Attributes:
        served: The connected supervisor has said that it serves.
    """

    def __init__(self, poll: select.epoll, complain: Callable[[str], None]) -> None:
        self._poll = poll
        self._complain = complain
        self._recipe: Successor | None = None
        self._peer = -1  # pidfd of the connected supervisor, or of the last one
        self._child = -1  # pidfd of one that we have started and have to reap
        self._child_pid = 0
        self._child_serves = False
        self._connected = False
        self._serving_since = 0.0
        self._failures = 0
        self._due: float | None = None

    @property
    def awaited(self) -> bool:
        """Somebody follows, or is to follow if there is anything to look after."""
        return self._recipe is not None

    @property
    def hopeless(self) -> bool:
        """It was tried often and none came up."""
        return self._failures >= _PATIENCE

    # What the shim tells

    def connected(self, connection: socket.socket) -> None:
        """A supervisor has connected."""
        (pid, _, _) = _UCRED.unpack(connection.getsockopt(SOL_SOCKET, SO_PEERCRED, _UCRED.size))
        self._connected = True
        self._due = None
        self._serving_since = 0.0
        self._watch_peer(pid)

    def disconnected(self) -> None:
        """Its connection has ended."""
        self._connected = False
        if self._peer < 0:
            self._died()

    def serves(self, recipe: Successor) -> None:
        """It serves, and this is how another is started. We own the descriptors."""
        self._drop_recipe()
        self._recipe = recipe
        self._serving_since = time.monotonic()

    def farewell(self) -> None:
        """Nobody is to follow."""
        self._drop_recipe()
        self._due = None

    # What epoll tells

    def owns(self, fd: int) -> bool:
        """Whether `fd` is one that we watch."""
        return fd >= 0 and fd in (self._peer, self._child)

    def handle(self, fd: int) -> None:
        """A supervisor's process has ended."""
        if not has_ended(fd):
            return  # the event was for an earlier descriptor of this number
        child = fd == self._child
        if child:
            os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOHANG)
            self._child = -1
        peer = fd == self._peer
        self._peer = -1 if peer else self._peer
        self._poll.unregister(fd)
        os.close(fd)
        if not self._connected and (peer or self._peer < 0):
            self._died()

    def timeout(self) -> float:
        """How long epoll may wait, in seconds; -1 for ever."""
        return -1 if self._due is None else max(0.0, self._due - time.monotonic())

    def start_if_due(self) -> None:
        """Start a supervisor if its time has come."""
        if self._due is None or time.monotonic() < self._due:
            return
        self._due = None
        recipe = self._recipe
        if recipe is None or self._connected or self._child >= 0:
            return
        try:
            self._child_pid = _start(recipe)
            self._child = os.pidfd_open(self._child_pid)
            self._poll.register(self._child, 1)
        except (OSError, ValueError, KeyError) as error:
            self._complain(f"start a supervisor: {error}")
            self._died()
            return
        self._complain(f"the supervisor has died; started another, pid {self._child_pid}")

    # Within

    def _died(self) -> None:
        """There is no supervisor any more: say when to start one."""
        if self._recipe is None or self._due is not None:
            return
        served = self._serving_since > 0
        now = time.monotonic()
        steady = served and now - self._serving_since >= _STEADY_S
        self._failures = 0 if steady else self._failures + 1
        self._serving_since = 0.0
        longest = _LONGEST_AFTER_SERVING_S if served else _LONGEST_DELAY_S
        delay = _FIRST_DELAY_S * 2 ** (self._failures - 1) if self._failures else 0.0
        self._due = now + min(delay, longest)
        if self._failures >= _LISTENER_PATIENCE and not served and self._recipe.fds:
            # Clients in its backlog have waited long enough to be told that nobody comes.
            recipe, self._recipe = self._recipe, None
            for listener in recipe.fds:
                os.close(listener)
            self._recipe = type(recipe)(recipe.recipe, recipe.output, ())

    def _watch_peer(self, pid: int) -> None:
        if self._peer >= 0 and self._peer != self._child:
            self._poll.unregister(self._peer)
            os.close(self._peer)
        self._peer = -1
        if self._child >= 0 and pid == self._child_pid:
            self._peer = self._child
            return
        try:
            self._peer = os.pidfd_open(pid)
            self._poll.register(self._peer, 1)
        except OSError as error:
            # Dead already, or we are out of descriptors: then its connection's end is all we see.
            if self._peer >= 0:
                os.close(self._peer)
            self._peer = -1
            self._complain(f"watch the supervisor {pid}: {error}")

    def _drop_recipe(self) -> None:
        recipe, self._recipe = self._recipe, None
        if recipe is not None:
            for fd in recipe.descriptors():
                if fd >= 0:
                    os.close(fd)


def _start(recipe: Successor) -> int:
    """Start what the recipe says; returns its pid.

    Raises:
        OSError: The kernel refused.
        ValueError, KeyError: It is no recipe.
    """
    told = json_text.load(os.pread(recipe.recipe, os.fstat(recipe.recipe).st_size, 0))
    environment = dict(told["env"])
    run_dir.follow_name(recipe.output)
    actions: list[tuple[object, ...]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, recipe.output, 1),
        (os.POSIX_SPAWN_DUP2, recipe.output, 2),
    ]
    # Out of each other's way, as one of them may have a number that another is to get.
    moved = [_fcntl(fd, F_DUPFD_CLOEXEC, LISTENER_FD + len(recipe.fds)) for fd in recipe.fds]
    for place, listener in enumerate(moved, LISTENER_FD):
        actions.append((os.POSIX_SPAWN_DUP2, listener, place))
    if moved:
        named = (f"listener={place}" for place in range(LISTENER_FD, LISTENER_FD + len(moved)))
        environment[INHERITED] = ",".join(named)
    os.chdir(told["cwd"])
    try:
        pid = os.posix_spawn(
            told["argv"][0],
            told["argv"],
            environment,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULT_SIGNALS,
        )
        scheduling.be_prompt(pid)  # from its first import on
        return pid
    finally:
        for listener in moved:
            os.close(listener)
        os.chdir("/")
