"""`run --replicas N`: N containers at once, over a few connections."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

from mdocker.client import Engine
from mdocker.container_options import ContainerOptions
from mdocker.create_request import create_body
from mdocker.errors import (
    INTERRUPTED,
    REFUSED,
    CliError,
    EngineUnreachable,
    UsageError,
    start_failure_code,
)
from mdocker.fanout import fan_out
from mdocker.messages import Reply, Request
from mdocker.output import complain, is_terminal, warn
from mdocker.paths import container_path, quote
from mdocker.pull_policy import ensure_image
from mdocker.stream_options import StreamOptions, without_client

if TYPE_CHECKING:
    from mdocker.progress import Bar

MOST = 100_000
_PATIENCE_S = 0.5
WIDTH = 16
"""Connections. Measured: create + start is bound by the engine; more only makes it switch more."""


def run_replicas(
    engine: Engine,
    image: str,
    command: tuple[str, ...],
    options: ContainerOptions,
    streams: StreamOptions,
    count: int,
) -> int:
    """Create and start `count` containers, print their ids in order, return the exit code.

    A failure is reported and does not keep the others from starting. Ctrl-C starts no more, takes
    back what was created and not started, and says how many run. A second one ends at once.

    Raises:
        UsageError: The number makes no sense, or an option can't be had N times.
    """
    if not 1 <= count <= MOST:
        raise UsageError(f'invalid argument "{count}" for "--replicas": must be 1 to {MOST}')
    if options.cidfile:
        raise UsageError("--cidfile can't be used with --replicas: there are N ids")
    body = create_body(image, command, options, streams, without_client(streams))
    try:
        ensure_image(engine, image, options)
    except UsageError:
        raise
    except CliError as error:
        complain(str(error))
        return REFUSED
    base = options.name or f"{_word(image)}-{time.time_ns() // 1000 % 16**6:06x}"
    first = Request.make("POST", "/containers/create", None, body)
    more = f"&platform={quote(options.platform)}" if options.platform else ""
    jobs = [
        first._replace(path=f"{first.path}?name={base}-{number}{more}")
        for number in range(1, count + 1)
    ]
    batch = _Batch(base, count)
    with _Progress(count) as batch.advance, batch.interruptible():
        try:
            fan_out(engine, jobs, batch.answer, width=WIDTH, halted=batch.is_interrupted)
            fan_out(engine, batch.unstarted(), lambda index, outcome: None, width=WIDTH)
        except KeyboardInterrupt:
            complain("interrupted twice: some may be created and not started")
        except EngineUnreachable as error:
            batch.problems.setdefault(str(error), []).append(0)
    return batch.report()


def _word(image: str) -> str:
    """Make a name's beginning of an image's name."""
    last = image.rpartition("/")[2].partition(":")[0]
    word = "".join(letter for letter in last if letter.isascii() and letter.isalnum())
    return word or "replica"


class _Batch:
    """What has become of each replica."""

    def __init__(self, base: str, count: int) -> None:
        self.base = base
        self.ids: list[str] = [""] * count
        self.running: list[bool] = [False] * count
        self.problems: dict[str, list[int]] = {}
        self.warnings: dict[str, None] = {}
        self.advance: Callable[[], None] = lambda: None
        self._interrupted = False
        self._codes: set[int] = set()

    def is_interrupted(self) -> bool:
        return self._interrupted

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within, the first Ctrl-C is noted and lets what is under way come to its end."""

        def note(number: int, frame: FrameType | None) -> None:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True

        before = signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def unstarted(self) -> list[Request]:
        """The requests that take back what Ctrl-C has left created."""
        if not self._interrupted:
            return []
        left = zip(self.ids, self.running, strict=True)
        return [Request("DELETE", container_path(one)) for one, runs in left if one and not runs]

    def answer(self, index: int, outcome: Reply | CliError) -> Request | None:
        if isinstance(outcome, CliError):
            self.problems.setdefault(str(outcome), []).append(index + 1)
            starting = bool(self.ids[index])
            self._codes.add(start_failure_code(str(outcome)) if starting else REFUSED)
            self.advance()
            return None
        if not self.ids[index]:
            created = outcome.json()
            self.ids[index] = str(created["Id"])
            self.warnings.update(dict.fromkeys(created.get("Warnings") or ()))
            if self._interrupted:
                return None
            return Request("POST", container_path(self.ids[index], "start"))
        self.running[index] = True
        self.advance()
        return None

    def report(self) -> int:
        """Print ids and problems; return the exit code.

        Where all failed starts have the same reason, it is the one that `run` gives for it.
        """
        sys.stdout.write(
            "".join(
                f"{identifier}\n"
                for identifier, runs in zip(self.ids, self.running, strict=True)
                if runs
            )
        )
        sys.stdout.flush()
        for warning in self.warnings:
            warn(warning)
        for problem, numbers in self.problems.items():
            whose = ", ".join(f"{self.base}-{number}" for number in numbers[:3] if number)
            more = f" and {len(numbers) - 3} more" if len(numbers) > 3 else ""
            complain(f"{whose}{more}: {problem}" if whose else problem)
        running, count = sum(self.running), len(self.running)
        if self._interrupted:
            complain(
                f"interrupted: {running} of {count} run, as {self.base}-N; "
                f"'mdocker stop --all' stops every container"
            )
            return INTERRUPTED
        if self.problems:
            complain(f"{running} of {count} run")
            return self._codes.pop() if len(self._codes) == 1 else REFUSED
        return 0


class _Progress:
    """A progress bar on stderr, if a terminal is there and it takes long enough to wonder."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._done = 0
        self._bar: Bar | None = None
        self._due = time.monotonic() + _PATIENCE_S if is_terminal(2) else math.inf

    def __enter__(self) -> Callable[[], None]:
        return self._advance

    def _advance(self) -> None:
        self._done += 1
        if self._bar is not None:
            self._bar.advance()
        elif time.monotonic() >= self._due:
            # Importing rich takes as long as starting some thirty containers.
            from mdocker.progress import Bar

            self._bar = Bar("Starting", self._count)
            self._bar.advance(self._done)

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
