"""The options that `run` and `create` share about stdin, stdout, stderr and a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

from mdocker.errors import FAILED, UsageError
from mdocker.options import flag
from mdocker.terminal import size

_STREAMS = ("stdin", "stdout", "stderr")


# No NamedTuple: cyclopts reads the options' help from the annotations of a dataclass only.
@dataclass(frozen=True, slots=True)
class StreamOptions:
    """All as typed."""

    interactive: Annotated[
        bool, flag("--interactive", "-i", help="Give it a standard input, and keep that open")
    ] = False
    tty: Annotated[
        bool, flag("--tty", "-t", help="Give it a terminal; with -i it is this one (-it)")
    ] = False
    attach: Annotated[
        tuple[str, ...],
        flag(
            "--attach",
            "-a",
            help="Attach to STDIN, STDOUT or STDERR (both outputs, and with -i the input, too)",
        ),
    ] = ()


class Attached(NamedTuple):
    """What of a container's streams a client shows and feeds."""

    stdin: bool
    stdout: bool
    stderr: bool

    @property
    def shows(self) -> bool:
        """Whether it shows any of its output."""
        return self.stdout or self.stderr


DETACHED = Attached(False, False, False)


def attached(options: StreamOptions) -> Attached:
    """Return the streams that a foreground `run` is for.

    Raises:
        UsageError: One that is none is named.
    """
    named = {name.lower() for name in options.attach}
    if not named.issubset(_STREAMS):
        (wrong, *_) = [name for name in options.attach if name.lower() not in _STREAMS]
        raise UsageError(
            f'invalid argument "{wrong}" for "-a, --attach": '
            "valid streams are STDIN, STDOUT and STDERR"
        )
    return Attached(
        "stdin" in named or options.interactive,
        "stdout" in named or not named,
        "stderr" in named or not named,
    )


def without_client(options: StreamOptions) -> Attached:
    """Return the streams that a detached `run` is for: none.

    Raises:
        UsageError: Some are named.
    """
    if options.attach:
        raise UsageError("conflicting options: cannot specify both --attach and --detach", FAILED)
    return DETACHED


def stream_config(options: StreamOptions, streams: Attached) -> dict[str, bool]:
    """Return what a container's Config has about them.

    Args:
        options: As typed.
        streams: Those that a client is attached to from the beginning.
    """
    return {
        "AttachStdin": streams.stdin,
        "AttachStdout": streams.stdout,
        "AttachStderr": streams.stderr,
        "Tty": options.tty,
        "OpenStdin": options.interactive,
        # The input is that client's, and ends when it leaves.
        "StdinOnce": options.interactive and streams.stdin,
    }


def terminal_size(options: StreamOptions) -> dict[str, list[int]]:
    """Return what a container's HostConfig has about its terminal: the size of ours, if any."""
    ours = size() if options.tty else None
    return {} if ours is None else {"ConsoleSize": list(ours)}
