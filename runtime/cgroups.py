"""cgroups: lifecycle in the v2 tree, limits where the controllers are (cgroups(7)).

On a *hybrid* machine the v2 tree carries no controllers, but killing, counting and entering need
none; limits go to the v1 trees, where a directory is made only for a controller that has one. On a
*v2* machine one directory does all.

    <v2 root>/<parent>/<container id>            always
    <v1 memory|cpu|pids root>/<parent>/<id>      hybrid, and limited
    <v1 devices root>/<parent>/<id>              only where the kernel has no device programs

A container can be below another directory (`--cgroup-parent`), in the trees of all controllers
then. Its own one in the v2 tree stays empty and names that directory in an attribute, so whoever
comes next finds it by its id.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
from collections.abc import Sequence
from pathlib import Path

from runtime import block_limits, cpuset_trees, device_cgroup
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
from runtime.device_cgroup import DeviceControl
from runtime.device_rules import EVERYTHING, Rule
from runtime.errors import CgroupsUnusable
from runtime.spec import CgroupPlan

_PLACE = "trusted.mdocker.place"
"""Of the empty directory of a container that is elsewhere: the directory that it is below."""

_OURS = "trusted.mdocker.made"
"""Of a directory that we have made for `--cgroup-parent`: it goes when it is empty."""


class Cgroups:
    """One engine's directories in the machine's cgroup trees.

    Attributes:
        parent: The name of the directory that holds the containers' in each tree.
        trees: Where the machine's trees are mounted.
        devices: What keeps containers from devices.
    """

    def __init__(self, parent: str, trees: Trees) -> None:
        self.parent = parent
        self.trees = trees
        self._unified = trees.unified / parent
        self._elsewhere: dict[str, str] = {}
        self.devices = DeviceControl()
        self._guarded = False

    @classmethod
    def detect(cls, parent: str, mountinfo: Path = Path("/proc/self/mountinfo")) -> Cgroups:
        """Find the trees, and see that `parent` can be made in the v2 one.

        It is not kept on a hybrid machine: an engine that is cut short while it starts leaves
        nothing. On v2 it stays, counting and guarded, for the first container.

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
            try:
                found._unified.rmdir()
            except OSError:  # containers of an earlier supervisor are in it
                found._guard()
        else:
            found._count()
            found._guard()
        return found

    def _guard(self) -> None:
        """Hold all containers to the ordinary rules of devices, as long as the directory is there.

        Raises:
            OSError: The kernel refused for want of something; no container is to start then.
        """
        self.devices.guard(self._unified)
        self._guarded = True

    def _count(self, container_id: str = "") -> None:
        """Have the kernel count what each container uses, from its first page on; it limits none.

        On v1 a directory of its own would cost each start a grace period. Here it is there anyway.
        What the machine does not offer, nobody counts.
        """
        for controller in ("memory", "pids", "io"):
            with contextlib.suppress(OSError, CgroupsUnusable):
                self.enable((controller,), container_id)

    @property
    def hybrid(self) -> bool:
        """Limits go to v1 controllers."""
        return bool(self.trees.v1.keys() - {"devices"})

    def unified(self, place: str) -> Path:
        """The v2 directory of a container, or of `ID/NAME` below its."""
        return self.trees.unified / self.path(place)

    def path(self, place: str) -> str:
        """Where that is in each tree."""
        return f"{self._above(place.partition('/')[0])}/{place}"

    def _above(self, container_id: str) -> str:
        """The directory that a container's are in, as it is called in each tree."""
        above = self._elsewhere.get(container_id)
        if above is None:
            try:
                above = os.getxattr(self._unified / container_id, _PLACE).decode()
            except OSError:
                above = ""  # it is not there, or is nowhere else
            else:
                self._elsewhere[container_id] = above
        return above or self.parent

    def v1(self, container_id: str) -> dict[str, Path]:
        """By controller, the container's v1 directories; most are not there (see `create`)."""
        path = self.path(container_id)
        return {name: tree / path for name, tree in self.trees.v1.items()}

    def create(
        self,
        container_id: str,
        limits: Limits = NO_LIMITS,
        parent: str = "",
        *,
        devices: Sequence[Rule] | None = None,
    ) -> CgroupPlan:
        """Make the container's directories and write its limits; undone if that fails.

        Args:
            container_id: Its full id.
            limits: What it may use.
            parent: A directory in each tree, such as "jobs/7", that they are to be in; missing
                ones are made. "" for the engine's own.
            devices: What it may open beside what every container may, which needs a `Spec` with
                `device_nodes`; `runtime.device_rules.EVERYTHING` for --privileged; None for
                nothing.

        Raises:
            CgroupsUnusable: a limit needs a controller that this machine doesn't offer, or nothing
                on it can hold containers to rules of devices.
            OSError: the kernel refused a directory or a value; the error names the file. EBUSY
                where an earlier run has left a process in it.
        """
        if parent:
            self._refuse_files(parent)
        directory = self._unified / container_id
        try:
            os.mkdir(directory)
        except FileNotFoundError:
            self._unified.mkdir(exist_ok=True)
            self._guarded = False
            directory.mkdir(exist_ok=True)
        except FileExistsError:
            # Left by a run whose removal met a process that was still going. Not used again: what
            # is cloned into a cgroup that was killed once is killed at birth by kernels that
            # compare the wrong cgroup's count of kills (seen on 6.18).
            self.remove(container_id)
            os.mkdir(directory)
        try:
            if not self._guarded:
                self._guard()
            if parent:
                directory = self._make_elsewhere(container_id, parent)
            else:
                self._elsewhere[container_id] = ""
            joins = self._hold_devices(container_id, directory, devices)
            wanted = limits.controllers()
            # Who is below another directory can meet a limit of that one's.
            memory_limited = "memory" in wanted or bool(parent)
            depth = self.path(container_id).count("/") + 1
            if not self.hybrid:
                if wanted:
                    self.enable(wanted, container_id)
                    write_all(directory, v2_values(limits))
                    self._limit_devices(directory, limits)
                return CgroupPlan(str(directory), tuple(joins), memory_limited, depth)
            for controller in self.trees.v1 if parent else wanted:
                limited = self.make_v1(container_id, controller)
                write_all(limited, v1_values(controller, limits))
                if controller == "blkio":
                    self._limit_devices(limited, limits)
                joins.append(str(limited))
            unique = tuple(dict.fromkeys(joins))
            return CgroupPlan(str(directory), unique, memory_limited, depth)
        except BaseException:
            self.remove(container_id)
            raise

    def _limit_devices(self, directory: Path, limits: Limits) -> None:
        if limits.blkio_weight:
            write_weight(directory, limits.blkio_weight)
        block_limits.apply(self.hybrid, directory, NO_LIMITS, limits)

    def _make_elsewhere(self, container_id: str, parent: str) -> Path:
        """Make the v2 directory of a container below `parent`, and note where it is.

        Raises:
            CgroupsUnusable: There can't be one.
            OSError: The kernel refused.
        """
        os.setxattr(self._unified / container_id, _PLACE, parent.encode())
        self._elsewhere[container_id] = parent
        self._make_above(self.trees.unified, parent)
        directory = self.unified(container_id)
        if directory.exists():
            _remove_tree(directory)
        try:
            directory.mkdir()
        except OSError as error:
            raise CgroupsUnusable(
                f"can't make {directory}: {(error.strerror or '').lower()}; "
                "choose another cgroup parent"
            ) from error
        if not self.hybrid:
            self._count(container_id)
        return directory

    def _refuse_files(self, parent: str) -> None:
        """See to it that no step of `parent` is a file, such as cgroup.procs, in any tree."""
        steps = parent.split("/")
        for tree in (self.trees.unified, *self.trees.v1.values()):
            place = tree
            for step in steps:
                place = place / step
                try:
                    mode = os.lstat(place).st_mode
                except FileNotFoundError:
                    break
                if not stat.S_ISDIR(mode):
                    raise CgroupsUnusable(
                        f"the cgroup parent /{parent} can't be: {place} is a file of the cgroup "
                        "above it; choose another name"
                    )

    def _make_above(self, tree: Path, parent: str) -> None:
        """Make what is missing of a directory that containers are to be in, and sign it as ours."""
        place = tree
        for name in parent.split("/"):
            place = place / name
            try:
                place.mkdir()
            except FileExistsError:
                continue
            with contextlib.suppress(OSError):  # without attributes it stays, as Docker's do
                os.setxattr(place, _OURS, b"")

    def _remove_above(self, tree: Path, parent: str) -> None:
        """Remove what we have made of it, where nobody uses it any more."""
        place = tree / parent
        while place != tree:
            try:
                os.getxattr(place, _OURS)
                place.rmdir()
            except OSError:
                return  # somebody else's, in use, or gone
            place = place.parent

    def hold_devices(self) -> bool:
        """Whether containers can be held to rules of devices here.

        Raises:
            OSError: That could not be found out now.
        """
        return "devices" in self.trees.v1 or self.devices.usable()

    def _hold_devices(
        self, container_id: str, directory: Path, devices: Sequence[Rule] | None
    ) -> list[str]:
        """Hold a container to its rules of devices; returns the v1 directory that it is to join."""
        rules = device_cgroup.own_rules(devices)
        guarded = directory.parent == self._unified
        if (devices is not None or not guarded) and self.devices.allow(directory, rules):
            return []
        if self.devices.programs or rules is EVERYTHING:
            return []
        if "devices" in self.trees.v1:
            held = self.make_v1(container_id, "devices")
            device_cgroup.write_v1(held, rules)
            return [str(held)]
        if devices is not None:
            device_cgroup.refuse()
        return []

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
        directory = tree / self.path(container_id)
        if self._above(container_id) != self.parent:
            self._make_above(tree, self._above(container_id))
        directory.mkdir(parents=True, exist_ok=True)
        cpuset_trees.fill(directory, tree)
        return directory

    def below(self, container_id: str, name: str) -> CgroupPlan:
        """A fresh v2 directory below the container's, for a command that enters it.

        `f"{container_id}/{name}"` names it to `kill`, `pids` and `remove_below`.

        Raises:
            OSError: the container's own is gone, or the kernel refused; EBUSY where one of the same
                name is in use.
        """
        # No pathlib here: this is done for each health check.
        path = self.path(container_id)
        directory = f"{self.trees.unified}/{path}/{name}"
        try:
            os.mkdir(directory)
        except FileExistsError:
            os.rmdir(directory)  # as in `create`
            os.mkdir(directory)
        own = dict.fromkeys(f"{tree}/{path}" for tree in self.trees.v1.values())
        return CgroupPlan(directory, tuple(path for path in own if os.path.isdir(path)))

    def remove_below(self, place: str) -> None:
        """Remove what `below` has made, if it is there.

        Raises:
            OSError: EBUSY while a process is in it.
        """
        try:
            os.rmdir(self.unified(place))
        except FileNotFoundError:
            return

    def kill(self, container_id: str) -> None:
        """SIGKILL to all that is in the container's cgroup; does not wait for their end.

        `cgroup.kill` does it where the kernel has it (5.14). Otherwise each process is signalled
        through a pidfd, until a look at the list shows nobody new.
        """
        directory = self.unified(container_id)
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
        return {int(pid) for pid in _pids_below(self.unified(container_id))}

    def populated(self, container_id: str) -> bool:
        """Whether a live process is in the container's cgroup or below it."""
        try:
            events = (self.unified(container_id) / "cgroup.events").read_text()
        except FileNotFoundError:
            return False
        return _counter(events, "populated") == 1

    def has_run(self, container_id: str) -> bool:
        """Whether any process has ever run in its cgroup (cpu.stat, which needs no controller)."""
        try:
            text = (self.unified(container_id) / "cpu.stat").read_text()
        except FileNotFoundError:
            return False
        return _counter(text, "usage_usec") > 0

    def oom_file(self, container_id: str) -> Path | None:
        """The file that counts what a lack of memory has killed of it; None where nobody counts.

        It is there where something limits or (on v2) counts its memory.
        """
        if not self.hybrid:
            return self.unified(container_id) / "memory.events"
        tree = self.trees.v1.get("memory")
        return None if tree is None else tree / self.path(container_id) / "memory.oom_control"

    def oom_kills(self, container_id: str) -> int:
        """How many processes of the container a lack of memory has killed so far."""
        file = self.oom_file(container_id)
        if file is None:
            return 0
        try:
            return oom_kills_of(file.read_text())
        except FileNotFoundError:
            return 0  # no memory limit, so no directory or no such file

    def remove(self, container_id: str) -> None:
        """Remove the container's directories in every tree, and what was made below them.

        Raises:
            OSError: EBUSY while a process is in one of them.
        """
        above = self._above(container_id)
        for tree in (self.trees.unified, *self.trees.v1.values()):
            _remove_tree(tree / above / container_id)
            if above != self.parent:
                self._remove_above(tree, above)
        if above != self.parent:
            _remove_tree(self._unified / container_id)
        self._elsewhere.pop(container_id, None)

    def remove_parent(self) -> None:
        """Remove the engine's own directories where no container's is left in them."""
        for base in (self._unified, *(tree / self.parent for tree in self.trees.v1.values())):
            try:
                base.rmdir()
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EBUSY):
                    raise

    def enable(self, controllers: tuple[str, ...], container_id: str = "") -> None:
        """Let children of the v2 root, and of what a container's directory is in, have them.

        Args:
            controllers: Their names on v1.
            container_id: "" for any that is in our own directory.

        Raises:
            CgroupsUnusable: The machine does not offer one, or processes are in the way.
        """
        names = ["io" if controller == "blkio" else controller for controller in controllers]
        above = self._above(container_id) if container_id else self.parent
        steps = above.split("/")
        inner = (self.trees.unified / "/".join(steps[:end]) for end in range(1, len(steps) + 1))
        for directory in (self.trees.unified, *inner):
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
                try:
                    write(directory / "cgroup.subtree_control", f"+{controller}")
                except OSError as error:
                    if error.errno != errno.EBUSY:
                        raise
                    raise CgroupsUnusable(
                        f"a {controller} limit below {directory} can't be had: there are processes "
                        "in that directory (cgroups(7), the rule of no internal processes)"
                    ) from error


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


def oom_kills_of(text: str) -> int:
    """The count in what `Cgroups.oom_file` holds."""
    return _counter(text, "oom_kill")


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
