"""What a build refuses, or fails of."""

from __future__ import annotations

from supervisor.errors import BadParameter, EngineError

BUILDKIT = (
    "requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn how to build images "
    "with BuildKit enabled"
)
"""Docker's words about what its classic builder can't do."""


class DockerfileRefused(BadParameter):
    """The Dockerfile can't be read; nothing has been built."""

    def __init__(self, words: str, line: int = 0) -> None:
        super().__init__(f"dockerfile parse error{f' line {line}' if line else ''}: {words}")


class StepFailed(EngineError):
    """A step of the build can't be done.

    Attributes:
        exit_code: Of the command of a RUN; 0 for what no command has said.
    """

    def __init__(self, words: str, exit_code: int = 0) -> None:
        super().__init__(words)
        self.exit_code = exit_code
