"""The engine's half of the talk with a helper process: start it, its ends, its end.

The helper (`archive_child`) is a fresh interpreter without site-packages and environment, so that
nothing of the user's is run as root, with no descriptors but those that it needs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from runtime import kernel
from runtime.images.confined_child import libraries

PIPE_BYTES = 1 << 20

_CHECKOUT = str(Path(__file__).resolve().parents[1])
# Appended, not put first: the standard library must win over whatever lies beside us.
_BOOT = (
    "import sys; sys.path += sys.argv[3:];"
    " from runtime.archive_child import main;"
    " main(int(sys.argv[1]), int(sys.argv[2]))"
)


class ArchiveJob:
    """One helper process. Not thread-safe; `close` and then `reap` must be called.

    Attributes:
        input_fd: Where an archive to unpack goes, non-blocking; -1 if none is, or once closed.
        output_fd: Where the archive that is made comes from, non-blocking; -1 if none is.
        result_fd: Its answers, lines of JSON; non-blocking.
        pidfd: Readable once it has ended.
    """

    def __init__(self, order: dict[str, Any], container: int = -1, output: int = -1) -> None:
        """Start one.

        Args:
            order: See `runtime.archive_order`.
            container: The pidfd of the init whose files are meant; -1 for a view without one.
            output: Where a `layer`, or that of a `copy`, is to be written; it stays the caller's.

        Raises:
            OSError: No descriptors, no process; nothing is left.
        """
        self.input_fd = self.output_fd = self.result_fd = self.pidfd = -1
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            spelled = kernel.memfd_sealed("mdocker-order", json.dumps(order).encode())
            theirs.callback(os.close, spelled)
            stdin = stdout = subprocess.DEVNULL
            if order["kind"] in ("write", "context", "receive"):
                stdin, self.input_fd = _pipe(theirs, ours)
            elif order["kind"] in ("read", "export"):
                self.output_fd, stdout = _pipe(ours, theirs)
            elif order["kind"] in ("layer", "copy"):
                stdout = output
            self.result_fd, result = _pipe(ours, theirs)
            passed = [spelled, result] + ([container] if container >= 0 else [])
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-E", "-X", "utf8", "-c", _BOOT),
                    *(str(spelled), str(result), _CHECKOUT, *libraries()),
                ],
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.DEVNULL,
                pass_fds=passed,
                env={"LC_ALL": "C"},
                cwd="/",
            )
            try:
                self.pidfd = os.pidfd_open(self._process.pid)
            except OSError:
                self._process.kill()
                self._process.wait()
                raise
            ours.pop_all()
        for fd in (self.input_fd, self.output_fd, self.result_fd):
            if fd >= 0:
                os.set_blocking(fd, False)

    @property
    def pid(self) -> int:
        """The helper's."""
        return self._process.pid

    def close_input(self) -> None:
        """Say that the archive is complete. Again is harmless."""
        fd, self.input_fd = self.input_fd, -1
        if fd >= 0:
            os.close(fd)

    def close(self) -> None:
        """Let go of our ends, and kill the helper where it has not ended by itself."""
        self.close_input()
        for fd in (self.output_fd, self.result_fd):
            if fd >= 0:
                os.close(fd)
        self.output_fd = self.result_fd = -1
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> None:
        """Take its status, once `pidfd` is readable: it waits otherwise."""
        self._process.wait()
        fd, self.pidfd = self.pidfd, -1
        if fd >= 0:
            os.close(fd)

    def fate(self) -> str:
        """How it ended, for people, where it gave no answer."""
        code = self._process.poll()
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return "without an answer"


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe, large if the user's quota of pipe pages allows it."""
    read, write = os.pipe2(os.O_CLOEXEC)
    reader.callback(os.close, read)
    writer.callback(os.close, write)
    with contextlib.suppress(OSError):
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return read, write
