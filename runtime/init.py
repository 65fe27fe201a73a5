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

# The C module of `signal`, which imports enum.
import _signal  # type: ignore[import-not-found]  # typeshed has none
import os
import stat

from runtime import binds, capabilities, flags, json_text, mounts, payload, users
from runtime.errors import InitRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from runtime.kernel import Kernel
    from runtime.plan import Plan

FIRST_FREE_FD = 6
"""What an init is given lies at or above this number; what it keeps is put below."""

_STATUS_FD = 3
_NETWORK_FD = 4
_HIGHEST_FD = 2**31 - 1
_OPEN_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_LONGEST_FILE = 4 * 1024 * 1024


class Ends:
    """The descriptors an init is born with; all are above `FIRST_FREE_FD`.

    Attributes:
        network: A ready network namespace, or -1.
    """

    __slots__ = ("network", "status", "stderr", "stdout")

    def __init__(self, status: int, stdout: int, stderr: int, network: int) -> None:
        self.status = status
        self.stdout = stdout
        self.stderr = stderr
        self.network = network


class Host:
    """What is true of the shim, and what it changed for itself that an init must set back.

    Attributes:
        ignored_signals: Ignored ones, whose dispositions would outlive execve.
        bounding: The capability bounding set.
        permitted: The permitted set; a machine's root may lack some.
        nofile: (soft, hard) limit of descriptors for payloads.
        oom_score_adj: What to write to /proc/self/oom_score_adj, or b"" for nothing.
    """

    __slots__ = ("bounding", "ignored_signals", "nofile", "oom_score_adj", "permitted")

    def __init__(
        self,
        ignored_signals: Sequence[int],
        bounding: int,
        permitted: int,
        nofile: tuple[int, int],
        oom_score_adj: bytes,
    ) -> None:
        self.ignored_signals = ignored_signals
        self.bounding = bounding
        self.permitted = permitted
        self.nofile = nofile
        self.oom_score_adj = oom_score_adj


def run(door: Kernel, plan: Plan, ends: Ends, host: Host) -> NoReturn:
    """Be the init."""
    init = _Init(door, plan, host, ends.status)
    exit_code = 125
    try:
        init.take_ends(ends)
        init.prepare(ends.network >= 0)
        init.become()
    except InitRefused as refusal:
        exit_code = refusal.exit_code
        report(init.status, init.step, refusal.errno, str(refusal), exit_code)
    except OSError as error:
        words = f"{init.step}: {(error.strerror or str(error)).lower()}"
        if error.filename is not None:
            words += f": {os.fsdecode(error.filename)}"
        report(init.status, init.step, error.errno or 0, words, exit_code)
    except BaseException as fault:  # noqa: BLE001 - whatever it is, the supervisor must hear of it
        words = f"{init.step}: {type(fault).__name__}: {fault}"
        report(init.status, init.step, 0, words, exit_code)
    finally:
        os._exit(exit_code)


def report(status: int, step: str, code: int, words: str, exit_code: int) -> None:
    """Tell of the one failure over the status pipe."""
    values = {"step": step, "errno": code, "words": words, "exit_code": exit_code}
    # Not through the door: this is what tells of the door's failures.
    os.write(status, json_text.dump(values))


