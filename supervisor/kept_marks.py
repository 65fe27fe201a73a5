"""The marks of the log pump outlive RUN_DIR's being cleaned: the shim holds the file.

Without them nobody knows the beginnings of lines that were read and not logged yet, nor whose batch
was under way.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import structlog

from supervisor.pumping import Hold

log = structlog.get_logger()

NAME = "marks"
"""Of the file in RUN_DIR, and of what the shim holds."""


def restore(run_dir: Path, found: dict[str, tuple[int, ...]]) -> Path:
    """Return where the marks are, made anew if their name was cleaned away.

    Nobody writes to them: a supervisor that did is dead, and we hold its locks.

    Args:
        found: What an earlier supervisor left with the shim; the marks are taken out.

    Raises:
        OSError: They can't be made anew.
    """
    path = run_dir / NAME
    for held in found.pop(NAME, ()):
        with os.fdopen(held, "rb") as kept:
            if path.exists() and os.path.samestat(path.stat(), os.fstat(held)):
                continue
            kept.seek(0)  # the shim's duplicate has the same place in the file
            fresh = path.with_name(f"{NAME}.new")
            with open(fresh, "wb", opener=_private) as made:
                shutil.copyfileobj(kept, made)
            fresh.rename(path)
            log.warning("marks.made_anew", path=str(path))
    return path


async def keep(path: Path, hold: Hold) -> None:
    """Have the shim hold the marks; its duplicate's original stays open for as long as we live.

    Raises:
        OSError: There is no descriptor for that.
    """
    await hold(NAME, (os.open(path, os.O_RDONLY | os.O_CLOEXEC),))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
