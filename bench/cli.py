"""A docker-like command line, whosever it is, and the processes behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.processes import run, run_many

IMAGE = "mdocker-bench"
QUIET = ("--network", "none")


class Cli:
    """One program that takes docker's commands. Subclasses know the processes behind it."""

    name = ""
    image = IMAGE

    def __init__(
        self,
        argv: Sequence[str],
        env: dict[str, str] | None = None,
        enter: Callable[[], None] | None = None,
    ) -> None:
        self._argv = list(argv)
        self.env = env
        self.enter = enter

    def command(self, *arguments: str) -> list[str]:
        """The whole argument vector of a command."""
        return [*self._argv, *arguments]

    def call(self, *arguments: str, timeout: float = 120.0) -> str:
        """Runs a command; its output without the last newline. BenchError when it fails."""
        done = run(self.command(*arguments), env=self.env, enter=self.enter, timeout=timeout)
        return done.decode(errors="replace").strip()

    def timed(self, *arguments: str, timeout: float = 120.0) -> float:
        """The milliseconds of a command from fork to its end."""
        begun = time.monotonic()
        run(self.command(*arguments), env=self.env, enter=self.enter, timeout=timeout)
        return (time.monotonic() - begun) * 1000

    def many(self, commands: Sequence[Sequence[str]], at_once: int) -> float:
        """The seconds of many commands, `at_once` at a time."""
        whole = [self.command(*arguments) for arguments in commands]
        return run_many(whole, at_once, env=self.env, enter=self.enter)

    def run_arguments(self, *command: str, options: Sequence[str] = ()) -> list[str]:
        """`run -d` of the benchmarks' image without a network."""
        return ["run", "-d", *QUIET, *options, self.image, *command]

    def detach(self, *command: str, options: Sequence[str] = ()) -> str:
        """Starts a detached container and returns its id."""
        return self.call(*self.run_arguments(*command, options=options)).splitlines()[-1]

    def remove_all(self) -> None:
        """Kills and removes every container."""
        ids = self.call("ps", "-aq").split()
        for begin in range(0, len(ids), 50):
            self.call("rm", "-f", *ids[begin : begin + 50], timeout=300)

    def background(self) -> list[int]:
        """The processes that run whether or not there is a container."""
        return []

    def monitors(self) -> list[int]:
        """The processes that are there because of the containers, one or so for each."""
        return []

    def log_file(self, container: str) -> Path:
        """Where a container's log is kept."""
        raise NotImplementedError
