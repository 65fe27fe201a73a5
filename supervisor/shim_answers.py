"""What the shim's answers are for whoever has asked."""

from __future__ import annotations

import errno

import anyio
import msgspec

from runtime import shim_protocol as protocol


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
    stdin: int = -1


class Spawned(msgspec.Struct, frozen=True):
    """A fresh init: its pid, its start time (field 22 of /proc/PID/stat), its pidfd (yours)."""

    pid: int
    start_ticks: int
    pidfd: int


class Question:
    """A spawn that waits for its answer.

    Attributes:
        answer: None where the shim died first.
        stdout: Read end of the pipe that the init was given.
        stderr: The same.
        stdin: Write end of another, or -1.
    """

    __slots__ = ("answer", "answered", "stderr", "stdin", "stdout")

    def __init__(self, stdout: int, stderr: int, stdin: int) -> None:
        self.answered = anyio.Event()
        self.answer: protocol.Message | None = None
        self.stdout = stdout
        self.stderr = stderr
        self.stdin = stdin
