"""The container's first process, between clone3 and execve. Be afraid here.

It is a fork of the shim that no after-fork code has looked after: it shares the shim's memory
copy-on-write, so each object it touches costs a page. It imports nothing, logs nothing, collects
no garbage and works on what `runtime.plan` prepared. It never returns: it becomes the payload, or
it reports one failure as JSON over the status pipe and ends.

    {"step": "mount the root", "errno": 13, "words": "…for people…", "exit_code": 125}

The order matters: the cgroup is joined before the cgroup namespace is made (its root is where the
maker is), the network namespace before /sys is mounted (that shows its maker's devices), binds are
taken before the root changes and attached after it, privileges go last.
"""

from __future__ import annotations

import os

from runtime import becoming, binds, devices, flags, mounts, terminal, user_namespaces
from runtime.becoming import Becoming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from runtime.becoming import Ends, Host
    from runtime.kernel import Kernel
    from runtime.plan import Plan


def run(door: Kernel, plan: Plan, ends: Ends, host: Host) -> NoReturn:
    """Be the init."""
    init = _Init(door, plan, host, ends)

    def stages() -> None:
        init.take_ends()
        init.prepare()

    becoming.go(init, stages)


class _Init(Becoming):
    """The stages before it becomes the payload, in order."""

    __slots__ = ("plan", "terminal")

    def __init__(self, door: Kernel, plan: Plan, host: Host, ends: Ends) -> None:
        super().__init__(door, plan, host, ends)
        self.plan = plan
        self.terminal = -1  # its number in /dev/pts

    def prepare(self) -> None:
        """Cgroups, namespaces, file systems: everything before the payload's own side."""
        door, plan = self.door, self.plan
        self.join_cgroups()
        self.step = "make its namespaces"
        if plan.host_pid:
            # What it orphans would go to whoever is the shim's subreaper; execve keeps this.
            door.set_child_subreaper()
        shm = self._enter_ipc() if plan.ipc_of is not None else -1
        wanted = plan.own
        if self.ends.entered >= 0:
            self.enter_namespaces(flags.CLONE_NEWNET)
        elif not plan.host_network:
            wanted |= flags.CLONE_NEWNET
        if plan.init:
            door.dup2(becoming.STATUS_FD, becoming.INIT_FD, False)  # it is taken from here on
        door.unshare(wanted & ~self._make_user_namespace(wanted))
        if wanted & flags.CLONE_NEWNET:
            self.step = "raise loopback"
            door.loopback_up()
        self.step = "set its host name"
        if plan.hostname:
            door.sethostname(plan.hostname)
        if plan.domainname:
            door.setdomainname(plan.domainname)
        self.step = "bind"
        # Copies of shared mounts are their peers, until these are made private.
        later = [one for one in plan.binds if binds.propagates(one)]
        propagated = binds.take(door, later, plan.nodev)
        self.step = "make its mounts private"
        door.mount(None, b"/", None, flags.MS_REC | flags.MS_PRIVATE, None)
        self.step = "bind"
        rest = [one for one in plan.binds if not binds.propagates(one)]
        # Those of the machine's files first: their ids stay as they are.
        trees = binds.take(door, [one for one in rest if not binds.is_ours(one)], plan.nodev)
        if plan.uids:
            self._shift_ids()
        self.step = "bind"
        trees |= binds.take(door, [one for one in rest if binds.is_ours(one)], plan.nodev)
        if plan.init:
            self.take_init()
        nodes = self._build_root(shm)
        self.step = "copy the image's files into a volume"
        binds.fill(door, plan.binds, plan.merged, plan.id)
        self.step = "change the root"
        # pivot_root(2): new and old root stacked on one another need no directory for the old.
        door.chdir(plan.merged)
        door.pivot_root(b".", b".")
        door.umount2(b".", flags.MNT_DETACH)
        door.chdir(b"/")
        self.step = "bind"
        null = door.open(b"/dev/null", os.O_PATH | os.O_CLOEXEC)
        binds.attach(door, plan.binds, propagated | trees)
        if nodes:
            self.step = "put its devices into their places"
            devices.attach(door, nodes)
        if plan.readonly_root:
            self.step = "make its root read-only"
            bits = flags.MS_REMOUNT | flags.MS_BIND | flags.MS_RDONLY | plan.nodev
            door.mount(None, b"/", None, bits, None)
        for file, value in plan.sysctls:
            self._set_sysctl(file, value)
        self.step = "protect /proc and /sys"
        mounts.make_readonly(door, plan.readonly)
        mounts.mask(door, plan.masked, b"/proc/self/fd/%d" % null)
        door.close(null)
        if plan.terminal is not None:
            self.terminal = self.open_terminal()
            terminal.bind_console(door)

    def _make_user_namespace(self, wanted: int) -> int:
        """Make its user namespace, if it is to have one, or find the one that it shares; returns
        which of the wanted namespaces were made with it."""
        door, plan = self.door, self.plan
        if not plan.uids:
            return 0
        joined = -1
        if plan.user_of is not None:
            self.step = "find the user namespace of another container"
            joined = user_namespaces.of_donor(door, plan.user_of)
        self.step = "make its user namespace"
        kinds = wanted & user_namespaces.MADE_INSIDE
        self.user_fd = user_namespaces.make(door, plan, kinds, joined)
        self.step = "make its namespaces"
        return kinds

    def _shift_ids(self) -> None:
        """Show what is ours on disk with the ids of its user namespace, and work with these."""
        door, plan = self.door, self.plan
        self.step = "shift the ids of its files"
        user_namespaces.shift(door, plan.shifted, self.user_fd)
        user_namespaces.build_as_root_of(door, plan, self.host.permitted)

    def enter_user_namespace(self) -> None:
        """Enter it, with a copy of the mounts that are locked there, and own cgroups' root."""
        door = self.door
        super().enter_user_namespace()
        door.unshare(self.plan.own & (flags.CLONE_NEWNS | flags.CLONE_NEWCGROUP))
        # What it holds open is in the mount namespace that ends now, where names lead nowhere.
        if self.terminal >= 0:
            slave = terminal.reopen(door, self.terminal)
            for fd in (0, 1, 2):
                door.dup2(slave, fd)
            door.close(slave)
        elif self.ends.stdin < 0:
            door.dup2(self.open_null(os.O_RDONLY), 0)

    def _enter_ipc(self) -> int:
        """Enter another container's IPC namespace; returns a copy of its /dev/shm's mount."""
        door = self.door
        self.step = "enter the IPC namespace of another container"
        pidfd = becoming.ENTERED_FD + (self.ends.entered >= 0)
        home = door.open(b"/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        # A mount can be copied in its own mount namespace only (before Linux 6.15).
        door.setns(pidfd, flags.CLONE_NEWIPC | flags.CLONE_NEWNS)
        bits = flags.OPEN_TREE_CLONE | flags.OPEN_TREE_CLOEXEC | flags.AT_SYMLINK_NOFOLLOW
        shm = door.open_tree(b"/dev/shm", bits)
        door.setns(home, flags.CLONE_NEWNS)
        door.close(home)
        door.close(pidfd)
        self.step = "make its namespaces"
        return shm

    def take_init(self) -> None:
        """Open the directory of the init that stands before the payload.

        A container can open its /proc/1/exe and keep it until nobody executes the file any more; on
        a read-only mount it can't write to it even then (CVE-2019-5736).
        """
        door = self.door
        self.step = "find its init"
        directory = os.path.dirname(self.plan.init)
        door.mount(directory, directory, None, flags.MS_BIND, None)
        bits = flags.MS_REMOUNT | flags.MS_BIND | flags.MS_RDONLY
        door.mount(None, directory, None, bits, None)
        fd = door.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        door.dup2(fd, becoming.INIT_FD, False)
        door.close(fd)

    def _set_sysctl(self, file: bytes, value: bytes) -> None:
        """Write to a file of its own namespaces, in which it is by now."""
        door = self.door
        name = os.fsdecode(file.removeprefix(b"/proc/sys/")).replace("/", ".")
        self.step = f"set the sysctl {name}"
        try:
            fd = door.open(file, os.O_WRONLY | os.O_CLOEXEC)
        except PermissionError:
            if not self.plan.uids:
                raise
            user_namespaces.write_as_root_of(door, self.plan, file, value, self.host.permitted)
            return
        door.write(fd, value)
        door.close(fd)

    def _share_shm(self, shm: int) -> None:
        """Put another container's /dev/shm in the place of its own, or take the place away."""
        door, path = self.door, self.plan.dev + b"/shm"
        if shm >= 0:
            target = door.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            door.move_mount(shm, target, path)
            door.close(target)
            door.close(shm)
        elif not self.plan.shm:
            door.rmdir(path)

    def _build_root(self, shm: int) -> list[devices.Taken]:
        """Returns the device nodes that are still to be attached."""
        door, plan = self.door, self.plan
        self.step = "mount the root"
        layers = plan.lower, plan.upper, plan.work
        mounts.mount_overlay(door, plan.merged, *layers, plan.volatile, plan.nodev)
        mounts.make_mount_points(door, plan.merged)
        self.step = "mount its file systems"
        nodes: list[devices.Taken] = []
        for one in plan.early:
            door.mount(*one)
            if one[1] == plan.dev:
                mounts.fill_dev(door, plan.dev)
                if not plan.nodev:
                    devices.allow(door, plan.dev)
                self.step = "make its devices"
                nodes = devices.fill(door, plan.dev, plan.nodes)
                self.step = "mount its file systems"
                self._share_shm(shm)
        self.step = "bind its devices"
        for one in plan.devices:
            door.mount(*one)
        self.step = "mount its cgroups"
        if plan.joins:
            top = plan.merged + b"/sys/fs/cgroup"
            door.mount(b"tmpfs", top, b"tmpfs", mounts.SAFE, b"mode=755,size=64k")
        for directory in plan.cgroup_directories:
            door.mkdir(directory, 0o755)
        for one in plan.cgroup_mounts:
            door.mount(*one)
        return nodes
