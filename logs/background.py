"""Work that nobody waits for: compressing rotated files, freeing the blocks of files let go of.

One thread for the whole process, at the lowest priority while it computes. It ends when there has
been nothing to do for a while, so an engine that rotates nothing has none.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator

import structlog

log = structlog.get_logger()

_LOWEST = 19

IDLE_S = 10.0
"""So long it waits for more: to start a thread takes a while, in which the log's writer waits."""

_jobs: collections.deque[Callable[[], object]] = collections.deque()
_change = threading.Condition(threading.RLock())
"""Held for moments, and by no I/O. A destructor may come in the middle of `submit`, hence R."""
_thread: threading.Thread | None = None
_ending = False


def submit(job: Callable[[], object]) -> None:
    """Have `job` done by the thread, after those that came before. What it raises is logged."""
    global _thread
    _jobs.append(job)
    with _change:
        if _thread is not None:
            _change.notify()
            return
        thread = _thread = threading.Thread(target=_run, name="log-files", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # No thread now (a limit, or the interpreter ends): the next submit tries again.
            _thread = None
            log.warning("log.background_waits", reason=str(error))


def close(fd: int) -> None:
    """Close a descriptor there: the last close of a deleted file can take its time."""
    submit(functools.partial(os.close, fd))


def join() -> None:
    """Wait until all is done that was submitted so far, and end it. Not for the event loop."""
    global _ending
    with _change:
        thread = _thread
        _ending = True
        _change.notify()
    if thread is not None:
        thread.join()
    _ending = False


@contextlib.contextmanager
def lowered() -> Iterator[None]:
    """Compute at the lowest priority, inside of a call that holds no interpreter lock.

    Only there: who holds that lock and is not scheduled holds up everybody. Without the right to
    raise the priority again (CAP_SYS_NICE) it stays as it is. setpriority(2) is per thread on
    Linux.
    """
    thread = threading.get_native_id()
    if os.geteuid():
        yield
        return
    before = os.getpriority(os.PRIO_PROCESS, thread)
    os.setpriority(os.PRIO_PROCESS, thread, _LOWEST)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, thread, before)


def _run() -> None:
    while (job := _next()) is not None:
        try:
            job()
        except Exception:
            log.exception("log.background_failed")
        del job


def _next() -> Callable[[], object] | None:
    global _thread
    with _change:
        while not _jobs:
            if _ending or not _change.wait(IDLE_S):
                if _jobs:
                    continue
                _thread = None
                return None
        return _jobs.popleft()
