"""Goes through trees that archives and containers made: of any depth, with two descriptors.

shutil.rmtree recurses and holds a descriptor for each level, and paths longer than PATH_MAX can't
be named from outside the chroot that they were made in. This walks down and up by `..` instead. No
link is followed, and after each step up it is seen that this is where it came from: whoever moves a
directory away meanwhile leads nobody out of the tree.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


def remove_tree(path: str | os.PathLike[str]) -> None:
    """Removes a directory with all that is in it; links are removed, not followed.

    A missing one is fine.

    Raises:
        OSError: Something could not be removed; the rest may be gone.
    """

    def leave(parent: int, name: str) -> None:
        os.rmdir(name, dir_fd=parent)

    try:
        walk(path, _empty, leave)
    except FileNotFoundError:
        if not os.path.lexists(path):
            return
        raise
    os.rmdir(path)


def walk(
    path: str | os.PathLike[str],
    enter: Callable[[int], list[str]],
    leave: Callable[[int, str], None] | None = None,
) -> None:
    """Goes into a directory and all that are asked for below it.

    Args:
        enter: Is given the descriptor of each directory, and returns the names of those in it to
            go into; one that is gone by then, or is a link now, is left out.
        leave: Is given the descriptor of the directory above and its name, once all below is done.

    Raises:
        OSError: What these raise; ESTALE where a directory was moved away meanwhile.
    """
    current = os.open(path, _DIRECTORY)
    try:
        # For each level: the directory's name, which it is, and those in it still to be done.
        levels = [("", _identity(current), enter(current))]
        while True:
            name, _, pending = levels[-1]
            if pending:
                below = pending.pop()
                try:
                    current = _step(current, below)
                except OSError as error:
                    if error.errno not in _GONE:
                        raise
                    continue
                levels.append((below, _identity(current), enter(current)))
                continue
            levels.pop()
            if not levels:
                return
            current = _step(current, "..")
            if _identity(current) != levels[-1][1]:
                raise OSError(errno.ESTALE, "it was moved meanwhile", name)
            if leave is not None:
                leave(current, name)
    finally:
        os.close(current)


def _identity(fd: int) -> tuple[int, int]:
    about = os.fstat(fd)
    return about.st_dev, about.st_ino


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
