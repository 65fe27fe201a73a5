"""The supervisor's end of the talk with the shim (drawn in `runtime/shim_protocol.py`).

One task reads; whoever asks waits on an event of its own. If the shim dies, a new one is launched
and handed everything that is held: nothing is lost if the supervisor dies next. Ends that come
while there is none are learnt without it (`runtime.endings`). What is asked for then waits.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup

from runtime import endings, shim_launch
from runtime import shim_protocol as protocol
from runtime.errors import RuntimeRefused, ShimUnstartable
from runtime.exit_events import ExitEvents
from supervisor.exec_link import ExecLink
from supervisor.exits import Ending, decode, unknown
from supervisor.holdings import Holding

log = structlog.get_logger()

SOCKET_NAME = "shim.sock"
QUIT_LIMIT_S = 5.0

WAIT_LIMIT_S = 10.0
"""How long a start waits for a new shim; it is there within 100 ms or there is something wrong."""

SHORT_LIFE_S = 1.0
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0
MOST_FAILURES_AT_START = 3
TELLING_S = 0.5


class ShimDied(OSError):
    """The shim died while it was asked to clone: nobody has told whether it did."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "the shim died while it was asked to clone")


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
    start_ticks: int = 0


class Spawned(msgspec.Struct, frozen=True):
    """A fresh init: its pid, its start time (field 22 of /proc/PID/stat), its pidfd (yours)."""

    pid: int
    start_ticks: int
    pidfd: int


class _Question:
    """A spawn that waits for its answer."""

    __slots__ = ("answer", "answered", "stderr", "stdout")

    def __init__(self, stdout: int, stderr: int) -> None:
        self.answered = anyio.Event()
        self.answer: protocol.Message | None = None
        self.stdout = stdout
        self.stderr = stderr


