"""Removes trees that archives made: of any depth, with two descriptors.

shutil.rmtree recurses and holds a descriptor for each level, and paths longer than PATH_MAX can't
be named from outside the chroot that they were made in. This walks down and up by `..` instead,
which is safe in a tree that nobody else changes.
"""

from __future__ import annotations

import os

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str | os.PathLike[str]) -> None:
    """Removes a directory with all that is in it; links are removed, not followed.

    A missing one is fine.

    Raises:
        OSError: Something could not be removed; the rest may be gone.
    """
    try:
        current = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return
    try:
        # For each level: the directory's name, and its subdirectories still to be done.
        levels: list[tuple[str, list[str]]] = [("", _empty(current))]
        while True:
            name, pending = levels[-1]
            if pending:
                below = pending.pop()
                current = _step(current, below)
                levels.append((below, _empty(current)))
                continue
            levels.pop()
            if not levels:
                break
            current = _step(current, "..")
            os.rmdir(name, dir_fd=current)
    finally:
        os.close(current)
    os.rmdir(path)


def _step(fd: int, name: str) -> int:
    """Exchanges a descriptor for that of a neighbour; the old one is closed if that works."""
    neighbour = os.open(name, _DIRECTORY, dir_fd=fd)
    os.close(fd)
    return neighbour


def _empty(fd: int) -> list[str]:
    """Unlinks what is no directory; returns the directories."""
    directories = []
    with os.scandir(fd) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=fd)
    return directories