class _Init:
    """The stages, in order; `step` names the one under way, for the report to `status`."""

    __slots__ = ("door", "host", "plan", "status", "step")

    def __init__(self, door: Kernel, plan: Plan, host: Host, status: int) -> None:
        self.door = door
        self.plan = plan
        self.host = host
        self.status = status
        self.step = "take over its descriptors"

    def take_ends(self, ends: Ends) -> None:
        """Own session, own stdout and stderr, and no descriptor of the shim's any more."""
        door = self.door
        door.dup2(ends.status, _STATUS_FD, False)
        self.status = _STATUS_FD
        door.dup2(ends.stdout, 1)
        door.dup2(ends.stderr, 2)
        first = _NETWORK_FD
        if ends.network >= 0:
            door.dup2(ends.network, _NETWORK_FD, False)
            first = _NETWORK_FD + 1
        door.close_range(first, _HIGHEST_FD, 0)
        door.setsid()
        door.prctl(flags.PR_SET_DUMPABLE, 0)

    def prepare(self, ready_network: bool) -> None:
        """Cgroups, namespaces, file systems: everything before the payload's own side."""
        door, plan = self.door, self.plan
        self.step = "enter its cgroups"
        for procs in plan.joins:
            fd = door.open(procs, os.O_WRONLY | os.O_CLOEXEC)
            door.write(fd, b"0")
            door.close(fd)
        self.step = "make its namespaces"
        wanted = flags.OWN_NAMESPACES
        if ready_network:
            door.setns(_NETWORK_FD, flags.CLONE_NEWNET)
            door.close(_NETWORK_FD)
        elif not plan.host_network:
            wanted |= flags.CLONE_NEWNET
        door.unshare(wanted)
        if wanted & flags.CLONE_NEWNET:
            self.step = "raise loopback"
            door.loopback_up()
        self.step = "set its host name"
        if plan.hostname:
            door.sethostname(plan.hostname)
        if plan.domainname:
            door.setdomainname(plan.domainname)
        self.step = "make its mounts private"
        door.mount(None, b"/", None, flags.MS_REC | flags.MS_PRIVATE, None)
        self.step = "bind"
        trees = binds.take(door, plan.binds)
        self._build_root()
        self.step = "change the root"
        # pivot_root(2): new and old root stacked on one another need no directory for the old.
        door.chdir(plan.merged)
        door.pivot_root(b".", b".")
        door.umount2(b".", flags.MNT_DETACH)
        door.chdir(b"/")
        self.step = "bind"
        binds.attach(door, trees)
        self.step = "protect /proc and /sys"
        mounts.make_readonly(door, plan.readonly)
        mounts.mask(door, plan.masked)

    def _build_root(self) -> None:
        door, plan = self.door, self.plan
        self.step = "mount the root"
        mounts.mount_overlay(door, plan.merged, plan.lower, plan.upper, plan.work, plan.volatile)
        mounts.make_mount_points(door, plan.merged)
        self.step = "mount its file systems"
        for one in plan.early:
            door.mount(*one)
            if one[1] == plan.dev:
                mounts.fill_dev(door, plan.dev)
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

    def become(self) -> None:
        """The payload's own side: user, privileges, working directory, execve."""
        door, plan, host = self.door, self.plan, self.host
        self.step = "find the user"
        identity = users.resolve(plan.user, self._file(b"/etc/passwd"), self._file(b"/etc/group"))
        plan.env.setdefault(b"HOME", identity.home)
        self.step = "set its limits"
        if host.oom_score_adj:
            fd = door.open(b"/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
            door.write(fd, host.oom_score_adj)
            door.close(fd)
        door.set_nofile(host.nofile)
        door.dup2(door.open(b"/dev/null", os.O_RDONLY | os.O_CLOEXEC), 0)
        self.step = "enter the working directory"
        entered = payload.try_enter(plan.cwd)
        self.step = "set its privileges"
        self._drop(identity)
        self.step = "enter the working directory"
        if not entered:
            payload.enter(plan.cwd)
        self.step = "execute"
        for number in host.ignored_signals:
            _signal.signal(number, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        # The status pipe closes itself at execve. CLOSE_RANGE_CLOEXEC would need Linux 5.11.
        door.close_range(_STATUS_FD + 1, _HIGHEST_FD, 0)
        path = payload.find(plan.args[0], plan.env)
        try:
            door.execve(path, plan.args, plan.env)
        except OSError as error:
            raise payload.explain(path, error) from None

    def _drop(self, identity: users.Identity) -> None:
        """Leave the payload what its capabilities say, and nothing it could get back by execve."""
        door, keep = self.door, self.plan.keep
        for number in capabilities.members(self.host.bounding & ~keep):
            door.prctl(flags.PR_CAPBSET_DROP, number)
        door.setgroups(identity.groups)
        door.setresgid(identity.gid, identity.gid, identity.gid)
        door.setresuid(identity.uid, identity.uid, identity.uid)
        # A change from root to another user has emptied the sets already; this clears what is
        # inheritable (and with it ambient) too.
        left = keep & self.host.permitted if identity.uid == 0 else 0
        door.capset(left, left, 0)
        if self.plan.no_new_privileges:
            door.prctl(flags.PR_SET_NO_NEW_PRIVS, 1)

    def _file(self, path: bytes) -> bytes:
        """A file of the container, whole; b"" if it is missing or nothing that can be read whole.

        The image may hold anything there: a fifo, a device, a link to something endless.
        """
        door = self.door
        try:
            fd = door.open(path, _OPEN_READ)
        except (FileNotFoundError, NotADirectoryError):
            return b""
        try:
            if not stat.S_ISREG(door.fstat(fd).st_mode):
                return b""
            parts = []
            left = _LONGEST_FILE
            while left > 0 and (part := door.read(fd, min(left, 65536))):
                parts.append(part)
                left -= len(part)
            return b"".join(parts)
        finally:
            door.close(fd)
