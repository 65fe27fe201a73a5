"""Small writes to disk (records, directories) that can't hold the event loop.

A write to a hung or frozen file system blocks its thread for as long as the disk likes, and no
signal ends that. So each file system gets a thread for the engine's own small writes. The loop
waits for it: an answer takes some ten microseconds longer than a direct call, and where none comes
the loop goes on. Work that was given up may still happen when the disk goes on; then, in the same
thread, its `late` sets right what has become of it, before any later work on that disk.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import queue
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Generic, TypeVar

import anyio
import anyio.to_thread
import structlog
from anyio.lowlevel import RunVar

from supervisor.mailbox import Mailbox

log = structlog.get_logger()

SYNC_LIMIT_S = 0.25
"""The longest that the event loop itself waits, once for a disk that begins to hang."""

QUICK_S = 0.02
"""A task waits so long in the loop, since a hand-over to a waiting thread costs more than most
writes take, and then lets others run."""

PATIENCE_S = 20.0
"""A request whose disk has not answered by then fails. Busy disks take seconds at times."""

WAITERS = 64
"""Tasks that wait for a slow disk at once, each with a thread."""

Result = TypeVar("Result")


class DiskHangs(OSError):
    """The disk has not answered in time (ETIMEDOUT). What was asked may still happen."""


class _Job(Generic[Result]):
    """One piece of work, and the lock that is free once it is done."""

    __slots__ = ("_done", "_error", "_finished", "_result", "given_up", "late", "work")

    def __init__(self, work: Callable[[], Result], late: Callable[[], object] | None) -> None:
        self.work = work
        self.late = late
        self.given_up = False
        self._done = threading.Lock()
        self._done.acquire()
        self._finished = False
        self._result: list[Result] = []
        self._error: Exception | None = None

    def run(self) -> None:
        """In the disk's thread: do it, and tell."""
        try:
            self._result.append(self.work())
        except Exception as error:  # noqa: BLE001 - raised again where it was asked for
            self._error = error
        finally:
            self._finished = True
            self._done.release()

    def wait(self, seconds: float) -> bool:
        """Whether it is done within this time."""
        if self._finished:
            return True
        if not self._done.acquire(timeout=seconds):
            return self._finished  # another waiter may have had the lock in its hand
        self._done.release()
        return True

    def result(self) -> Result:
        """What came of it, once it is done. Ask once."""
        if self._error is None:
            return self._result.pop()
        error, self._error = self._error, None
        try:
            raise error
        finally:
            # Its traceback refers to this frame and to us: in a circle it would live on, and with
            # it all that our callers hold, open logs for one.
            del error

    def forget(self) -> None:
        """Nobody asks for what came of it. Where a cancellation's traceback refers to us, it would
        live on until the collector comes, and with it a log that was opened."""
        self._result.clear()
        self._error = None


