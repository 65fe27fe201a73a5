"""Which file is executed, and what people are told when none can be. Runs inside the container.

cause                                              exit code   as Docker does
not in any directory of PATH, no such file         127
a directory, no permission, no executable format   126
"""

from __future__ import annotations

import errno
import os
import stat

from runtime.errors import PayloadRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def find(command: bytes, env: Mapping[bytes, bytes]) -> bytes:
    """The path to execute: `command` itself if it has a slash, else the first hit in PATH.

    Raises:
        PayloadRefused: nothing there can be executed.
    """
    if b"/" in command:
        _check(command)
        return command
    for directory in env.get(b"PATH", b"").split(b":"):
        candidate = (directory or b".") + b"/" + command
        if os.access(candidate, os.X_OK) and stat.S_ISREG(os.stat(candidate).st_mode):
            return candidate
    raise PayloadRefused(
        f"exec: {_quoted(command)}: executable file not found in $PATH", errno.ENOENT, 127
    )


def _check(command: bytes) -> None:
    words = f"exec: {_quoted(command)}: "
    try:
        mode = os.stat(command).st_mode
    except OSError as error:
        code = 126 if error.errno == errno.EACCES else 127
        what = f"stat {os.fsdecode(command)}: {_lower(error)}"
        raise PayloadRefused(words + what, error.errno or 0, code) from None
    if stat.S_ISDIR(mode):
        raise PayloadRefused(words + "is a directory", errno.EISDIR, 126)
    if not os.access(command, os.X_OK):
        raise PayloadRefused(words + "permission denied", errno.EACCES, 126)


def explain(path: bytes, error: OSError) -> PayloadRefused:
    """What execve's refusal of a file that `find` found means."""
    words = f"exec {os.fsdecode(path)}: {_lower(error)}"
    if error.errno == errno.ENOENT:
        words += " (the file is there, but not the interpreter that it names)"
        return PayloadRefused(words, errno.ENOENT, 127)
    return PayloadRefused(words, error.errno or 0, 126)


def enter(directory: bytes) -> None:
    """Make `directory` the working directory, and be sure that it lies inside the root.

    A working directory outside the root (through a leaked descriptor: CVE-2024-21626) has a path
    that the kernel can't spell from "/".

    Raises:
        PayloadRefused: it is missing, no directory, closed to the user, or outside.
    """
    words = f'working directory "{os.fsdecode(directory)}" can\'t be entered: '
    try:
        os.chdir(directory)
        inside = os.getcwdb()
    except OSError as error:
        code = 126 if error.errno == errno.EACCES else 127
        raise PayloadRefused(words + _lower(error), error.errno or 0, code) from None
    if not inside.startswith(b"/"):
        raise PayloadRefused(words + "it is outside the container", errno.EPERM, 126)


def try_enter(directory: bytes) -> bool:
    """`enter` as root; False if only the user itself may try (a squashing network file system).

    Docker enters as root first, so that `-u nobody -w /root` works.
    """
    try:
        enter(directory)
    except PayloadRefused as refusal:
        if refusal.errno != errno.EACCES:
            raise
        return False
    return True


def _quoted(command: bytes) -> str:
    return '"' + os.fsdecode(command) + '"'


def _lower(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
