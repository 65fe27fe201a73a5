"""Help pages as plain text, each line broken once, where the terminal ends.

cyclopts keeps the line breaks that a docstring has in its source and breaks what is still too long
once more, so that a terminal of 80 columns would show every other line half empty.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from cyclopts.help import PlainFormatter

if TYPE_CHECKING:
    from rich.console import Console

_WIDEST = 100
_HANGING = 4


class HelpPage(PlainFormatter):
    """What cyclopts prints, in paragraphs that fill their lines; an option's rest is indented."""

    def _print_plain(self, console: Console, text: str) -> None:
        width = min(console.width, _WIDEST)
        paragraphs = [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]
        filled = "\n\n".join(_filled(paragraph, width) for paragraph in paragraphs)
        # soft_wrap: the lines are as long as they may be.
        console.print(filled, highlight=False, markup=False, soft_wrap=True)


def _filled(paragraph: str, width: int) -> str:
    words = paragraph.split()
    indent = paragraph[: len(paragraph) - len(paragraph.lstrip())].replace("\n", "")
    return textwrap.fill(
        " ".join(words),
        width,
        initial_indent=indent,
        subsequent_indent=indent + " " * _HANGING if indent else "",
        break_long_words=False,
        break_on_hyphens=False,
    )
