"""A program in a terminal of its own, as a login shell would start it, and a person at it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

PATIENCE_S = 25
"""How long to wait for a text before the test has failed; nothing is slower because of it."""

_PAUSE_S = 0.05


class Session:
    """A process whose stdin, stdout and stderr are a terminal of which we are the other side.

    Attributes:
        seen: What was shown and not looked at yet.
        everything: What was ever shown.
    """

    def __init__(self, words, *, env=None, cwd=None, size=(24, 80)):
        self.seen = self.everything = b""
        self._status = None
        self.pid, self.master = pty.fork()
        if not self.pid:
            try:
                if cwd is not None:
                    os.chdir(cwd)
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))
                os.execvpe(words[0], [str(word) for word in words], env or os.environ)
            finally:
                os._exit(111)

    def read(self, meanwhile=None):
        """Wait for more to be shown; b"" once nobody can show any more.

        Args:
            meanwhile: What to do again and again until then.
        """
        deadline = time.monotonic() + PATIENCE_S
        while not select.select([self.master], [], [], _PAUSE_S if meanwhile else PATIENCE_S)[0]:
            assert meanwhile and time.monotonic() < deadline, self.seen
            meanwhile()
        try:
            piece = os.read(self.master, 65536)
        except OSError:
            return b""
        self.seen += piece
        self.everything += piece
        return piece

    def until(self, pattern, meanwhile=None):
        """Read until this has been shown, as `read` does; returns what stood before it."""
        expression = re.compile(pattern if isinstance(pattern, bytes) else pattern.encode())
        while (found := expression.search(self.seen)) is None:
            assert self.read(meanwhile), self.seen
        before, self.seen = self.seen[: found.start()], self.seen[found.end() :]
        return before

    def send(self, text):
        """Type something."""
        left = text if isinstance(text, bytes) else text.encode()
        while left:
            left = left[os.write(self.master, left) :]

    def resize(self, lines, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))

    @property
    def is_raw(self):
        _, out, _, local, _, _, _ = termios.tcgetattr(self.master)
        wanted = termios.ICANON | termios.ECHO | termios.ISIG
        return not out & termios.OPOST and not local & wanted

    def hang_up(self):
        """As when a window is closed, or a line cut; nothing is shown any more."""
        os.close(self.master)
        self.master = -1

    def kill(self, number):
        os.kill(self.pid, number)

    def end(self):
        """Read to its end; returns as Popen.returncode does."""
        while self.read():
            pass
        return self.wait()

    def wait(self):
        if self._status is None:
            _, self._status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(self._status)

    def close(self):
        if self._status is None:
            self.kill(signal.SIGKILL)
            self.wait()
        if self.master >= 0:
            os.close(self.master)
