"""What the engine tells of a build, line by line, as a person sees it."""

from __future__ import annotations

import sys

from mdocker.errors import FAILED, CliError
from mdocker.messages import Json, json_object
from mdocker.output import is_terminal, wants_colour, warn
from mdocker.transfer_lines import Layers, Plain

_RED, _NORMAL = "\x1b[91m", "\x1b[0m"
"""Around what a command prints on its stderr, whoever looks."""


class BuildFailed(CliError):
    """The build did not come to its end.

    Attributes:
        code: The exit code: that of the RUN step that failed, as in Docker, else 1.
    """

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


class BuildOutput:
    """Shows the steps' output as it comes.

    Attributes:
        image: The id of what was built last; empty before.
        quiet: Nothing is shown yet but for what fails.
    """

    def __init__(self, *, quiet: bool) -> None:
        """Begin.

        Args:
            quiet: Show the image's id alone; what else is said is kept for a failure.
        """
        self.image = ""
        self.quiet = quiet
        self._kept: list[str] = []
        self._pulled: Layers | Plain | None = None

    def take(self, line: bytes) -> None:
        """Show a line of the engine's answer.

        Raises:
            BuildFailed: It says so.
            EngineUnreachable: It is no JSON.
        """
        news = json_object(line)
        detail = news.get("errorDetail") or {}
        if message := detail.get("message") or news.get("error"):
            self._tell_kept()
            self._end_pulled()
            raise BuildFailed(str(message), detail.get("code") or FAILED)
        if isinstance(about := news.get("aux"), dict):
            self.image = str(about.get("ID") or self.image)
        if text := news.get("stream"):
            self._show(_plain(str(text)))
        elif news.get("status"):
            self._show_pulled(news)

    def end(self) -> None:
        """Say what remains to be said, now that the image is there."""
        if self.quiet:
            self.quiet = False
            self._show("".join(self._kept) or f"{self.image}\n")
            self.image = self.image or "".join(self._kept).strip()

    def _show_pulled(self, news: Json) -> None:
        """A line about an image of FROM that is pulled."""
        status = str(news["status"])
        if status.startswith("warning: "):
            warn(status.removeprefix("warning: "))
        elif not self.quiet:
            if self._pulled is None:
                self._pulled = (Layers if is_terminal(1) else Plain)(sys.stdout)
            self._pulled.take(news)

    def _show(self, text: str) -> None:
        if self.quiet:
            self._kept.append(text)
            return
        self._end_pulled()
        sys.stdout.write(text)
        sys.stdout.flush()

    def _end_pulled(self) -> None:
        if self._pulled is not None:
            self._pulled.close()
            self._pulled = None

    def _tell_kept(self) -> None:
        sys.stdout.flush()
        sys.stderr.write("".join(self._kept))


def _plain(text: str) -> str:
    """Text without the engine's colour where none is welcome; a command's own stay."""
    if text.startswith(_RED) and text.endswith(_NORMAL) and not wants_colour(1):
        return text.removeprefix(_RED).removesuffix(_NORMAL)
    return text
