"""What a person sees when something is refused: one line on stderr and Docker's exit code.

CliError                    the line is `mdocker: <text>`
├── UsageError              the command line itself is wrong; "See 'mdocker run --help'." follows
├── EngineRefused           the engine answered with an error (carries the HTTP status)
├── EngineUnreachable       nobody answers at the socket, or what answers is no engine
│   └── EngineCut           the engine went away in the middle of the talk
├── Detached                the detach keys were pressed; what runs in the container goes on
├── NotATerminal            a terminal was asked for, and stdin is none
└── TemplateError           --format holds something that can't be done
"""

from __future__ import annotations

from typing import ClassVar

FAILED = 1
"""A command could not do (all of) what it was asked."""
REFUSED = 125
"""`run` or `create`: the engine refused, or the command line is wrong."""
NOT_EXECUTABLE = 126
"""`run`: the command in the container was found and could not be executed."""
NOT_FOUND = 127
"""`run`: the command was not found in the container."""
INTERRUPTED = 130
"""Ctrl-C ended the client (128 + SIGINT)."""
BROKEN_PIPE = 141
"""Who read our output has gone (128 + SIGPIPE), as for any other tool of a pipeline."""


class CliError(Exception):
    """Base of everything that ends a command with a line on stderr.

    Attributes:
        exit_code: What the process leaves with, unless the command has its own rule.
    """

    exit_code: ClassVar[int] = FAILED


class UsageError(CliError):
    """The command line is wrong.

    Attributes:
        code: Docker's exit code for it: 125 for a wrong flag, 1 for a wrong number of words.
    """

    def __init__(self, message: str, code: int = REFUSED) -> None:
        super().__init__(message)
        self.code = code


class EngineRefused(CliError):
    """The engine answered with a status of 400 or above.

    Attributes:
        status: The HTTP status.
        message: The engine's words.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class EngineUnreachable(CliError):
    """No engine listens, it could not be started, or it speaks something else."""


class EngineCut(EngineUnreachable):
    """The engine went away in the middle of a talk; the next one may go on with it.

    Attributes:
        unsent: Not a byte of the request has reached it, so it may be made again.
    """

    def __init__(self, text: str, *, unsent: bool = False) -> None:
        super().__init__(text)
        self.unsent = unsent


class Detached(CliError):
    """The detach keys were pressed: this client ends, what it was attached to does not."""


class NotATerminal(CliError):
    """A container with a terminal was to be typed into, and our stdin is no terminal."""


class TemplateError(CliError):
    """A --format template has a mistake, or asks for something that does not exist."""


def start_failure_code(message: str) -> int:
    """Return the exit code that Docker's client makes of a failed start's text.

    The engine says why an init could not execute its payload only in words, so the words are
    the protocol: 127 for a command that is not there, 126 for one that can't be executed.
    """
    text = message.lower()
    if "executable file not found" in text or "no such file or directory" in text:
        return NOT_FOUND
    if "permission denied" in text or "is a directory" in text:
        return NOT_EXECUTABLE
    return REFUSED
