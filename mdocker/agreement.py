"""What deletes much asks first, as Docker does; --force leaves the question out."""

from __future__ import annotations

import sys

from mdocker.errors import FAILED, UsageError


def agreed(command: str, warning: str) -> bool:
    """Show a warning, ask, and tell whether the answer is yes.

    It is read from standard input, also where that is no terminal, as in `yes | mdocker …`.

    Args:
        command: What was typed, for the text.

    Raises:
        UsageError: Nobody is there to answer.
    """
    sys.stderr.write(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer:
        sys.stderr.write("\n")
        raise UsageError(f"'mdocker {command}' asks before it deletes: give --force", FAILED)
    return answer.strip().lower() in ("y", "yes")
