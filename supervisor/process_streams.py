"""The pipes and sockets that a process of a container gets, and our ends of them.

Each is made into two stacks: our end is closed with `ours`, the process's with `theirs`, which is
left as soon as the process has its duplicate.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack


def output_pipe(ours: ExitStack, theirs: ExitStack) -> tuple[int, int]:
    """A pipe whose read end is ours (non-blocking) and whose write end goes to the process."""
    read, write = os.pipe2(os.O_CLOEXEC)
    ours.callback(os.close, read)
    theirs.callback(os.close, write)
    os.set_blocking(read, False)
    return read, write


def input_pipe(ours: ExitStack, theirs: ExitStack) -> tuple[int, int]:
    """A pipe whose write end is ours (non-blocking) and whose read end goes to the process."""
    read, write = os.pipe2(os.O_CLOEXEC)
    theirs.callback(os.close, read)
    ours.callback(os.close, write)
    os.set_blocking(write, False)
    return read, write


def console(ours: ExitStack, theirs: ExitStack) -> tuple[int, int]:
    """A socket over which the process sends its terminal (`runtime.terminal`), and its own end."""
    receiver, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    found = receiver.detach(), sender.detach()
    ours.callback(os.close, found[0])
    theirs.callback(os.close, found[1])
    return found
