"""What the engine tells of a build, line by line, as a person sees it."""

from __future__ import annotations

import json
import sys

from mdocker.errors import FAILED, CliError, EngineUnreachable
from mdocker.output import warn


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

    def take(self, line: bytes) -> None:
        """Show a line of the engine's answer.

        Raises:
            BuildFailed: It says so.
            EngineUnreachable: It is no JSON.
        """
        try:
            news = json.loads(line)
        except ValueError:
            raise EngineUnreachable(f"the engine's answer is no JSON: {line[:80]!r}") from None
        detail = news.get("errorDetail") or {}
        if message := detail.get("message") or news.get("error"):
            self._tell_kept()
            raise BuildFailed(str(message), detail.get("code") or FAILED)
        if isinstance(about := news.get("aux"), dict):
            self.image = str(about.get("ID") or self.image)
        if text := news.get("stream"):
            self._show(str(text))
        elif status := news.get("status"):
            self._show_status(str(status), news)

    def end(self) -> None:
        """Say what remains to be said, now that the image is there."""
        if self.quiet:
            self.quiet = False
            self._show("".join(self._kept) or f"{self.image}\n")
            self.image = self.image or "".join(self._kept).strip()

    def _show_status(self, status: str, news: dict[str, object]) -> None:
        """A line about an image that is pulled; how far it is would be too many of them."""
        if status.startswith("warning: "):
            warn(status.removeprefix("warning: "))
        elif not news.get("progressDetail"):
            name = f"{news['id']}: " if news.get("id") else ""
            self._show(f"{name}{status}\n")

    def _show(self, text: str) -> None:
        if self.quiet:
            self._kept.append(text)
        else:
            sys.stdout.write(text)
            sys.stdout.flush()

    def _tell_kept(self) -> None:
        sys.stdout.flush()
        sys.stderr.write("".join(self._kept))
