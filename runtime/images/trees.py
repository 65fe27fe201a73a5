"""Goes through trees that archives and containers made: of any depth, with two descriptors.

shutil.rmtree recurses and holds a descriptor for each level, and paths longer than PATH_MAX can't
be named from outside the chroot that they were made in. This walks down and up by `..` instead. No
link is followed, and after each step up it is seen that this is where it came from: whoever moves a
directory away meanwhile leads nobody out of the tree.

Where a disk makes each removal wait (ext4 with `discard` does, for each file), several threads
remove at once. Whoever has much to do gives a share to one that has nothing: it is moved into a
directory of its own at the top.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})

PATIENCE_S = 0.25
SLOW_S = 0.0002
"""What takes no longer, or this for each file, is removed by one thread."""

_HELPERS = 7
_LEAST_DIRECTORIES = 2
_LEAST_FILES = 16  # a share costs as much as removing some three
_MOST_SHARE = 256


def remove_tree(path: str | os.PathLike[str]) -> None:
    """Removes a directory with all that is in it; links are removed, not followed.

    A missing one is fine.

    Raises:
        OSError: Something could not be removed; the rest may be gone.
    """
    try:
        top = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return
    try:
        _Removal(path, top).run()
    finally:
        os.close(top)
    os.rmdir(path)


class _Removal:
    """One tree on its way out, and who works at it."""

    def __init__(self, path: str | os.PathLike[str], top: int) -> None:
        self._path = os.fspath(path)
        self._top = top
        self._begun = time.monotonic()
        self._removed = 0
        self._helpers: list[threading.Thread] = []
        self._shares: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._under_way = 0  # shares that were promised and are not done
        self._trouble: BaseException | None = None

    def run(self) -> None:
        """Remove all that is in it."""
        try:
            walk(self._path, self._enter, self._leave)
        finally:
            with self._changed:
                self._changed.wait_for(lambda: not self._under_way)
            for _ in self._helpers:
                self._shares.put(None)
            for helper in self._helpers:
                helper.join()
        if self._trouble is not None:
            raise self._trouble

    def _enter(self, fd: int) -> list[str]:
        directories, others = _listed(fd)
        self._give(fd, directories, _LEAST_DIRECTORIES)
        while others:
            self._give(fd, others, _LEAST_FILES)
            os.unlink(others.pop(), dir_fd=fd)
            self._removed += 1
        return directories

    def _leave(self, parent: int, name: str, pending: list[str]) -> None:
        os.rmdir(name, dir_fd=parent)
        self._removed += 1
        self._give(parent, pending, _LEAST_DIRECTORIES)

    def _give(self, fd: int, names: list[str], least: int) -> None:
        """Give half of these, in a directory, to one who has nothing to do."""
        if len(names) < least or not (self._helpers or self._call_helpers()):
            return
        with self._changed:
            if self._under_way >= len(self._helpers):
                return
            self._under_way += 1
        share = f".share-{os.urandom(8).hex()}"
        try:
            os.mkdir(share, 0o700, dir_fd=self._top)
            place = os.open(share, _DIRECTORY, dir_fd=self._top)
        except OSError:
            self._is_done()
            return
        try:
            with contextlib.suppress(OSError):  # what can't be moved stays ours
                for _ in range(min(len(names) // 2, _MOST_SHARE)):
                    os.rename(names[-1], names[-1], src_dir_fd=fd, dst_dir_fd=place)
                    names.pop()
        finally:
            os.close(place)
            self._shares.put(share)

    def _call_helpers(self) -> bool:
        """Have helpers if it goes slowly; whether there are any."""
        passed = time.monotonic() - self._begun
        if passed < PATIENCE_S or self._removed > passed / SLOW_S:
            return False
        for _ in range(_HELPERS):
            helper = threading.Thread(target=self._help, name="removal")
            try:
                helper.start()
            except RuntimeError:
                break  # no more threads: those that there are do it
            self._helpers.append(helper)
        return bool(self._helpers)

    def _help(self) -> None:
        while (share := self._shares.get()) is not None:
            try:
                walk(f"{self._path}/{share}", self._enter, self._leave)
                os.rmdir(share, dir_fd=self._top)
            except BaseException as error:  # noqa: BLE001 - raised by `run`
                self._trouble = error
            self._is_done()

    def _is_done(self) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify()


def walk(
    path: str | os.PathLike[str],
    enter: Callable[[int], list[str]],
    leave: Callable[[int, str, list[str]], None] | None = None,
) -> None:
    """Goes into a directory and all that are asked for below it.

    Args:
        enter: Is given the descriptor of each directory, and returns the names of those in it to
            go into; one that is gone by then, or is a link now, is left out.
        leave: Is given the descriptor of the directory above, its name, once all below is done, and
            the names of those beside it that are still to be done; it may take some of these away.

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
                leave(current, name, levels[-1][2])
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


def _listed(fd: int) -> tuple[list[str], list[str]]:
    """The names of a directory's directories, and of all else in it."""
    directories: list[str] = []
    others: list[str] = []
    with os.scandir(fd) as entries:
        for entry in entries:
            kind = directories if entry.is_dir(follow_symlinks=False) else others
            kind.append(entry.name)
    return directories, others
