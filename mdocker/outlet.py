"""Writing no more than goes without waiting, so that somebody can be read from meanwhile."""

from __future__ import annotations

import errno
import os
import select
import stat

_UNKNOWN = frozenset({errno.EOPNOTSUPP, errno.ESPIPE, errno.EINVAL})


class Outlet:
    """Our stdout or stderr, whose mode is not ours to change: others may hold the same file."""

    def __init__(self, descriptor: int) -> None:
        """Take a descriptor, which stays the caller's."""
        self.descriptor = descriptor
        kind = os.fstat(descriptor).st_mode
        self._waits_for_nobody = stat.S_ISREG(kind)
        self._asks = stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)
        self._poller = select.poll()
        self._poller.register(descriptor, select.POLLOUT)

    def write(self, data: memoryview) -> int:
        """Write some, and return how much; 0 where its reader has to go first.

        Raises:
            BrokenPipeError: Its reader has gone.
            OSError: As write(2) has it, such as a full disk.
        """
        if self._waits_for_nobody:
            return os.write(self.descriptor, data)
        if self._asks:
            try:
                # At -1 it is writev(2) with a flag: pwritev2(2). Pipes know it from Linux 6.5 on.
                return os.pwritev(self.descriptor, [data], -1, os.RWF_NOWAIT)
            except BlockingIOError:
                return 0
            except OSError as error:
                if error.errno not in _UNKNOWN:
                    raise
                self._asks = False
        if not self._poller.poll(0):
            return 0
        try:
            # So much goes into a pipe that says it is writable: pipe(7) under PIPE_BUF.
            return os.write(self.descriptor, data[: select.PIPE_BUF])
        except BlockingIOError:
            return 0
