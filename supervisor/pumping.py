"""Moving what a container writes into its log and to attached clients.

One thread for each file system that holds logs (`supervisor/pump_thread.py`), with a stage of its
own, moves all that goes there; a disk that hangs stalls who logs there and nobody else. A container
that keeps no log has its output moved by a thread that never writes to a disk.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping

import anyio
import anyio.lowlevel
import structlog

from logs.marks import MAX_STAGES, MarkFile
from logs.pump import ContainerLog, LogStream, Recovered, Stage
from runtime import kernel
from supervisor.mailbox import Mailbox
from supervisor.pump_thread import Feed, PumpThread, Source

log = structlog.get_logger()

MAIN_STAGE = 0
NO_DISK = -1
"""Stands for the device number of a log that is kept nowhere."""

LONG_BATCH_S = 0.1
"""A batch takes well under a millisecond; one that is under way for so long waits for its disk."""

STALLED_S = 1.0
"""A batch that takes longer than this is stalled by its disk."""

Hold = Callable[[str, tuple[int, ...]], Awaitable[None]]


class Stages:
    """The pump threads and their stages, one for each file system.

    Attributes:
        main: The stage of the first thread.
        mailbox: How the threads tell the event loop.
    """

    def __init__(
        self, marks: MarkFile, hold: Hold, found: Mapping[str, tuple[int, ...]] | None = None
    ) -> None:
        """Make the first stage, in the event loop.

        Args:
            hold: Leaves duplicates of descriptors with the shim under a name; none drops them.
            found: What an earlier supervisor left so. Its staging pipes become ours.
        """
        self._marks = marks
        self._hold = hold
        self._free = list(range(MAX_STAGES - 1, MAIN_STAGE, -1))
        self._orphans: list[tuple[int, Stage]] = []
        self._threads: dict[int, PumpThread] = {}
        self._first: PumpThread | None = None
        self._making = anyio.Lock()
        self._unsettled: dict[str, anyio.Event] = {}
        self._closed = False
        self.mailbox = Mailbox()
        main: tuple[int, int] | None = None
        for name, fds in (found or {}).items():
            number = _stage_number(name)
            if number is None or len(fds) != 2:
                for descriptor in fds:
                    os.close(descriptor)
            elif number == MAIN_STAGE:
                main = (fds[0], fds[1])
            else:
                stage = Stage(marks, tee=kernel.tee, number=number, fds=(fds[0], fds[1]))
                self._orphans.append((number, stage))
                self._free.remove(number)
        self.main = Stage(marks, tee=kernel.tee, number=MAIN_STAGE, fds=main)

    async def recover(self, find_log: Callable[[str], ContainerLog | None]) -> list[Recovered]:
        """Finish what an earlier supervisor had in its staging pipes, and hold our own.

        Raises:
            OSError: A log can't be cut back to its mark, or there are no descriptors.
        """
        await self._hold(_stage_name(MAIN_STAGE), self.main.fds)
        told = [self.main.recover(find_log)]
        while self._orphans:
            number, stage = self._orphans.pop()
            told.append(stage.recover(find_log))
            await self._hold(_stage_name(number), ())
            stage.close()
            self._free.append(number)
        self._make_first()  # while there are descriptors for it: no container runs yet
        return told

    async def lane(self, container_log: ContainerLog, feeds: Iterable[Feed]) -> Lane:
        """A way for one container's output, to the thread of its log's file system.

        Args:
            feeds: Who else gets the bytes, in the pump's thread; looked at anew for each batch.

        Raises:
            OSError: No descriptors for the first thread.
        """
        device = NO_DISK
        if container_log.file is not None and container_log.options.blocking:
            device = os.fstat(container_log.file.fd).st_dev
        thread = self._threads.get(device)
        if thread is None:
            async with self._making:
                thread = self._threads.get(device) or await self._begin(device)
        thread.lanes += 1
        container_log.deliver = self.mailbox.post
        return Lane(self, thread, device, container_log, feeds)

    def _make_first(self) -> PumpThread:
        if self._first is None:
            self._first = PumpThread(MAIN_STAGE, self.main, self.mailbox)
        return self._first

    async def _begin(self, device: int) -> PumpThread:
        first = self._make_first()
        if first not in self._threads.values() or not self._free:
            thread = first
        else:
            number = self._free.pop()
            stage: Stage | None = None
            try:
                stage = Stage(self._marks, tee=kernel.tee, number=number)
                # Before its first batch: what the shim does not hold dies with us.
                await self._hold(_stage_name(number), stage.fds)
                thread = PumpThread(number, stage, self.mailbox)
            except (OSError, RuntimeError) as error:
                # Better with the neighbours' thread than not at all.
                log.error("pump.no_thread", error=str(error))
                if stage is not None:
                    stage.close()
                self._free.append(number)
                return first
        self._threads[device] = thread
        return thread

    async def let_go(self, thread: PumpThread, device: int) -> None:
        """One lane less. A thread that serves nobody ends, unless it is of general use."""
        thread.lanes -= 1
        if thread.lanes or thread is self._first or device == NO_DISK:
            return
        del self._threads[device]
        thread.stop()
        thread.join(None)  # it waits for nothing but orders
        await self._hold(_stage_name(thread.number), ())
        thread.stage.close()
        self._free.append(thread.number)

    def note_unsettled(self, container_id: str) -> Callable[[], None]:
        """A log could not be finished yet; what is returned is to be called when it is."""
        settled = self._unsettled[container_id] = anyio.Event()

        def settle() -> None:
            settled.set()
            if self._unsettled.get(container_id) is settled:
                del self._unsettled[container_id]

        return settle

    async def settled(self, container_id: str) -> None:
        """Wait until the log of an earlier run, which the disk held up, is finished."""
        while (event := self._unsettled.get(container_id)) is not None:
            await event.wait()

    def is_unsettled(self, container_id: str) -> bool:
        """Whether the log of its last run still waits for the disk."""
        return container_id in self._unsettled

    def stalls(self) -> dict[str, float]:
        """The logs whose disk does not answer now: container id and seconds."""
        found = {}
        for thread in set(self._threads.values()):
            seconds, stuck = thread.stuck_s, thread.stuck_in
            if stuck is not None and seconds > STALLED_S:
                found[stuck.container_id] = seconds
        return found

    def close(self, limit_s: float | None = 1.0) -> bool:
        """Stop the threads, and let go of their logs, whose marks stay.

        Returns:
            False where a thread still hangs in a write after `limit_s`. As long as it does, nobody
            else may write these logs: the write comes through at last.
        """
        if self._closed:
            return True
        threads = set(self._threads.values())
        if self._first is not None:
            threads.add(self._first)
        for thread in threads:
            thread.stop()
        if not all(thread.join(limit_s) for thread in threads):
            return False
        for thread in threads:
            thread.stage.close()
        if self._first is None:
            self.main.close()
        self._threads.clear()
        self.mailbox.close()
        self._closed = True
        return True


def _stage_name(number: int) -> str:
    return f"stage-{number}"


def _stage_number(name: str) -> int | None:
    word, _, number = name.partition("-")
    return int(number) if word == "stage" and number.isdigit() else None


class Lane:
    """The way of one container's output.

    Attributes:
        closed: The log is finished, and no thread uses the container's pipes any more.
    """

    __slots__ = ("_device", "_feeds", "_log", "_stages", "_thread", "closed")

    def __init__(
        self,
        stages: Stages,
        thread: PumpThread,
        device: int,
        container_log: ContainerLog,
        feeds: Iterable[Feed],
    ) -> None:
        self._stages = stages
        self._thread = thread
        self._device = device
        self._log = container_log
        self._feeds = feeds
        self.closed = False

    @property
    def stalled(self) -> bool:
        """Whether its thread seems to be held up by its disk at this moment."""
        return self._thread.stuck_s > LONG_BATCH_S

    async def pump(self, source: int, stream: LogStream) -> None:
        """Move all that comes out of a pipe until its last writer has closed it.

        Cancelled, it leaves the pipe with the thread, until `close` or `leave`.

        Args:
            source: Read end of the container's pipe, non-blocking. It must stay open until
                `close` has returned True, or `leave` has called back.

        Raises:
            OSError: It is no pipe, or the kernel has no memory for it.
        """
        ended = anyio.Event()
        failures: list[Exception] = []

        def done(error: Exception | None) -> None:
            if error is not None:
                failures.append(error)
            ended.set()

        self._thread.add(Source(source, stream, self._feeds, done))
        await ended.wait()
        if failures:
            raise failures[0]

    async def close(self, limit_s: float) -> bool:
        """The container has ended: have what its pipes still hold written, and its log closed.

        Returns:
            False where the disk has not let the thread do so within `limit_s`. It will be done as
            soon as the disk goes on; `Stages.settled` waits for it.
        """
        finished = anyio.Event()
        self._thread.finish(self._log, finished.set)
        with anyio.move_on_after(limit_s):
            await finished.wait()
        if not finished.is_set():
            settle = self._stages.note_unsettled(self._log.container_id)
            self._thread.finish(self._log, settle)
            return False
        self.closed = True
        await self._stages.let_go(self._thread, self._device)
        return True

    def leave(self, after: Callable[[], object]) -> None:
        """We end, the container may not: let go of its log, then call `after`, in any thread."""
        self._thread.leave(self._log, after)
