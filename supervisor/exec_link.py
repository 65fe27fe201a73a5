"""Commands in running containers, as asked of the shim (drawn in `runtime/shim_protocol.py`).

An exec lives no longer than the shim and the supervisor that began it. Where the shim dies, its
child is ours if we are its subreaper: then its status is learnt, and it is buried, by us.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Awaitable, Callable

import anyio

from runtime import endings, process_stat
from runtime import shim_protocol as protocol
from supervisor.exits import Ending, decode, unknown


class ExecRefused(Exception):
    """No process was made; the text says why.

    Attributes:
        errno: The kernel's number.
    """

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.errno = code


class ExecLost(Exception):
    """The shim died meanwhile: nobody has told whether a process was made."""


class _Entered:
    """One exec, from the question to its end."""

    __slots__ = (
        "answer",
        "answered",
        "ended",
        "ending",
        "follower",
        "orphaned",
        "pid",
        "start_ticks",
    )

    def __init__(self) -> None:
        self.answered = anyio.Event()
        self.answer: protocol.Message | None = None
        self.ended = anyio.Event()
        self.ending: Ending | None = None
        self.pid = 0  # of the one that runs now
        self.follower = -1  # its pidfd, where it has followed the one that we were told of first
        self.orphaned = False
        self.start_ticks = -1  # of an orphan; -1 also where it had been reaped by then


class ExecLink:
    """The execs under way."""

    def __init__(
        self,
        send: Callable[[protocol.Message], Awaitable[None]],
        reachable: Callable[[], Awaitable[None]],
    ) -> None:
        self._send = send
        self._reachable = reachable
        self._entered: dict[str, _Entered] = {}

    async def start(
        self,
        exec_id: str,
        container_id: str,
        descriptors: tuple[int, int, int, int],
        stdin: tuple[int, ...] = (),
    ) -> int:
        """Have a command started in a running container; returns its pidfd, which is yours.

        Call it in a shield: cut in half, it would leave a process unknown. The shim bounds it.

        Args:
            descriptors: spec, status_w, stdout_w, stderr_w; they stay ours.
            stdin: The read end of its stdin, if it is to have one; it stays ours.

        Raises:
            ExecRefused: The kernel refused, or the container does not run.
            ExecLost: The shim died.
        """
        entered = self._entered[exec_id] = _Entered()
        try:
            await self._reachable()
            await self._send(protocol.Exec(exec_id, container_id, *descriptors, stdin))
            await entered.answered.wait()
        except OSError as error:
            del self._entered[exec_id]
            raise ExecLost(f"the shim is not there: {error.strerror}") from error
        answer = entered.answer
        if isinstance(answer, protocol.Execed):
            return answer.pidfd
        del self._entered[exec_id]
        if isinstance(answer, protocol.ExecRefused):
            raise ExecRefused(answer.errno, answer.message)
        raise ExecLost("the shim died while it was asked")

    async def ending(self, exec_id: str, pidfd: int) -> Ending:
        """Wait for the end of a command that was started, and tell how it ended."""
        entered = self._entered[exec_id]
        while entered.ending is None:
            if entered.orphaned:
                last = pidfd if entered.follower < 0 else entered.follower
                await anyio.wait_readable(last)
                entered.ending = _learn(self.pid_of(exec_id), entered.start_ticks, last)
            else:
                await entered.ended.wait()
        return entered.ending

    def pid_of(self, exec_id: str) -> int:
        """The process id, on the host, of a command that was started."""
        return self._entered[exec_id].pid

    @property
    def pids(self) -> set[int]:
        """Of all commands that were started."""
        return {entered.pid for entered in self._entered.values() if entered.pid}

    def has_ended(self, exec_id: str) -> bool:
        """Whether its end is known."""
        return self._entered[exec_id].ending is not None

    def forget(self, exec_id: str) -> None:
        """Nobody asks for it any more."""
        entered = self._entered.pop(exec_id, None)
        if entered is not None and entered.follower >= 0:
            os.close(entered.follower)

    # ── called by the link ──────────────────────────────────────────────────────────────────

    def take(self, message: protocol.Execed | protocol.ExecRefused | protocol.ExecExited) -> None:
        """The shim said something."""
        entered = self._entered.get(message.id)
        if entered is None:
            for descriptor in message.descriptors():
                os.close(descriptor)
        elif isinstance(message, protocol.ExecExited):
            entered.ending = decode(message.wait_status, message.time_ns)
            entered.ended.set()
        else:
            if isinstance(message, protocol.Execed):
                entered.pid = message.pid
                if entered.answer is not None:
                    # A process that entered apart has been followed by the one inside. Who waits
                    # for the answer may not have had its turn yet, and gets the first one.
                    entered.follower = message.pidfd
                    return
            entered.answer = message
            entered.answered.set()

    def refused(self, message_id: str, code: int, words: str) -> bool:
        """Descriptors were lost on the way to the shim, or back; True if they were an exec's.

        Whoever asked clears the cgroup, where the command may be all the same.
        """
        entered = self._entered.get(message_id)
        if entered is None or entered.answer is not None:
            return False
        self.take(protocol.ExecRefused(message_id, code, words))
        return True

    def lost(self) -> None:
        """The shim is gone."""
        for entered in self._entered.values():
            entered.orphaned = True
            if isinstance(entered.answer, protocol.Execed) and entered.ending is None:
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    entered.start_ticks = process_stat.start_ticks(entered.pid)
            entered.answered.set()
            entered.ended.set()


def _learn(pid: int, start_ticks: int, pidfd: int) -> Ending:
    """How an orphan ended: told to its parent, by its zombie, or to everybody."""
    status = endings.status_of(pid, start_ticks, pidfd)
    endings.bury(pidfd)
    now = time.time_ns()
    return unknown(now) if status is None else decode(status, now)
