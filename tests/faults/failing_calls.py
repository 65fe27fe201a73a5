"""The k-th system call that our code makes in this process fails; it is not made.

Only calls of `os` and `runtime.kernel` that our packages make are counted, directly or through
pathlib and shutil: the event loop, pytest and the pump (whose calls come when they like, and which
tests of its own hold) go on as ever.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime import kernel

CHECKOUT = Path(__file__).parents[2]
OURS = tuple(f"{CHECKOUT}/{package}/" for package in ("supervisor", "runtime", "logs"))
SPARED = ("pump", "conftest")
NEAREST_FRAMES = 5
FRAMES_SEARCHED = 14

CODES = {
    "open": errno.EMFILE,
    "pipe2": errno.EMFILE,
    "dup": errno.EMFILE,
    "pidfd_open": errno.EMFILE,
    "memfd_create": errno.EMFILE,
    "write": errno.ENOSPC,
    "writev": errno.ENOSPC,
    "pwrite": errno.ENOSPC,
    "mkdir": errno.ENOSPC,
    "rename": errno.ENOSPC,
    "replace": errno.ENOSPC,
    "link": errno.ENOSPC,
    "symlink": errno.ENOSPC,
    "ftruncate": errno.EIO,
    "posix_fallocate": errno.ENOSPC,
    "read": errno.EIO,
    "unlink": errno.EIO,
    "rmdir": errno.EBUSY,
    "fstat": errno.EIO,
    "stat": errno.EIO,
    "lstat": errno.EIO,
    "listdir": errno.EMFILE,
    "scandir": errno.EMFILE,
    "set_blocking": errno.EIO,
}
KERNEL_CODES = {"memfd_sealed": errno.EMFILE, "pidfd_open": errno.EMFILE}


class Calls:
    """Counts, and fails one.

    Attributes:
        made: How many were counted.
        failed: Name and place of the call that failed, empty if none has yet.
    """

    def __init__(self, fatal, instead=None):
        self.made = 0
        self.fatal = fatal
        self.instead = instead
        self.failed = ""

    def wrapped(self, name, real, code):
        @functools.wraps(real)
        def call(*given, **named):
            place = _place(sys._getframe(1))
            if place:
                self.made += 1
                if self.made == self.fatal:
                    self.failed = f"{name} at {place}"
                    if self.instead is not None:
                        self.instead()
                    where = next((g for g in given if isinstance(g, str | os.PathLike)), None)
                    path = None if where is None else os.fspath(where)
                    raise OSError(code, os.strerror(code), path)
            return real(*given, **named)

        return call


def _place(frame):
    """Where in our packages a call comes from; empty for anybody else's and the pump's."""
    place = ""
    for depth in range(FRAMES_SEARCHED):
        if frame is None:
            break
        name = frame.f_code.co_filename
        if any(word in os.path.basename(name) for word in SPARED):
            return ""
        if not place and depth < NEAREST_FRAMES and name.startswith(OURS):
            place = f"{name.removeprefix(f'{CHECKOUT}/')}:{frame.f_lineno}"
        frame = frame.f_back
    return place


@contextmanager
def failing_call(fatal, instead=None):
    """Within, call number `fatal` fails, or `instead()` is called first."""
    calls = Calls(fatal, instead)
    with pytest.MonkeyPatch.context() as patch:
        for name, code in CODES.items():
            patch.setattr(os, name, calls.wrapped(name, getattr(os, name), code))
        for name, code in KERNEL_CODES.items():
            real = getattr(kernel, name)
            patch.setattr(kernel, name, calls.wrapped(f"kernel.{name}", real, code))
        yield calls
