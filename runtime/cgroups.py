"""cgroups: lifecycle in the v2 tree, limits where the controllers are (cgroups(7)).

On a *hybrid* machine the v2 tree carries no controllers, but killing, counting and entering need
none; limits go to the v1 trees, where a directory is made only for a controller that has one. On a
*v2* machine one directory does all.

    <v2 root>/<parent>/<container id>            always
    <v1 memory|cpu|pids root>/<parent>/<id>      hybrid, and limited
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from pathlib import Path

from runtime import cpuset_trees
from runtime.cgroup_limits import (
    NO_LIMITS,
    v1_values,
    v2_values,
    write,
    write_all,
    write_weight,
)
from runtime.cgroup_limits import Limits as Limits
from runtime.cgroup_trees import Trees, find_trees
from runtime.errors import CgroupsUnusable
from runtime.spec import CgroupPlan


class Cgroups:
    """One engine's directories in the machine's cgroup trees.

    Attributes:
        parent: The name of the directory that holds the containers' in each tree.
        trees: Where the machine's trees are mounted.
    """

    def __init__(self, parent: str, trees: Trees) -> None:
        self.parent = parent
        self.trees = trees
        self._unified = trees.unified / parent

    @classmethod
    def detect(cls, parent: str, mountinfo: Path = Path("/proc/self/mountinfo")) -> Cgroups:
        """Find the trees, and see that `parent` can be made in the v2 one.

        It is not kept: an engine that is cut short while it starts leaves nothing.

        Raises:
            CgroupsUnusable: there is no v2 tree, or it can't be written.
        """
        trees = find_trees(mountinfo.read_text())
        found = cls(parent, trees)
        try:
            found._unified.mkdir(exist_ok=True)
        except OSError as error:
            raise CgroupsUnusable(
                f"can't make {found._unified}: {error.strerror}; is the cgroup2 tree writable?"
            ) from error
        if found.hybrid:
            with contextlib.suppress(OSError):  # containers of an earlier supervisor are in it
                found._unified.rmdir()
        else:
            found._count()
        return found

    def _count(self) -> None:
        """Have the kernel count what each container uses, from its first page on; it limits none.

        On v1 a directory of its own would cost each start a grace period. Here it is there anyway.
        What the machine does not offer, nobody counts.
        """
        for controller in ("memory", "pids", "io"):
            with contextlib.suppress(OSError, CgroupsUnusable):
                self.enable((controller,))

    @property
    def hybrid(self) -> bool:
        """Limits go to v1 controllers."""
        return bool(self.trees.v1)

    def unified(self, place: str) -> Path:
        """The v2 directory of a container, or of `ID/NAME` below its."""
        return self._unified / place

    def v1(self, container_id: str) -> dict[str, Path]:
        """By controller, the container's v1 directories; most are not there (see `create`)."""
        return {name: tree / self.parent / container_id for name, tree in self.trees.v1.items()}

    def create(self, container_id: str, limits: Limits = NO_LIMITS) -> CgroupPlan:
        """Make the container's directories and write its limits; undone if that fails.

        Raises:
            CgroupsUnusable: a limit needs a controller that this machine doesn't offer.
            OSError: the kernel refused a directory or a value; the error names the file. EBUSY
                where an earlier run has left a process in it.
        """
        directory = self._unified / container_id
        try:
            os.mkdir(directory)
        except FileNotFoundError:
            self._unified.mkdir(exist_ok=True)
            directory.mkdir(exist_ok=True)
        except FileExistsError:
            # Left by a run whose removal met a process that was still going. Not used again: what
            # is cloned into a cgroup that was killed once is killed at birth by kernels that
            # compare the wrong cgroup's count of kills (seen on 6.18).
            _remove_tree(directory)
            os.mkdir(directory)
        try:
            wanted = limits.controllers()
            if not self.hybrid:
                if wanted:
                    self.enable(wanted)
                    write_all(directory, v2_values(limits))
                    if limits.blkio_weight:
                        write_weight(directory, limits.blkio_weight)
                return CgroupPlan(str(directory), (), "memory" in wanted)
            joins = []
            for controller in wanted:
                limited = self.make_v1(container_id, controller)
                write_all(limited, v1_values(controller, limits))
                if controller == "blkio":
                    write_weight(limited, limits.blkio_weight)
                joins.append(str(limited))
            unique = tuple(dict.fromkeys(joins))
            return CgroupPlan(str(directory), unique, "memory" in wanted)
        except BaseException:
            self.remove(container_id)
            raise

    def make_v1(self, container_id: str, controller: str) -> Path:
        """Make a container's directory in the tree of a v1 controller, and return it.

        Raises:
            CgroupsUnusable: That controller is not mounted.
            OSError: The kernel refused.
        """
        tree = self.trees.v1.get(controller)
        if tree is None:
            raise CgroupsUnusable(
                f"a {controller} limit needs the {controller} cgroup controller, "
                "which this machine has not mounted"
            )
        directory = tree / self.parent / container_id
        directory.mkdir(parents=True, exist_ok=True)
        cpuset_trees.fill(directory)
        return directory

    def below(self, container_id: str, name: str) -> CgroupPlan:
        """A fresh v2 directory below the container's, for a command that enters it.

        `f"{container_id}/{name}"` names it to `kill`, `pids` and `remove_below`.

        Raises:
            OSError: the container's own is gone, or the kernel refused; EBUSY where one of the same
                name is in use.
        """
        # No pathlib here: this is done for each health check.
        directory = f"{self._unified}/{container_id}/{name}"
        try:
            os.mkdir(directory)
        except FileExistsError:
            os.rmdir(directory)  # as in `create`
            os.mkdir(directory)
        own = dict.fromkeys(
            f"{tree}/{self.parent}/{container_id}" for tree in self.trees.v1.values()
        )
        return CgroupPlan(directory, tuple(path for path in own if os.path.isdir(path)))

    def remove_below(self, place: str) -> None:
        """Remove what `below` has made, if it is there.

        Raises:
            OSError: EBUSY while a process is in it.
        """
        try:
            os.rmdir(f"{self._unified}/{place}")
        except FileNotFoundError:
            return

    def kill(self, container_id: str) -> None:
        """SIGKILL to all that is in the container's cgroup; does not wait for their end.

        `cgroup.kill` does it where the kernel has it (5.14). Otherwise each process is signalled
        through a pidfd, until a look at the list shows nobody new.
        """
        directory = self._unified / container_id
        try:
            # Without O_CREAT: with it a missing file of this file system is EACCES, not ENOENT.
            write(directory / "cgroup.kill", "1")
            return
        except FileNotFoundError:
            if not directory.exists():
                return
        self._kill_each(directory)

    def _kill_each(self, directory: Path) -> None:
        told: set[int] = set()
        while True:
            here = {int(pid) for pid in _pids_below(directory)}
            fresh = here - told
            if not fresh:
                return
            for pid in fresh:
                told.add(pid)
                try:
                    pidfd = os.pidfd_open(pid)
                except ProcessLookupError:
                    continue
                try:
                    # The pidfd is open, so if the pid is still listed here it is the right one.
                    if str(pid) in _pids_below(directory):
                        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                except ProcessLookupError:
                    pass  # it ended by itself, which is as good
                finally:
                    os.close(pidfd)

    def containers(self) -> set[str]:
        """The ids of which there is a directory in any tree."""
        found: set[str] = set()
        for base in (self._unified, *(tree / self.parent for tree in self.trees.v1.values())):
            try:
                found.update(entry.name for entry in os.scandir(base) if entry.is_dir())
            except FileNotFoundError:
                continue
        return found

    def pids(self, container_id: str) -> set[int]:
        """The live processes in the container's cgroup and below it."""
        return {int(pid) for pid in _pids_below(self._unified / container_id)}

    def populated(self, container_id: str) -> bool:
        """Whether a live process is in the container's cgroup or below it."""
        try:
            events = (self._unified / container_id / "cgroup.events").read_text()
        except FileNotFoundError:
            return False
        return _counter(events, "populated") == 1

    def has_run(self, container_id: str) -> bool:
        """Whether any process has ever run in its cgroup (cpu.stat, which needs no controller)."""
        try:
            text = (self._unified / container_id / "cpu.stat").read_text()
        except FileNotFoundError:
            return False
        return _counter(text, "usage_usec") > 0

    def oom_kills(self, container_id: str) -> int:
        """How many processes of the container its memory limit has killed so far."""
        tree = self.trees.v1.get("memory")
        if self.hybrid and tree is None:
            return 0
        file = (
            tree / self.parent / container_id / "memory.oom_control"
            if tree is not None
            else self._unified / container_id / "memory.events"
        )
        try:
            return _counter(file.read_text(), "oom_kill")
        except FileNotFoundError:
            return 0  # no memory limit, so no directory or no such file

    def remove(self, container_id: str) -> None:
        """Remove the container's directories in every tree, and what was made below them.

        Raises:
            OSError: EBUSY while a process is in one of them.
        """
        for base in (self._unified, *(tree / self.parent for tree in self.trees.v1.values())):
            _remove_tree(base / container_id)

    def remove_parent(self) -> None:
        """Remove the engine's own directories where no container's is left in them."""
        for base in (self._unified, *(tree / self.parent for tree in self.trees.v1.values())):
            try:
                base.rmdir()
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EBUSY):
                    raise

    def enable(self, controllers: tuple[str, ...]) -> None:
        """Let children of the v2 root and of our parent have `controllers`.

        Raises:
            CgroupsUnusable: The machine does not offer one.
        """
        names = ["io" if controller == "blkio" else controller for controller in controllers]
        for directory in (self.trees.unified, self._unified):
            offered = (directory / "cgroup.controllers").read_text().split()
            switched = (directory / "cgroup.subtree_control").read_text().split()
            for controller in names:
                if controller in switched:
                    continue
                if controller not in offered:
                    raise CgroupsUnusable(
                        f"a {controller} limit needs the {controller} controller, "
                        f"which {directory} doesn't offer"
                    )
                write(directory / "cgroup.subtree_control", f"+{controller}")


def _pids_below(directory: Path) -> set[str]:
    found: set[str] = set()
    # Not rglob: it fails where a directory goes while it walks, as each exec's does at its end.
    for path, _, _ in os.walk(directory, onerror=_unless_removed):
        try:
            found.update(Path(path, "cgroup.procs").read_text().split())
        except OSError as error:
            _unless_removed(error)
    return found


def _unless_removed(error: OSError) -> None:
    if error.errno not in (errno.ENOENT, errno.ENODEV):  # as we look
        raise error


def _counter(text: str, name: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _remove_tree(directory: Path) -> None:
    """rmdir bottom up; cgroup files vanish with their directory."""
    try:
        directory.rmdir()  # nearly always it has no children
        return
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
    for path, names, _ in os.walk(directory, topdown=False):
        for name in names:
            Path(path, name).rmdir()
    directory.rmdir()
