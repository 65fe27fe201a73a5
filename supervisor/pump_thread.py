"""A thread that moves containers' output into logs on one file system.

It waits for the pipes by an epoll of its own, so the event loop has no part in a batch: a disk that
hangs holds this thread (write(2) on a frozen or hung file system can't be interrupted, not even by
SIGKILL) and with it the containers that log there, and nobody else. What the loop has to know
comes to it by the mailbox.
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Iterable

import structlog

from logs.container_log import ContainerLog
from logs.log_stream import LogStream
from logs.pump import Stage
from supervisor.mailbox import Letter, Mailbox

log = structlog.get_logger()

SLOW_WRITE_S = 1.0
"""A batch (256 KiB at most) takes well under a millisecond; a disk that needs this is told of."""

LAST_BATCHES = 4
"""How many batches are still taken from a pipe that is given up: what it holds is one."""

Feed = Callable[[int, bytes], None]


class Source:
    """The read end of a container's pipe, while it is pumped.

    Attributes:
        done: Called in the loop's thread at the end of input, or with what went wrong.
    """

    __slots__ = ("done", "fd", "feeds", "stream")

    def __init__(
        self,
        fd: int,
        stream: LogStream,
        feeds: Iterable[Feed],
        done: Callable[[Exception | None], object],
    ) -> None:
        self.fd = fd
        self.stream = stream
        self.feeds = feeds
        self.done = done


class PumpThread:
    """One such thread with its stage. Its methods are for the event loop's thread; none waits."""

    def __init__(self, number: int, stage: Stage, mailbox: Mailbox) -> None:
        """Make its descriptors and start it.

        Args:
            number: Of its stage; part of the thread's name.
            stage: Nobody else may use it until the thread has ended.

        Raises:
            OSError: No descriptors. The stage is as it was.
            RuntimeError: No thread can be made.
        """
        self.number = number
        self.stage = stage
        self.lanes = 0
        self._mailbox = mailbox
        self._sources: dict[int, Source] = {}
        self._logs: set[ContainerLog] = set()
        self._orders: collections.deque[Letter] = collections.deque()
        self._moving_since = 0.0
        self._moving: ContainerLog | None = None
        self._slow: set[ContainerLog] = set()
        self._stopping = False
        with contextlib.ExitStack() as stack:
            self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            stack.callback(os.close, self._bell)
            self._epoll = stack.enter_context(select.epoll())
            self._epoll.register(self._bell, select.EPOLLIN)
            self._thread = threading.Thread(target=self._run, name=f"pump-{number}", daemon=True)
            self._thread.start()
            stack.pop_all()

    # ── orders, from other threads ──────────────────────────────────────────────────────────

    def add(self, source: Source) -> None:
        """Pump this pipe until its end."""
        self._order(lambda: self._add(source))

    def remove(self, source: Source) -> None:
        """Pump it no more; `done` isn't called."""
        self._order(lambda: self._remove(source))

    def finish(self, container_log: ContainerLog, after: Letter) -> None:
        """Take what its pipes still hold, and close the log; then `after` is called in the loop."""
        self._order(lambda: self._finish(container_log, after))

    def leave(self, container_log: ContainerLog, after: Letter) -> None:
        """Let go of a log whose container goes on: its mark stays. Then call `after`, there."""
        if self._bell < 0:
            after()  # the thread has ended, and has let go of all its logs
            return
        self._order(lambda: self._leave(container_log, after))

    def stop(self) -> None:
        """End the thread, once its orders are done. All its logs are let go of."""
        self._order(self._stop)

    def join(self, seconds: float | None) -> bool:
        """Wait for its end; False where it hangs longer. None waits for ever.

        Its descriptors are closed here, and by none but the thread that gives the orders.
        """
        self._thread.join(seconds)
        if self._thread.is_alive():
            return False
        bell, self._bell = self._bell, -1
        if bell >= 0:
            self._epoll.close()
            os.close(bell)
        return True

    @property
    def stuck_s(self) -> float:
        """For how long it has been in the batch it is in; 0.0 where it waits for output."""
        since = self._moving_since
        return time.monotonic() - since if since else 0.0

    @property
    def stuck_in(self) -> ContainerLog | None:
        """The log that the batch under way goes to."""
        return self._moving

    def _order(self, order: Letter) -> None:
        self._orders.append(order)
        if self._bell >= 0:
            os.eventfd_write(self._bell, 1)

    # ── the thread ──────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        poll, bell, move = self._epoll.poll, self._bell, self._move
        # No variable of ours may refer to a source while we wait: it would keep its log open.
        source_of: Callable[[int], Source | None] = self._sources.get
        while not self._stopping:
            for fd, _ in poll():
                if fd == bell:
                    os.eventfd_read(bell)
                    self._obey()
                else:
                    move(source_of(fd))

    def _obey(self) -> None:
        while self._orders:
            order = self._orders.popleft()
            self._moving_since = time.monotonic()
            try:
                order()
            except Exception:
                log.exception("pump.order_failed", thread=self.number)
            finally:
                self._moving_since = 0.0
                self._moving = None

    def _move(self, source: Source | None) -> bool:
        """One batch; False where there is no more for now, or for ever."""
        if source is None:
            return False  # it was given up in this very round
        stream = source.stream
        self._moving = container_log = stream.log
        self._moving_since = time.monotonic()
        try:
            data = self.stage.pump(source.fd, stream)
        except BlockingIOError:
            return False
        except Exception as error:  # noqa: BLE001 - told to whoever waits for this pipe
            self._end(source, error)
            return False
        finally:
            self._moving_since = 0.0
            self._moving = None
        if container_log.write_s > SLOW_WRITE_S or self._slow:
            self._note_speed(container_log)
        if not data:
            self._end(source, None)
            return False
        for feed in source.feeds:
            feed(int(stream.stream), data)
        return True

    def _note_speed(self, container_log: ContainerLog) -> None:
        """Tell once of a disk that has become slow, and once when it is fast again."""
        slow = container_log.write_s > SLOW_WRITE_S
        if slow and container_log not in self._slow:
            self._slow.add(container_log)
            log.warning(
                "log.slow",
                container=container_log.container_id[:12],
                write_s=round(container_log.write_s, 3),
                path=container_log.path,
            )
        elif not slow and container_log in self._slow:
            self._slow.discard(container_log)
            log.info("log.fast_again", container=container_log.container_id[:12])

    def _end(self, source: Source, error: Exception | None) -> None:
        self._remove(source)
        self._mailbox.post(lambda: source.done(error))

    def _add(self, source: Source) -> None:
        self._sources[source.fd] = source
        self._logs.add(source.stream.log)
        try:
            self._epoll.register(source.fd, select.EPOLLIN)
        except OSError as error:
            del self._sources[source.fd]
            failure = error
            self._mailbox.post(lambda: source.done(failure))

    def _remove(self, source: Source) -> None:
        if self._sources.get(source.fd) is source:
            del self._sources[source.fd]
            self._epoll.unregister(source.fd)

    def _sources_of(self, container_log: ContainerLog) -> list[Source]:
        return [one for one in self._sources.values() if one.stream.log is container_log]

    def _finish(self, container_log: ContainerLog, after: Letter) -> None:
        try:
            for source in self._sources_of(container_log):
                for _ in range(LAST_BATCHES):
                    if not self._move(source):
                        break
                self._remove(source)
            self._moving = container_log
            # Non-blocking, it is closed later, by a thread of its own.
            container_log.close(lambda: self._mailbox.post(after))
        except BaseException:
            self._mailbox.post(after)
            raise
        finally:
            self._forget(container_log)

    def _leave(self, container_log: ContainerLog, after: Letter) -> None:
        try:
            for source in self._sources_of(container_log):
                self._remove(source)
            if not container_log.closed:
                container_log.detach()
        finally:
            self._forget(container_log)
            after()

    def _forget(self, container_log: ContainerLog) -> None:
        self._logs.discard(container_log)
        self._slow.discard(container_log)

    def _stop(self) -> None:
        self._stopping = True
        for container_log in list(self._logs):
            self._leave(container_log, lambda: None)