class ShimLink:
    """The connection, and what is asked and known over it.

    Attributes:
        deaths: Shims that have died and were replaced.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._tasks: TaskGroup | None = None
        self._socket: socket.socket | None = None
        self._up = anyio.Event()
        self._up_since = 0.0
        self._failures = 0
        self.deaths = 0
        self._sending = anyio.Lock(fast_acquire=True)
        self._spawns: dict[str, _Question] = {}
        self.execs = ExecLink(self._send, self._reachable)
        self._holdings: dict[str, Holding] = {}
        self._refused: dict[str, anyio.Event] = {}
        self._adopted: list[Adopted] = []
        self._found: dict[str, tuple[int, ...]] = {}
        self._adoption_told = anyio.Event()
        self._adopting = False
        self._unusable = False
        self._kept: dict[str, tuple[int, ...]] = {}
        self.deaths = 0
        self._last_words: protocol.Successor | protocol.Farewell | None = None
        self._forgotten: list[str] = []
        self._quitting = False
        self._closed = anyio.Event()
        self._shim_pidfd = -1
        self._shim_code = ""
        self._ears: ExitEvents | None = None
        self._heard = anyio.Event()

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
        link._up.set()
        async with anyio.create_task_group() as tasks:
            link._tasks = tasks
            tasks.start_soon(link._read)
            try:
                yield link
            finally:
                tasks.cancel_scope.cancel("the supervisor ends")
                link._close()
                link._watch_shim(0)
                if link._ears is not None:
                    link._ears.close()

    def _open(self) -> None:
        self._up_since = time.monotonic()
        try:
            self._socket = self._connected()
        except (FileNotFoundError, ConnectionRefusedError):
            self._launch()

    def _launch(self) -> None:
        pid = shim_launch.launch(self._run_dir)
        self._watch_shim(pid)
        log.info("shim.launched", pid=pid)
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
        """Have an init cloned; while a shim is being replaced, wait for the new one.

        Args:
            descriptors: spec, status_w, stdout_w, stderr_w, stdout_r, stderr_r; they stay ours.

        Raises:
            ShimDied: Nobody knows whether it was cloned.
            OSError: The shim was refused by the kernel (errno and its words), or can't be had.
        """
        while (gone := self._refused.get(container_id)) is not None:
            await gone.wait()  # of an earlier attempt the shim still holds what it cloned
        await self._reachable()
        question = self._spawns[container_id] = _Question(*descriptors[-2:])
        try:
            await self._send(protocol.Spawn(container_id, *descriptors))
            await question.answered.wait()
        except OSError as error:
            raise ShimDied from error
        finally:
            del self._spawns[container_id]
        answer = question.answer
        if isinstance(answer, protocol.Spawned):
            return Spawned(answer.pid, answer.start_ticks, answer.pidfd)
        if isinstance(answer, protocol.SpawnRefused):
            raise OSError(answer.errno, answer.message)
        raise ShimDied

    async def take(self, container_id: str, spawned: Spawned, stdout: int, stderr: int) -> None:
        """Hold an init that a dead shim had cloned, and hand it to the one that lives."""
        self._holdings[container_id] = Holding(
            spawned.pid, spawned.start_ticks, spawned.pidfd, stdout, stderr
        )
        if self._up.is_set():
            with contextlib.suppress(OSError):  # it died: the next one gets all
                await self._hand_over(container_id)

    async def ending(self, container_id: str, pidfd: int) -> Ending:
        """How a container's init ended. Call it once its pidfd is readable; ask once.

        Args:
            pidfd: For one that nobody holds for us.
        """
        holding = self._holdings.get(container_id) or Holding(0, 0, pidfd, -1, -1)
        while holding.wait_status is None:
            if not holding.with_shim:
                await self._learn(holding)
            else:
                await holding.news()
        if holding.wait_status == protocol.UNKNOWN_STATUS:
            return unknown(holding.time_ns)
        return decode(holding.wait_status, holding.time_ns)

    def let_go(self, container_id: str) -> None:
        """The caller closes a container's descriptors now; what is known of its end stays."""
        holding = self._holdings.get(container_id)
        if holding is not None:
            holding.let_go()

    def forget(self, container_id: str) -> None:
        """A container's end is on record: the shim may drop what it holds of it."""
        holding = self._holdings.pop(container_id, None)
        if holding is not None:
            holding.let_go()
            if holding.with_shim:
                self._send_or_queue(protocol.Forget(container_id))

    async def hold(self, name: str, descriptors: tuple[int, ...]) -> None:
        """Leave duplicates with the shim; they outlive this process.

        Whoever drops them (by none) closes the originals afterwards: until then they may be handed
        to a new shim.
        """
        if descriptors:
            self._kept[name] = descriptors
        else:
            self._kept.pop(name, None)
        with contextlib.suppress(OSError):  # there is none now: the next one gets all
            await self._send(protocol.Hold(name, descriptors))

    async def be_succeeded(self, recipe: int, output: int, listener: int) -> None:
        """Should we die, have the shim start another.

        Args:
            recipe: A memfd that says how (`protocol.Successor`); it stays ours, and open.
            output: Becomes its standard output and error.
            listener: The API's socket.
        """
        self._last_words = protocol.Successor(recipe, output, listener)
        with contextlib.suppress(OSError):
            await self._send(self._last_words)

    async def say_farewell(self) -> None:
        """Have the shim start nobody when we end."""
        self._last_words = protocol.Farewell()
        with contextlib.suppress(OSError):
            await self._send(self._last_words)

    async def adopt(self) -> tuple[list[Adopted], dict[str, tuple[int, ...]]]:
        """Be handed everything that the shim holds.

        Returns:
            The containers, and what earlier calls of `hold` left with it, by name. All
            descriptors are the caller's.

        Raises:
            ShimUnstartable: The shim is not there.
        """
        self._adopting = True
        with contextlib.suppress(OSError):  # it has died: the reader sees to it
            await self._send(protocol.Adopt())
        await self._adoption_told.wait()
        self._adopting = False
        if self._unusable:
            raise ShimUnstartable(f"the shim does not come up: see {self._run_dir / 'shim.log'}")
        adopted, self._adopted = self._adopted, []
        found, self._found = self._found, {}
        return adopted, found

    def renew(self) -> None:
        """Have a shim of another version make way for one of ours, as if it had died.

        What runs in containers beside their inits (health checks, execs) ends with it.
        """
        if self._shim_pidfd >= 0 and self._shim_code not in ("", shim_launch.code()):
            log.info("shim.renewed", old=self._shim_code, new=shim_launch.code())
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._shim_pidfd, signal.SIGKILL)

    async def quit(self) -> None:
        """Have the shim end (it does not while a container lives), and wait until it has."""
        self._quitting = True
        with contextlib.suppress(OSError):
            await self._send(protocol.Quit())
            with anyio.move_on_after(QUIT_LIMIT_S) as scope:
                await self._closed.wait()
            if scope.cancelled_caught:
                log.warning("shim.still_there", waited_s=QUIT_LIMIT_S)

    # ── sending ─────────────────────────────────────────────────────────────────────────────

    def _is_down(self) -> None:
        # Whoever waits for the next one goes on waiting if that one dies too.
        if self._up.is_set():
            self._up = anyio.Event()

    async def _reachable(self) -> None:
        if self._up.is_set():
            return
        with anyio.move_on_after(WAIT_LIMIT_S):
            while not self._up.is_set():
                await self._up.wait()
        if not self._up.is_set():
            words = f"the shim does not come up: see {self._run_dir / 'shim.log'}"
            raise OSError(errno.ENOTCONN, words)

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
                except (BrokenPipeError, ConnectionResetError):
                    self._is_down()  # the reader has not seen it yet: nobody else shall ask
                    raise
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
        while (connection := self._socket) is not None:
            try:
                message = protocol.receive(connection)
            except BlockingIOError:
                await anyio.wait_readable(connection)
                continue
            except protocol.FdsLost as error:
                self._descriptors_lost(error.message_id)
                continue
            except ConnectionResetError:
                # It died before it had read all of ours. That is told once and first; what it had
                # sent before, perhaps exit codes, is still there to be read (unix(7)).
                continue
            if message is None:
                await self._lost()
            else:
                self._take(message)

    def _take(self, message: protocol.Message) -> None:
        match message:
            case protocol.Spawned():
                self._spawned(message)
            case protocol.SpawnRefused():
                if not self.execs.refused(message.id, message.errno, message.message):
                    self._answer(message)
            case protocol.Execed() | protocol.ExecRefused() | protocol.ExecExited():
                self.execs.take(message)
            case protocol.Exited():
                self._ended(message.id, message.wait_status, message.time_ns)
            case protocol.Adopted():
                self._adopt(message)
            case protocol.Held():
                self._found[message.name] = message.fds
            case protocol.AdoptEnd():
                self._known_shim(message)
                self._adoption_told.set()
            case _:
                log.warning("shim.unknown_message", message=message.TYPE)

    def _answer(self, message: protocol.Spawned | protocol.SpawnRefused) -> _Question | None:
        question = self._spawns.get(message.id)
        if question is None:
            log.warning("shim.unasked_answer", container=message.id[:12])
            for descriptor in message.descriptors():
                os.close(descriptor)
            return None
        question.answer = message
        question.answered.set()
        return question

    def _spawned(self, message: protocol.Spawned) -> None:
        question = self._answer(message)
        if question is None:
            return
        # At once: its end may be the next message.
        holding = Holding(
            message.pid, message.start_ticks, message.pidfd, question.stdout, question.stderr
        )
        holding.with_shim = True
        self._holdings[message.id] = holding

    def _descriptors_lost(self, container_id: str) -> None:
        log.error("shim.descriptors_lost", error=os.strerror(errno.EMFILE))
        if self.execs.refused(container_id, errno.EMFILE, os.strerror(errno.EMFILE)):
            return
        question = self._spawns.get(container_id)
        if question is not None:
            # It was cloned, and whoever asked ends it by its cgroup.
            self._refused[container_id] = anyio.Event()
            question.answer = protocol.SpawnRefused(
                container_id, errno.EMFILE, os.strerror(errno.EMFILE)
            )
            question.answered.set()

    def _adopt(self, message: protocol.Adopted) -> None:
        lives = message.wait_status is None
        fds = list(message.fds)
        pidfd = fds.pop(0) if lives else -1
        stdout, stderr = fds or (-1, -1)
        holding = Holding(message.pid, message.start_ticks, pidfd, stdout, stderr)
        holding.with_shim = True
        self._holdings[message.id] = holding
        self._adopted.append(
            Adopted(
                *(message.id, message.pid, pidfd, stdout, stderr),
                ended_ns=0 if lives else message.time_ns,
                start_ticks=message.start_ticks,
            )
        )
        if message.wait_status is not None:
            self._ended(message.id, message.wait_status, message.time_ns)

    def _ended(self, container_id: str, wait_status: int, time_ns: int) -> None:
        gone = self._refused.pop(container_id, None)
        if gone is not None:
            self._send_or_queue(protocol.Forget(container_id))
            gone.set()
            return
        holding = self._holdings.get(container_id)
        if holding is None or holding.wait_status is not None:
            return
        if wait_status == protocol.UNKNOWN_STATUS:
            # We may know better: it is our child, or the kernel told us.
            status = self._status(holding)
            wait_status = wait_status if status is None else status
        holding.ended(wait_status, time_ns)

    # ── ends that no shim tells ─────────────────────────────────────────────────────────────

    async def _learn(self, holding: Holding) -> None:
        """How an init ended whose shim is dead; it has ended."""
        status = self._status(holding)
        if status is None and self._ears is not None:
            with anyio.move_on_after(TELLING_S):
                while status is None:
                    await self._heard.wait()
                    status = self._ears.take(holding.pid)
        if holding.wait_status is None:
            known = protocol.UNKNOWN_STATUS if status is None else status
            holding.ended(known, time.time_ns())

    def _status(self, holding: Holding) -> int | None:
        status = None
        if holding.pidfd >= 0:
            status = endings.status_of(holding.pid, holding.start_ticks, holding.pidfd)
        if self._ears is not None:
            # It knows better than a zombie whose first thread was not the last to end.
            heard = self._ears.take(holding.pid)
            status = status if heard is None else heard
        return status

    def _known_shim(self, message: protocol.AdoptEnd) -> None:
        """Who the shim is; if its orphans won't be ours, listen for their ends where we have to."""
        self._shim_code = message.code
        self._watch_shim(message.pid)
        if self._ears is not None or endings.is_told_after_reaping() or _is_our_child(message.pid):
            return
        try:
            self._ears = ExitEvents()
        except OSError as error:
            log.warning("shim.orphans_unheard", error=str(error))
            return
        assert self._tasks is not None
        self._tasks.start_soon(self._hear, self._ears)

    async def _hear(self, ears: ExitEvents) -> None:
        while True:
            await anyio.wait_readable(ears.fileno())
            ears.hear({one.pid for one in self._holdings.values()})
            self._heard.set()
            self._heard = anyio.Event()

    # ── a shim's death ──────────────────────────────────────────────────────────────────────

    async def _lost(self) -> None:
        """The shim is gone: let go all who wait for it, and launch another."""
        self._close()
        self._is_down()
        await self._bury()
        while self._refused:
            self._refused.popitem()[1].set()
        self._forgotten.clear()
        for question in self._spawns.values():
            question.answered.set()
        self.execs.lost()
        for holding in self._holdings.values():
            holding.without_shim()
        if self._quitting:
            self._closed.set()
            return
        self.deaths += 1
        self.deaths += 1
        log.error("shim.died", consequence="a new one is launched; running containers go on")
        await self._replace()

    async def _replace(self) -> None:
        while self._socket is None:
            lived = time.monotonic() - self._up_since
            self._failures = 0 if lived >= SHORT_LIFE_S else self._failures + 1
            if self._adopting and self._failures >= MOST_FAILURES_AT_START:
                self._unusable = True
                self._adoption_told.set()
                return
            if self._failures > 1:
                pause = min(FIRST_PAUSE_S * 2 ** (self._failures - 2), LONGEST_PAUSE_S)
                log.error("shim.short_lived", pause_s=pause, see=str(self._run_dir / "shim.log"))
                await anyio.sleep(pause)
            self._up_since = time.monotonic()
            try:
                self._launch()
            except (OSError, RuntimeRefused) as error:
                log.error("shim.not_launched", error=str(error))
        assert self._tasks is not None
        # Beside the reading: a shim that waits for us to read would not read.
        self._tasks.start_soon(self._furnish)

    async def _furnish(self) -> None:
        """Give a new shim all that the dead one held."""
        try:
            for name, descriptors in list(self._kept.items()):
                await self._send(protocol.Hold(name, descriptors))
            for container_id in list(self._holdings):
                await self._hand_over(container_id)
            if self._last_words is not None:
                await self._send(self._last_words)
        except OSError as error:
            log.warning("shim.not_furnished", error=str(error))  # the reader sees that it died
            return
        self._up.set()
        if self._adopting:
            self._adoption_told.set()  # what the dead one had told of is all there is
        log.info("shim.replaced", containers=len(self._holdings))

    async def _hand_over(self, container_id: str) -> None:
        holding = self._holdings.get(container_id)
        if holding is None or holding.with_shim:
            return
        if holding.wait_status is None and holding.pidfd < 0:
            return
        # Asked of when it is sent: meanwhile it may have ended, and its descriptors be closed.
        async with self._sending:
            while not holding.with_shim and self._holdings.get(container_id) is holding:
                connection = self._socket
                if connection is None:
                    raise OSError(errno.ENOTCONN, "the shim is not there")
                try:
                    protocol.send(connection, holding.message(container_id))
                except BlockingIOError:
                    await anyio.wait_writable(connection)
                    continue
                holding.with_shim = True

    def _watch_shim(self, pid: int) -> None:
        if self._shim_pidfd >= 0:
            os.close(self._shim_pidfd)
        self._shim_pidfd = -1
        if pid:
            with contextlib.suppress(ProcessLookupError):
                self._shim_pidfd = os.pidfd_open(pid)

    async def _bury(self) -> None:
        """Wait until a dead shim is wholly gone, and take its status if it is our child."""
        if self._shim_pidfd < 0:
            return
        with anyio.move_on_after(QUIT_LIMIT_S, shield=True):
            await anyio.wait_readable(self._shim_pidfd)
        endings.bury(self._shim_pidfd)
        self._watch_shim(0)


def _is_our_child(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return int(text.rpartition(")")[2].split()[1]) == os.getpid()
