"""The supervisor's end of the talk with the shim (drawn in `runtime/shim_protocol.py`).

One task reads; whoever asks waits on an event of its own. If the shim dies, a new one is launched
and handed everything that is held: nothing is lost if the supervisor dies next. Ends that come
while there is none are learnt without it (`runtime.endings`). What is asked for then waits.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import structlog
from anyio.abc import TaskGroup

from runtime import shim_protocol as protocol
from runtime.errors import RuntimeRefused, ShimUnstartable
from supervisor import exec_orphans
from supervisor.exec_link import ExecLink
from supervisor.exits import Ending, decode, unknown
from supervisor.holdings import Holding
from supervisor.shim_answers import Adopted, Question, ShimDied, Spawned
from supervisor.shim_ends import Ends
from supervisor.shim_process import ShimProcess
from supervisor.shim_sending import Sending

log = structlog.get_logger()

QUIT_LIMIT_S = 5.0

SHORT_LIFE_S = 1.0
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0
MOST_FAILURES_AT_START = 3
DEATH_SEEN_S = 1.0
"""A dead shim's connection ends with it; so long we may be busy before we look at that."""


class ShimLink:
    """The connection, and what is asked and known over it.

    Attributes:
        deaths: Shims that have died and were replaced.
    """

    def __init__(self, run_dir: Path) -> None:
        self._tasks: TaskGroup | None = None
        self._shim = ShimProcess(run_dir)
        self._sending = Sending(self._shim)
        self._up_since = 0.0
        self._failures = 0
        self.deaths = 0
        self._death = anyio.Event()
        self._spawns: dict[str, Question] = {}
        self.execs = ExecLink(self._sending.send, self._sending.reachable)
        self._ends = Ends()
        self._holdings = self._ends.held
        self._refused: dict[str, anyio.Event] = {}
        self._adopted: list[Adopted] = []
        self._found: dict[str, tuple[int, ...]] = {}
        self._adoption_told = anyio.Event()
        self._adopting = False
        self._unusable = False
        self._kept: dict[str, tuple[int, ...]] = {}
        self._last_words: protocol.Successor | protocol.Farewell | None = None
        self._quitting = False
        self._closed = anyio.Event()

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, run_dir: Path) -> AsyncIterator[ShimLink]:
        """Connect to the shim of this run directory, launching one where none listens.

        Raises:
            ShimUnstartable: It can't be launched or reached.
        """
        link = cls(run_dir)
        try:
            link._up_since = time.monotonic()
            await link._shim.reach()
        except OSError as error:
            raise ShimUnstartable(f"can't reach the shim in {run_dir}: {error}") from error
        link._sending.is_up()
        async with anyio.create_task_group() as tasks:
            link._tasks = tasks
            tasks.start_soon(link._read)
            exec_orphans.foster(tasks, ())  # of a shim that died under an earlier version of us
            try:
                yield link
            finally:
                tasks.cancel_scope.cancel("the supervisor ends")
                link._shim.close()
                link._ends.close()

    # ── asking ──────────────────────────────────────────────────────────────────────────────

    async def spawn(
        self, container_id: str, descriptors: tuple[int, ...], stdin: tuple[int, ...] = ()
    ) -> Spawned:
        """Have an init cloned; while a shim is being replaced, wait for the new one.

        Args:
            descriptors: spec, status_w, stdout_w, stderr_w, stdout_r, stderr_r; they stay ours.
            stdin: (stdin_r, stdin_w) of one that is to have a stdin; the same.

        Raises:
            ShimDied: Nobody knows whether it was cloned.
            OSError: The shim was refused by the kernel (errno and its words), or can't be had.
        """
        while (gone := self._refused.get(container_id)) is not None:
            await gone.wait()  # of an earlier attempt the shim still holds what it cloned
        await self._sending.reachable()
        spec, status_w, stdout_w, stderr_w, stdout_r, stderr_r = descriptors
        stdin_w = stdin[1] if stdin else -1
        question = self._spawns[container_id] = Question(stdout_r, stderr_r, stdin_w)
        ends = (spec, status_w, stdout_w, stderr_w, stdout_r, stderr_r)
        try:
            await self._sending.send(protocol.Spawn(container_id, *ends, stdin))
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

    async def take(self, container_id: str, spawned: Spawned, *ends: int) -> None:
        """Hold an init that a dead shim had cloned, and hand it to the one that lives.

        Args:
            ends: stdout_r, stderr_r, and stdin_w or -1.
        """
        stdout, stderr, stdin = ends
        self._holdings[container_id] = Holding(
            spawned.pid, spawned.start_ticks, spawned.pidfd, stdout, stderr, stdin
        )
        if self._sending.up:
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
                await self._ends.learn(holding)
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

    def close_stdin(self, container_id: str) -> None:
        """The caller closes the write end of a container's stdin now; so shall the shim."""
        holding = self._holdings.get(container_id)
        if holding is not None:
            holding.stdin = -1
            if holding.with_shim and self._tasks is not None:
                self._tasks.start_soon(self._say_close_stdin, container_id)

    async def _say_close_stdin(self, container_id: str) -> None:
        with contextlib.suppress(OSError):  # it died, and the next one gets no stdin of it
            await self._sending.send(protocol.CloseStdin(container_id))

    def forget(self, container_id: str) -> None:
        """A container's end is on record: the shim may drop what it holds of it."""
        holding = self._holdings.pop(container_id, None)
        if holding is not None:
            holding.let_go()
            if holding.with_shim:
                self._sending.forget(container_id)

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
            await self._sending.send(protocol.Hold(name, descriptors))

    async def be_succeeded(self, recipe: int, output: int, listeners: tuple[int, ...]) -> None:
        """Should we die, have the shim start another.

        Args:
            recipe: A memfd that says how (`protocol.Successor`); it stays ours, and open.
            output: Becomes its standard output and error.
            listeners: The API's sockets.
        """
        self._last_words = protocol.Successor(recipe, output, listeners)
        with contextlib.suppress(OSError):
            await self._sending.send(self._last_words)

    async def say_farewell(self) -> None:
        """Have the shim start nobody when we end."""
        self._last_words = protocol.Farewell()
        with contextlib.suppress(OSError):
            await self._sending.send(self._last_words)

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
            await self._sending.send(protocol.Adopt())
        await self._adoption_told.wait()
        self._adopting = False
        if self._unusable:
            raise ShimUnstartable(f"the shim does not come up: see {self._shim.log_path}")
        adopted, self._adopted = self._adopted, []
        found, self._found = self._found, {}
        return adopted, found

    async def renew(self) -> None:
        """Have a shim of another version make way for one of ours, as if it had died.

        An older one leaves out what it does not know of a spec (filters, devices, user
        namespaces), so nothing may be started before this.
        What runs in containers beside their inits (health checks, execs) ends with it.

        Raises:
            ShimUnstartable: Ours does not start; the other one goes on.
        """
        await self._shim.renew()

    async def quit(self) -> None:
        """Have the shim end (it does not while a container lives), and wait until it has."""
        self._quitting = True
        with contextlib.suppress(OSError):
            await self._sending.send(protocol.Quit())
            with anyio.move_on_after(QUIT_LIMIT_S) as scope:
                await self._closed.wait()
            if scope.cancelled_caught:
                log.warning("shim.still_there", waited_s=QUIT_LIMIT_S)
        if self._closed.is_set():
            # We still hold the lock of the run directory: nobody has launched another one there.
            self._shim.remove_names()

    # ── reading ─────────────────────────────────────────────────────────────────────────────

    async def _read(self) -> None:
        while (connection := self._shim.connection) is not None:
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

    def _answer(self, message: protocol.Spawned | protocol.SpawnRefused) -> Question | None:
        question = self._spawns.get(message.id)
        if question is None:
            log.warning("shim.unasked_answer", container=message.id[:12])
            if message.id in self._holdings:
                self._holdings[message.id].without_shim()  # a hand-over failed: we are its only one
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
            *(message.pid, message.start_ticks, message.pidfd),
            *(question.stdout, question.stderr, question.stdin),
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
        stdout, stderr, stdin = (*fds, -1, -1, -1)[:3]
        holding = Holding(message.pid, message.start_ticks, pidfd, stdout, stderr, stdin)
        holding.with_shim = True
        self._holdings[message.id] = holding
        self._adopted.append(
            Adopted(
                *(message.id, message.pid, pidfd, stdout, stderr),
                ended_ns=0 if lives else message.time_ns,
                start_ticks=message.start_ticks,
                stdin=stdin,
            )
        )
        if message.wait_status is not None:
            self._ended(message.id, message.wait_status, message.time_ns)

    def _ended(self, container_id: str, wait_status: int, time_ns: int) -> None:
        gone = self._refused.pop(container_id, None)
        if gone is not None:
            self._sending.forget(container_id)
            gone.set()
            return
        holding = self._holdings.get(container_id)
        if holding is None or holding.wait_status is not None:
            return
        if wait_status == protocol.UNKNOWN_STATUS:
            # We may know better: it is our child, or the kernel told us.
            status = self._ends.status(holding)
            wait_status = wait_status if status is None else status
        holding.ended(wait_status, time_ns)

    def _known_shim(self, message: protocol.AdoptEnd) -> None:
        self._shim.is_known(message.pid, message.code)
        assert self._tasks is not None
        self._ends.listen_for_orphans_of(message.pid, self._tasks)

    async def dies_after(self, deaths: int) -> bool:
        """Whether a shim has died since `deaths` were counted, or is found dead in a moment."""
        with anyio.move_on_after(DEATH_SEEN_S):
            while self.deaths == deaths:
                await self._death.wait()
        return self.deaths != deaths

    # ── a shim's death ──────────────────────────────────────────────────────────────────────

    async def _lost(self) -> None:
        """The shim is gone: let go all who wait for it, and launch another."""
        self._shim.disconnect()
        self._sending.is_down()
        await self._shim.bury()
        while self._refused:
            self._refused.popitem()[1].set()
        self._sending.forget_all()
        for question in self._spawns.values():
            question.answered.set()
        self.execs.lost()
        if self._tasks is not None:
            exec_orphans.foster(self._tasks, self.execs.pids)
        for holding in self._holdings.values():
            holding.without_shim()
        if self._quitting:
            self._closed.set()
            return
        self.deaths += 1
        death, self._death = self._death, anyio.Event()
        death.set()
        log.error("shim.died", consequence="a new one is launched; running containers go on")
        await self._replace()

    async def _replace(self) -> None:
        while self._shim.connection is None:
            lived = time.monotonic() - self._up_since
            self._failures = 0 if lived >= SHORT_LIFE_S else self._failures + 1
            if self._adopting and self._failures >= MOST_FAILURES_AT_START:
                self._unusable = True
                self._adoption_told.set()
                return
            if self._failures > 1:
                pause = min(FIRST_PAUSE_S * 2 ** (self._failures - 2), LONGEST_PAUSE_S)
                log.error("shim.short_lived", pause_s=pause, see=str(self._shim.log_path))
                await anyio.sleep(pause)
            self._up_since = time.monotonic()
            try:
                self._shim.launch()
            except (OSError, RuntimeRefused) as error:
                log.error("shim.not_launched", error=str(error))
        assert self._tasks is not None
        # Beside the reading: a shim that waits for us to read would not read.
        self._tasks.start_soon(self._furnish)

    async def _furnish(self) -> None:
        """Give a new shim all that the dead one held."""
        try:
            for name, descriptors in list(self._kept.items()):
                await self._sending.send(protocol.Hold(name, descriptors))
            for container_id in list(self._holdings):
                await self._hand_over(container_id)
            if self._last_words is not None:
                await self._sending.send(self._last_words)
        except OSError as error:
            log.warning("shim.not_furnished", error=str(error))  # the reader sees that it died
            return
        self._sending.is_up()
        if self._adopting:
            self._adoption_told.set()  # what the dead one had told of is all there is
        log.info("shim.replaced", containers=len(self._holdings))

    async def _hand_over(self, container_id: str) -> None:
        holding = self._holdings.get(container_id)
        if holding is None or holding.with_shim:
            return

        def made() -> protocol.HandOver | None:
            # Meanwhile it may have ended, and its descriptors be closed.
            if holding.with_shim or self._holdings.get(container_id) is not holding:
                return None
            if holding.wait_status is None and holding.pidfd < 0:
                return None
            return holding.message(container_id)

        await self._sending.send_made(made)
        holding.with_shim = True
