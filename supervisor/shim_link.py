"""The supervisor's end of the talk with the shim (drawn in `runtime/shim_protocol.py`).

One task reads; whoever asks waits on an event of its own. If the shim dies, those who wait for an
exit are let go: the supervisor is a subreaper, so it has become the parent of that shim's inits
and can reap them itself, and a new shim is launched for what starts from now on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import msgspec
import structlog

from runtime import kernel, shim_launch
from runtime import shim_protocol as protocol
from runtime.errors import RuntimeRefused, ShimUnstartable
from supervisor.exits import UNKNOWN_CODE, Ending, decode

log = structlog.get_logger()

SOCKET_NAME = "shim.sock"
QUIT_LIMIT_S = 5.0


class Adopted(msgspec.Struct, frozen=True):
    """A container that the shim holds from an earlier supervisor; -1 for what has ended.

    Its descriptors belong to whoever gets this. `ended_ns` is when it was reaped, 0 if it lives.
    """

    id: str
    pid: int
    pidfd: int
    stdout: int
    stderr: int
    ended_ns: int = 0


class Spawned(msgspec.Struct, frozen=True):
    """A fresh init: its pid, its start time (field 22 of /proc/PID/stat), its pidfd (yours)."""

    pid: int
    start_ticks: int
    pidfd: int


class _Question:
    """A spawn that waits for its answer."""

    __slots__ = ("answer", "answered")

    def __init__(self) -> None:
        self.answered = anyio.Event()
        self.answer: protocol.Message | None = None


class ShimLink:
    """The connection, and what is asked and known over it."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._socket: socket.socket | None = None
        self._sending = anyio.Lock(fast_acquire=True)
        self._spawns: dict[str, _Question] = {}
        self._held: set[str] = set()
        self._refused: set[str] = set()
        self._endings: dict[str, Ending] = {}
        self._awaited: dict[str, anyio.Event] = {}
        self._adopted: list[Adopted] = []
        self._found: dict[str, tuple[int, ...]] = {}
        self._adoption_told = anyio.Event()
        self._kept: dict[str, tuple[int, ...]] = {}
        self._forgotten: list[str] = []
        self._quitting = False
        self._closed = anyio.Event()
        self._pid = 0
        self._has_answered = False

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, run_dir: Path) -> AsyncIterator[ShimLink]:
        """Connect to the shim of this run directory, launching one where none listens.

        Raises:
            ShimUnstartable: It can't be launched or reached.
        """
        link = cls(run_dir)
        try:
            link._open()
        except OSError as error:
            raise ShimUnstartable(f"can't reach the shim in {run_dir}: {error}") from error
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(link._read)
            try:
                yield link
            finally:
                tasks.cancel_scope.cancel("the supervisor ends")
                link._close()

    def _open(self) -> None:
        self._has_answered = False
        try:
            self._socket = self._connected()
        except (FileNotFoundError, ConnectionRefusedError):
            self._pid = shim_launch.launch(self._run_dir)
            log.info("shim.launched", pid=self._pid)
            self._socket = self._connected()

    def _connected(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(str(self._run_dir / SOCKET_NAME))
        except OSError:
            connection.close()
            raise
        connection.setblocking(False)
        return connection

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # ── asking ──────────────────────────────────────────────────────────────────────────────

    async def spawn(self, container_id: str, descriptors: tuple[int, ...]) -> Spawned:
        """Have an init cloned.

        Args:
            descriptors: spec, status_w, stdout_w, stderr_w, stdout_r, stderr_r; they stay ours.

        Raises:
            OSError: The shim was refused by the kernel (errno and its words), or has died.
        """
        question = self._spawns[container_id] = _Question()
        try:
            await self._send(protocol.Spawn(container_id, *descriptors))
            await question.answered.wait()
        except (BrokenPipeError, ConnectionResetError):
            question.answer = None
        finally:
            del self._spawns[container_id]
        answer = question.answer
        if isinstance(answer, protocol.Spawned):
            self._held.add(container_id)
            return Spawned(answer.pid, answer.start_ticks, answer.pidfd)
        if isinstance(answer, protocol.SpawnRefused):
            raise OSError(answer.errno, answer.message)
        raise OSError(errno.ECONNRESET, "the shim died while it was asked to clone; try again")

    async def ending(self, container_id: str, pidfd: int) -> Ending:
        """How a container's init ended. Call it once its pidfd is readable; ask once.

        Args:
            pidfd: Used to reap it ourselves where the shim that was its parent has died.
        """
        while container_id not in self._endings:
            if container_id not in self._held:
                return _reap(pidfd)
            event = self._awaited.setdefault(container_id, anyio.Event())
            await event.wait()
        self._awaited.pop(container_id, None)
        return self._endings.pop(container_id)

    def forget(self, container_id: str) -> None:
        """A container's end is on record: the shim may drop what it holds of it."""
        if container_id in self._held:
            self._held.discard(container_id)
            self._send_or_queue(protocol.Forget(container_id))
        self._endings.pop(container_id, None)
        self._awaited.pop(container_id, None)

    async def hold(self, name: str, descriptors: tuple[int, ...]) -> None:
        """Leave duplicates with the shim; they outlive this process."""
        self._kept[name] = descriptors
        await self._send(protocol.Hold(name, descriptors))

    async def adopt(self) -> tuple[list[Adopted], dict[str, tuple[int, ...]]]:
        """Be handed everything that the shim holds.

        Returns:
            The containers, and what earlier calls of `hold` left with it, by name. All
            descriptors are the caller's.

        Raises:
            ShimUnstartable: The shim is not there.
        """
        try:
            await self._send(protocol.Adopt())
        except OSError as error:
            raise ShimUnstartable(f"can't talk to the shim: {error}") from error
        await self._adoption_told.wait()
        if not self._has_answered:
            raise ShimUnstartable(f"the shim does not come up: see {self._run_dir / 'shim.log'}")
        adopted, self._adopted = self._adopted, []
        found, self._found = self._found, {}
        return adopted, found

    async def quit(self) -> None:
        """Have the shim end (it does not while a container lives), and wait until it has."""
        self._quitting = True
        await self._send(protocol.Quit())
        with anyio.move_on_after(QUIT_LIMIT_S) as scope:
            await self._closed.wait()
        if scope.cancelled_caught:
            log.warning("shim.still_there", waited_s=QUIT_LIMIT_S)

    # ── sending ─────────────────────────────────────────────────────────────────────────────

    async def _send(self, message: protocol.Message) -> None:
        async with self._sending:
            while True:
                connection = self._socket
                if connection is None:
                    raise OSError(errno.ENOTCONN, "the shim is not there")
                try:
                    self._send_queued(connection)
                    protocol.send(connection, message)
                except BlockingIOError:
                    await anyio.wait_writable(connection)
                    continue
                return

    def _send_or_queue(self, message: protocol.Forget) -> None:
        """Send without waiting; what does not fit now goes before the next message."""
        self._forgotten.append(message.id)
        if self._socket is None or self._sending.locked():
            return
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            self._send_queued(self._socket)

    def _send_queued(self, connection: socket.socket) -> None:
        while self._forgotten:
            protocol.send(connection, protocol.Forget(self._forgotten[-1]))
            self._forgotten.pop()

    # ── reading ─────────────────────────────────────────────────────────────────────────────

    async def _read(self) -> None:
        while True:
            connection = self._socket
            if connection is None:
                return
            try:
                message = protocol.receive(connection)
            except BlockingIOError:
                await anyio.wait_readable(connection)
                continue
            except protocol.FdsLost as error:
                log.error("shim.descriptors_lost", error=str(error))
                question = self._spawns.get(error.message_id)
                if question is not None:
                    # It was cloned, and whoever asked ends it by its cgroup.
                    self._refused.add(error.message_id)
                    question.answer = protocol.SpawnRefused(
                        error.message_id, errno.EMFILE, os.strerror(errno.EMFILE)
                    )
                    question.answered.set()
                continue
            except ConnectionResetError:
                # It died before it had read all of ours. That is told once and first; what it had
                # sent before, perhaps exit codes, is still there to be read (unix(7)).
                continue
            if message is None:
                await self._lost()
                if self._quitting:
                    return
                if self._socket is None:
                    return
            else:
                self._has_answered = True
                self._take(message)

    def _take(self, message: protocol.Message) -> None:
        match message:
            case protocol.Spawned() | protocol.SpawnRefused():
                question = self._spawns.get(message.id)
                if question is None:
                    log.warning("shim.unasked_answer", container=message.id[:12])
                    for descriptor in message.descriptors():
                        os.close(descriptor)
                    return
                question.answer = message
                question.answered.set()
            case protocol.Exited():
                self._ended(message.id, message.wait_status, message.time_ns)
            case protocol.Adopted():
                self._held.add(message.id)
                *pidfd, stdout, stderr = message.fds
                ended_ns = message.time_ns if message.wait_status is not None else 0
                self._adopted.append(
                    Adopted(
                        *(message.id, message.pid, pidfd[0] if pidfd else -1, stdout, stderr),
                        ended_ns=ended_ns,
                    )
                )
                if message.wait_status is not None:
                    self._ended(message.id, message.wait_status, message.time_ns)
            case protocol.Held():
                self._found[message.name] = message.fds
            case protocol.AdoptEnd():
                self._adoption_told.set()
            case _:
                log.warning("shim.unknown_message", message=message.TYPE)

    def _ended(self, container_id: str, wait_status: int, time_ns: int) -> None:
        if container_id in self._refused:
            self._refused.discard(container_id)
            self._send_or_queue(protocol.Forget(container_id))
            return
        self._endings.setdefault(container_id, decode(wait_status, time_ns))
        event = self._awaited.get(container_id)
        if event is not None:
            event.set()

    async def _lost(self) -> None:
        """The shim is gone: let go all who wait for it, and launch another."""
        self._close()
        # Only once it is wholly gone its inits are ours: before that nobody could reap them.
        await self._bury()
        self._held.clear()
        self._refused.clear()
        self._forgotten.clear()
        for question in self._spawns.values():
            question.answered.set()
        for event in self._awaited.values():
            event.set()
        self._awaited.clear()
        if self._quitting:
            self._closed.set()
            return
        if not self._has_answered:
            # It would die again: who starts a container is told, and nobody spins.
            log.error("shim.unusable", see=str(self._run_dir / "shim.log"))
            self._adoption_told.set()
            return
        log.error("shim.died", consequence="a new one is launched; running containers go on")
        try:
            self._open()
            for name, descriptors in self._kept.items():
                await self._send(protocol.Hold(name, descriptors))
        except (OSError, RuntimeRefused) as error:
            log.error("shim.not_launched", error=str(error))

    async def _bury(self) -> None:
        """Take the status of a shim that we launched, so that no zombie is left."""
        pid, self._pid = self._pid, 0
        if not pid:
            return
        pidfd = os.pidfd_open(pid)
        try:
            with anyio.move_on_after(QUIT_LIMIT_S, shield=True):
                await anyio.wait_readable(pidfd)
                os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222  (it has ended: no wait)
        finally:
            os.close(pidfd)


def _reap(pidfd: int) -> Ending:
    """Take the status of an init whose shim has died; as its subreaper we are its parent now."""
    if pidfd >= 0:
        try:
            status = kernel.wait_pidfd(pidfd)
        except ChildProcessError:
            status = None
        if status is not None:
            return decode(status, time.time_ns())
    return Ending(
        code=UNKNOWN_CODE,
        time_ns=time.time_ns(),
        unknown="the exit code is unknown: the shim died and somebody else reaped the process",
    )