class Disk:
    """The thread of one file system.

    Attributes:
        name: Its device as major:minor.
    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job[object]] = queue.SimpleQueue()
        self._hangs_since = 0.0
        self._afterwards: dict[str, Callable[[], object]] = {}
        self._awaited: list[Callable[[], None]] = []
        self._lock = threading.Lock()  # of these two, never held while something is done
        self.name = name
        # Of the event loop that asks: this thread may outlive it.
        self._waiters = RunVar[anyio.CapacityLimiter](f"waiters for {name}")
        self._thread = threading.Thread(target=self._run, name=f"disk-{name}", daemon=True)
        self._thread.start()

    @property
    def hangs_s(self) -> float:
        """For how long it has not answered, 0.0 if it does."""
        return time.monotonic() - self._hangs_since if self._hangs_since else 0.0

    async def answers(self) -> None:
        """Wait until it does not hang; at once where it does not."""
        while self._hangs_since:
            answering, mailbox = anyio.Event(), Mailbox()

            def tell(mailbox: Mailbox = mailbox, answering: anyio.Event = answering) -> None:
                mailbox.post(answering.set)

            with self._lock:
                if not self._hangs_since:
                    return
                self._awaited.append(tell)
            await answering.wait()

    def call(self, work: Callable[[], Result], late: Callable[[], object] | None = None) -> Result:
        """Do it and wait, for `SYNC_LIMIT_S` at the most.

        Args:
            late: Sets right what `work` has done after all though it was given up.

        Raises:
            DiskHangs: It has not answered in time, or has not for some time.
            OSError: The disk refused.
        """
        if self._hangs_since:
            raise self._hangs()
        job = self._ask(work, late)
        if not job.wait(SYNC_LIMIT_S):
            self._give_up(job)
            raise self._hangs()
        return job.result()

    async def patient(
        self, work: Callable[[], Result], late: Callable[[], object] | None = None
    ) -> Result:
        """Do it and wait, for `PATIENCE_S` at the most, while other tasks run.

        It is no checkpoint where the disk is quick.

        Raises:
            DiskHangs: It has not answered in time.
            OSError: The disk refused.
        """
        return await self._wait(self._ask(work, late))

    def begin(self, work: Callable[[], Result]) -> Callable[[], Awaitable[Result]]:
        """Have it done while the caller waits for something else.

        Nothing is gained where the caller has work for this thread meanwhile: between two calls
        that wait, the other one hardly ever gets the interpreter.

        Returns:
            Waits for it, as `patient` does; to be called once, or never.
        """
        return functools.partial(self._wait, self._ask(work, None))

    async def _wait(self, job: _Job[Result]) -> Result:
        if not self._hangs_since and job.wait(QUICK_S):
            return job.result()
        try:
            done = await anyio.to_thread.run_sync(
                job.wait, PATIENCE_S, limiter=self._limiter(), abandon_on_cancel=True
            )
        except BaseException:
            self._give_up(job)
            raise
        if not done:
            self._give_up(job)
            raise self._hangs()
        return job.result()

    def _limiter(self) -> anyio.CapacityLimiter:
        try:
            return self._waiters.get()
        except LookupError:
            limiter = anyio.CapacityLimiter(WAITERS)
            self._waiters.set(limiter)
            return limiter

    def afterwards(self, key: str, work: Callable[[], object]) -> None:
        """Do this when the disk answers again; of several with the same key, the last only."""
        with self._lock:
            self._afterwards[key] = work
        self._jobs.put(_Job(_nothing, None))

    def _ask(self, work: Callable[[], Result], late: Callable[[], object] | None) -> _Job[Result]:
        job = _Job(work, late)
        self._jobs.put(job)  # type: ignore[arg-type]  # its result goes to us alone
        return job

    def _give_up(self, job: _Job[Result]) -> None:
        job.given_up = True
        if job.wait(0):
            # It was done in this very moment. The thread may or may not have seen that we gave up.
            job.forget()
            if job.late is not None:
                self._jobs.put(_Job(job.late, None))
            return
        if not self._hangs_since:
            self._hangs_since = time.monotonic()
            log.error("disk.hangs", disk=self.name)

    def _hangs(self) -> DiskHangs:
        seconds = max(self.hangs_s, SYNC_LIMIT_S)
        return DiskHangs(errno.ETIMEDOUT, f"the disk has not answered for {seconds:.1f} s")

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if not job.given_up:
                job.run()
            else:
                job.late = None  # it never happened
            if self._hangs_since:
                log.info("disk.answers_again", disk=self.name, after_s=round(self.hangs_s, 1))
                with self._lock:
                    self._hangs_since = 0.0
                    awaited, self._awaited = self._awaited, []
                for tell in awaited:
                    tell()
            if job.given_up:
                job.forget()
                if job.late is not None:
                    self._do_late(job.late)
            with self._lock:
                due, self._afterwards = self._afterwards, {}
            for work in due.values():
                self._do_late(work)
            del job  # what came of it may hold descriptors

    def _do_late(self, work: Callable[[], object]) -> None:
        try:
            work()
        except OSError as error:
            log.error("disk.late_work_failed", disk=self.name, error=str(error))


def _nothing() -> None:
    pass


_disks: dict[int, Disk] = {}
"""By device number. Threads are the process's, so are these."""


def hanging() -> list[str]:
    """The names (major:minor) of the disks that hang now."""
    return [one.name for one in list(_disks.values()) if one.hangs_s]


def _disk(device: int) -> Disk:
    found = _disks.get(device)
    if found is None:
        found = _disks[device] = Disk(f"{os.major(device)}:{os.minor(device)}")
    return found


async def answers(path: Path | str) -> None:
    """Wait while its disk hangs. What can't be looked at is left to the next call to tell of."""
    try:
        found = of(path)
    except OSError:
        return
    await found.answers()


def of(path: Path | str) -> Disk:
    """The disk of an existing file or directory, or else that of the directory it would be in.

    Raises:
        OSError: Neither can be looked at.
    """
    with contextlib.suppress(FileNotFoundError):
        return _disk(os.stat(path).st_dev)
    return _disk(os.stat(os.path.dirname(path)).st_dev)
