"""Which version of the state directory's layout this is; a newer one is refused, not guessed at."""

from __future__ import annotations

from pathlib import Path

VERSION = 3
"""1 knew nothing of terminals, mounts and shared namespaces, and would forget a container's; 2
nothing of capabilities, filters, user namespaces, devices and ulimits, and would start a container
with rights that it was denied."""

FILE = "version"


class NewerState(Exception):
    """The state directory was written by a later mdocker; the text says what to do."""

    def __init__(self, where: Path, version: int) -> None:
        super().__init__(
            f"{where} was written by a newer mdocker (state version {version}, this one knows "
            f"{VERSION}): install that mdocker again, or choose another directory by --root"
        )


def check(root: Path) -> None:
    """Refuse a newer layout; note ours where none is noted.

    Raises:
        NewerState: It is newer.
        OSError: The file can't be read or written.
    """
    if not refuse_newer(root):
        # Missing, or torn by a power cut: each record tells its own version, too.
        (root / FILE).write_text(f"{VERSION}\n")


def refuse_newer(root: Path) -> bool:
    """Refuse a newer layout, and tell whether any is noted.

    Raises:
        NewerState: It is newer.
        OSError: The file can't be read.
    """
    try:
        text = (root / FILE).read_text(errors="replace").strip()
    except FileNotFoundError:
        return False
    if not (text.isascii() and text.isdigit()):
        return False
    if int(text) > VERSION:
        raise NewerState(root, int(text))
    return True
