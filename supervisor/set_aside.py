"""Containers whose record can't be used: put aside whole, with the reason, where nothing is lost.

One container's broken record must not keep the others from coming up, and its files may be all
that somebody has left of it. They lie in `ROOT/containers.set-aside/NAME` until somebody deletes
them; a supervisor that finds them at its start tells of them in `info`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import structlog

from supervisor import store

log = structlog.get_logger()

REASON_FILE = "set-aside.txt"

_MAKING = frozenset({"upper", "work", store.CONFIG_FILE + ".new"})
"""What a create has made before its record is there."""


def folder(root: Path) -> Path:
    """Where they are."""
    return root / "containers.set-aside"


def is_gone(root: Path, containers: Path, container_id: str) -> bool:
    """Whether nothing is left of a container that has no record: it was removed."""
    return not (containers / container_id).exists() and not (folder(root) / container_id).exists()


def put(root: Path, directory: Path, reason: str) -> Path | None:
    """Take a container's directory out of the way; one that was never whole is deleted.

    What the disk refuses is logged, and left where it is.

    Returns:
        Where it is now; None where it is not set aside.
    """
    try:
        if _half_made(directory):
            # A create that a kill -9 cut in half: nobody was told of it.
            shutil.rmtree(directory, ignore_errors=True)
            log.info("container.half_created_removed", directory=str(directory))
            return None
        place = _free_place(folder(root), directory.name)
        os.rename(directory, place)
        (place / REASON_FILE).write_text(reason + "\n")
    except OSError as error:
        log.error(
            "container.not_set_aside",
            directory=str(directory),
            reason=reason,
            error=error.strerror,
        )
        return None
    log.error("container.set_aside", reason=reason, directory=str(place))
    return place


def add(place: Path, words: str) -> None:
    """Note what became of a container that is set aside, behind the reason for that."""
    log.warning("container.set_aside_ended", directory=str(place), how=words)
    try:
        with (place / REASON_FILE).open("a") as file:
            file.write(words + "\n")
    except OSError as error:
        log.error("container.set_aside_not_noted", directory=str(place), error=error.strerror)


def warnings(root: Path) -> list[str]:
    """One line for each that is there, with the reason."""
    lines = []
    try:
        places = sorted(folder(root).iterdir())
    except OSError:
        return []
    for place in places:
        try:
            reason = (place / REASON_FILE).read_text(errors="replace").strip().replace("\n", "; ")
        except OSError:
            reason = "its reason is not on record"
        lines.append(f"WARNING: a container was set aside as {place}: {reason}")
    return lines


def _half_made(directory: Path) -> bool:
    found = set(os.listdir(directory))
    return found <= _MAKING and not ("upper" in found and os.listdir(directory / "upper"))


def _free_place(parent: Path, name: str) -> Path:
    parent.mkdir(mode=0o700, exist_ok=True)
    place, number = parent / name, 1
    while place.exists():
        number += 1
        place = parent / f"{name}.{number}"
    return place
