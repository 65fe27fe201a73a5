"""The init's work as a table for `runtime.native`, step for step what `runtime.init` does.

What is the same for every container is packed once (`_fixed_…`), the rest for each start. A child's
descriptors are known beforehand, since the kernel gives the lowest free number: 3 status, 4 the
fault pipe, 5 what is entered by setns until it is, then 5 and up for what is opened.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

from runtime import becoming, capabilities, devices, flags, mounts
from runtime.binds import Bind
from runtime.exec_child import NAMESPACES
from runtime.layer_files import Unusual, read_etc
from runtime.libc import MACHINE
from runtime.native import SCRATCH_BYTES
from runtime.steps import COMPARE, STEP_BYTES, Texts, step
from runtime.users import Identity, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runtime.becoming import Ends, Host
    from runtime.binds import Tmpfs
    from runtime.exec_plan import ExecPlan
    from runtime.plan import PayloadPlan, Plan

# asm/unistd_64.h; the machine code is for x86_64 alone, so these numbers are too.
_WRITE, _OPEN, _CLOSE, _RT_SIGACTION, _IOCTL, _DUP2, _SOCKET = 1, 2, 3, 13, 16, 33, 41
_RMDIR, _UNLINK = 84, 87
_EXECVE, _GETCWD, _CHDIR, _MKDIR, _SYMLINK, _SETSID, _SETGROUPS = 59, 79, 80, 83, 88, 112, 116
_FCHOWN = 93
_SETRESUID, _SETRESGID, _CAPSET, _MKNOD, _PIVOT_ROOT, _PRCTL = 117, 119, 126, 133, 155, 157
_CHMOD, _CHOWN = 90, 92
_MOUNT, _UMOUNT2, _SETHOSTNAME, _SETDOMAINNAME, _MKDIRAT, _MKNODAT = 165, 166, 170, 171, 258, 259
_UNSHARE, _DUP3, _PRLIMIT64, _SETNS, _OPEN_TREE, _MOVE_MOUNT = 272, 292, 302, 308, 428, 429
_CLOSE_RANGE, _OPENAT2, _MOUNT_SETATTR = 436, 437, 442

_KEYCTL, _SECCOMP, _EXECVEAT = 250, 317, 322

_STATUS, _ENTERED, _FIRST = 3, 5, 5
_INIT = 128
"""The directory of the init that stands before the payload: above what is opened meanwhile."""

_SHM = b"/dev/shm"
"""The one place on our own /dev that may be covered."""
_ELSEWHERE = (b"/proc", b"/dev", b"/sys")

_MOST_BINDS = 100
"""Beside an init: each has a descriptor below it."""

_LAST = 2**32 - 1
_UNLIMITED = 2**64 - 1
_HERE = flags.AT_FDCWD & 2**64 - 1
_KEPT = 8
_KEPT_TARGETS = 64
_LONG_TARGET = 128
_LONG_LISTS = 4096
_LONG_FILTER = 16 * 1024
_SHARED_BYTES = 256 * 1024  # untouched pages cost nothing


class Programs:
    """Packs programs; holds what all of them share."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._memory = ctypes.create_string_buffer(_SHARED_BYTES)
        self._texts = Texts(ctypes.addressof(self._memory), len(self._memory), 0)
        self._known: dict[bytes, int] = {}
        self._protections: dict[tuple[bytes, ...], bytes] = {}
        self._drops: dict[int, bytes] = {}
        self._filters: dict[bytes, int] = {}
        self._targets: dict[tuple[bytes, bool, int], bytes] = {}
        self._target = self._at(
            struct.pack(
                "=3Q",
                os.O_PATH | os.O_CLOEXEC,
                0,
                flags.RESOLVE_IN_ROOT | flags.RESOLVE_NO_MAGICLINKS,
            )
        )
        # Within one mount, so that nobody else changes what is on the way, and never in /proc or
        # /dev: what lies across others is for the Python init, which looks at it.
        inside = flags.RESOLVE_IN_ROOT | flags.RESOLVE_NO_MAGICLINKS | flags.RESOLVE_NO_XDEV
        self._inside = self._at(struct.pack("=3Q", os.O_PATH | os.O_CLOEXEC, 0, inside))
        self._nothing = self._at(bytes(32))
        self._loopback = self._fixed_loopback()
        self._root = self._fixed_root()
        self._pivot = self._fixed_pivot()
        readonly = flags.MS_REMOUNT | flags.MS_BIND | flags.MS_RDONLY
        self._readonly_root = {
            nodev: step(_MOUNT, 0, self._at(b"/"), 0, readonly | nodev, 0)
            for nodev in (flags.MS_NODEV, 0)
        }
        self._limits = self._fixed_limits()
        self._no_input = self._open_null(os.O_RDONLY) + step(_DUP2, _FIRST, 0)
        self._silence = {
            number: self._open_null(os.O_WRONLY)
            + step(_DUP2, _FIRST, number)
            + step(_CLOSE, _FIRST)
            for number in (1, 2)
        }
        self._signals = b"".join(
            step(_RT_SIGACTION, number, self._nothing, 0, 8) for number in host.ignored_signals
        )
        self._close = step(_CLOSE_RANGE, _STATUS, _LAST, flags.CLOSE_RANGE_CLOEXEC)

    def compile(self, plan: Plan, ends: Ends, texts: Texts) -> bytes:
        """The whole program, with its texts put into `texts`.

        Raises:
            Unusual: the plan has something that only the Python init can do.
            RuntimeRefused: the user is not to be found; the Python init says so properly.
        """
        if plan.apparmor:
            raise Unusual
        # Those inside can signal who is born into their pid namespace: see `FastStarts.pack_exec`.
        if plan.pid_of is not None or plan.ipc_of is not None or not plan.shm:
            raise Unusual
        if plan.writable_system or (plan.init and len(plan.binds) > _MOST_BINDS):
            raise Unusual
        identity = self._identity(plan)
        binds = _ordinary(plan.binds)
        parts = [
            self._take_ends(ends),
            self._score(_ENTERED + (ends.entered >= 0)),
            self._join_keyring(plan, texts),
            self._namespaces(plan, ends.entered >= 0, texts),
            self._overlay(plan, texts),
            self._root,
            self._nodes(plan, texts),
            self._shm_and_cgroups(plan, texts),
            self._take_binds(binds, plan.nodev, texts),
            self._take_init(plan.init, _FIRST + len(binds), texts) if plan.init else b"",
            self._pivot,
            self._attach_binds(binds, texts),
            self._close_from(_FIRST, plan),
            self._readonly_root[plan.nodev] if plan.readonly_root else b"",
            self._sysctls(plan, texts),
            self._protect(plan, texts),
            self._become(plan, identity, ends, texts),
        ]
        return b"".join(parts)

    def compile_exec(self, plan: ExecPlan, ends: Ends, texts: Texts) -> bytes:
        """The program of a child that enters a running container (`runtime.exec_child`).

        Raises:
            Unusual: the plan has something that only the Python child can do.
            RuntimeRefused: the user is not to be found; the Python child says so properly.
        """
        if plan.apparmor:
            raise Unusual
        identity = _resolved(plan, plan.layers)
        parts = [
            self._take_ends(ends),
            self._score(_ENTERED + 1),
            self._join_keyring(plan, texts),
            self._join(plan.joins, _ENTERED + 1, texts),
            step(_SETNS, _ENTERED, NAMESPACES),
            step(_CLOSE, _ENTERED),
            *(self._silence[number] for number in plan.silent),
            self._become(plan, identity, ends, texts, plan.silent),
        ]
        return b"".join(parts)

    def _at(self, data: bytes) -> int:
        """The address of a text that all programs share."""
        if data not in self._known:
            start = len(self._texts.content)
            self._known[data] = self._texts.put(data)
            # Later additions go straight to the memory that children read.
            ctypes.memmove(self._known[data], bytes(self._texts.content[start:]), len(data) + 1)
        return self._known[data]

    def _mount(
        self, source: bytes, target: bytes, kind: bytes, bits: int, data: bytes = b""
    ) -> bytes:
        """A mount of shared texts."""
        return step(
            _MOUNT,
            self._at(source),
            self._at(target),
            self._at(kind),
            bits,
            self._at(data) if data else 0,
        )

    def _open_null(self, mode: int) -> bytes:
        """Open the container's /dev/null, or fail where something leads elsewhere from there."""
        how = struct.pack("=3Q", mode | os.O_CLOEXEC, 0, flags.RESOLVE_NO_SYMLINKS)
        return step(_OPENAT2, _HERE, self._at(b"/dev/null"), self._at(how), 24)

    def _fixed_loopback(self) -> bytes:
        request = self._at(b"lo".ljust(16, b"\0") + b"\1".ljust(24, b"\0"))
        return (
            step(_SOCKET, 1, 2 | os.O_CLOEXEC)  # AF_UNIX, SOCK_DGRAM
            + step(_IOCTL, _FIRST, 0x8914, request)  # SIOCSIFFLAGS: IFF_UP
            + step(_CLOSE, _FIRST)
        )

    def _fixed_root(self) -> bytes:
        """The root's own file systems, from inside it (relative paths), up to its devices."""
        parts = []
        only_directory = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        for name in (b"proc", b"sys", b"dev"):
            parts.append(step(_MKDIR, self._at(name), 0o755, passing=(errno.EEXIST,)))
            parts.append(step(_OPEN, self._at(name), only_directory))
            parts.append(step(_CLOSE, _FIRST))
        for mount in mounts.early_mounts(b".", 0):
            source, target, kind, bits, data = mount
            if target == b"./dev/shm":
                continue  # its size is the container's
            parts.append(self._mount(source or b"", target, kind or b"", bits, data or b""))
            if target == b"./dev":
                parts.extend(self._fixed_dev())
        for source, target, _, bits, _ in mounts.device_mounts(b"."):
            parts.append(step(_MOUNT, self._at(source or b""), self._at(target), 0, bits, 0))
        return b"".join(parts)

    def _fixed_dev(self) -> list[bytes]:
        at = self._at
        made = [step(_MKDIR, at(b"./dev/" + name), 0o755) for name in mounts.DEV_DIRECTORIES]
        nodes = [
            step(_MKNOD, at(b"./dev/" + name), stat.S_IFREG | 0o666) for name in mounts.DEVICES
        ]
        links = [
            step(_SYMLINK, at(target), at(b"./dev/" + name)) for target, name in mounts.DEV_LINKS
        ]
        return made + nodes + links

    def _fixed_pivot(self) -> bytes:
        here = self._at(b".")
        return (
            step(_PIVOT_ROOT, here, here)
            + step(_UMOUNT2, here, flags.MNT_DETACH)
            + step(_CHDIR, self._at(b"/"))
        )

    def _fixed_limits(self) -> bytes:
        nofile = self._at(struct.pack("=2Q", *self._host.nofile))
        return step(_PRLIMIT64, 0, 7, nofile, 0)  # RLIMIT_NOFILE

    def _score(self, opened: int) -> bytes:
        """`Becoming._set_oom_score`; `opened` is the lowest free descriptor."""
        score = self._host.oom_score_adj
        if not score:
            return b""
        path = self._at(b"/proc/self/oom_score_adj")
        return (
            step(_OPEN, path, os.O_WRONLY | os.O_CLOEXEC)
            + step(_WRITE, opened, self._at(score), len(score))
            + step(_CLOSE, opened)
        )

    def _identity(self, plan: Plan) -> Identity:
        for bind in plan.binds:
            if bind.target.startswith((b"/etc/passwd", b"/etc/group")) or bind.target == b"/etc":
                raise Unusual
        return _resolved(plan, [plan.upper, *plan.lower])

    def _take_ends(self, ends: Ends) -> bytes:
        parts = [
            step(_DUP3, ends.status, _STATUS, os.O_CLOEXEC),
            step(_DUP2, ends.stdout, 1),
            step(_DUP2, ends.stderr, 2),
        ]
        if ends.stdin >= 0:
            parts.append(step(_DUP2, ends.stdin, 0))
        if ends.entered >= 0:
            parts.append(step(_DUP3, ends.entered, _ENTERED, os.O_CLOEXEC))
        parts.append(step(_CLOSE_RANGE, _ENTERED + (ends.entered >= 0), _LAST, 0))
        parts.append(step(_SETSID))
        return b"".join(parts)

    def _join_keyring(self, plan: PayloadPlan, texts: Texts) -> bytes:
        session = flags.KEY_SPEC_SESSION_KEYRING & 2**64 - 1
        name = texts.put(plan.keyring) if plan.keyring else 0
        permissions = becoming.KEYRING_PERMISSIONS
        passing = becoming.KEYRING_REFUSALS
        return step(_KEYCTL, flags.KEYCTL_JOIN_SESSION_KEYRING, name, passing=passing) + step(
            _KEYCTL, flags.KEYCTL_SETPERM, session, permissions, passing=passing
        )

    def _namespaces(self, plan: Plan, entered: bool, texts: Texts) -> bytes:
        parts = [self._join(plan.joins, _ENTERED + entered, texts)]
        wanted = plan.own
        if plan.host_pid:
            parts.append(step(_PRCTL, flags.PR_SET_CHILD_SUBREAPER, 1))
        if entered:
            parts.append(step(_SETNS, _ENTERED, flags.CLONE_NEWNET))
            parts.append(step(_CLOSE, _ENTERED))
        elif not plan.host_network:
            wanted |= flags.CLONE_NEWNET
        parts.append(step(_UNSHARE, wanted))
        if wanted & flags.CLONE_NEWNET:
            parts.append(self._loopback)
        for call, name in ((_SETHOSTNAME, plan.hostname), (_SETDOMAINNAME, plan.domainname)):
            if name:
                parts.append(step(call, texts.put(name), len(name)))
        slash = self._at(b"/")
        parts.append(step(_MOUNT, 0, slash, 0, flags.MS_REC | flags.MS_PRIVATE, 0))
        return b"".join(parts)

    def _join(self, joins: Sequence[bytes], opened: int, texts: Texts) -> bytes:
        parts = []
        for procs in joins:
            parts.append(step(_OPEN, texts.put(procs), os.O_WRONLY | os.O_CLOEXEC))
            parts.append(step(_WRITE, opened, self._at(b"0"), 1))
            parts.append(step(_CLOSE, opened))
        return b"".join(parts)

    def _overlay(self, plan: Plan, texts: Texts) -> bytes:
        try:
            directory, options = mounts.fitting_options(
                plan.lower, plan.upper, plan.work, plan.volatile
            )
        except OSError as error:
            raise Unusual from error
        packed = step(_CHDIR, texts.put(directory)) if directory else b""
        if plan.volatile:
            mark = plan.work + mounts.VOLATILE_MARK
            missing = (errno.ENOENT,)
            packed += step(_UNLINK, texts.put(mark + b"/dirty"), passing=missing)
            packed += step(_RMDIR, texts.put(mark), passing=missing)
        merged, kind = texts.put(plan.merged), self._at(b"overlay")
        packed += step(_MOUNT, kind, merged, kind, plan.nodev, texts.put(options))
        return packed + step(_CHDIR, merged)

    def _shm_and_cgroups(self, plan: Plan, texts: Texts) -> bytes:
        size = texts.put(b"mode=1777,size=%d" % plan.shm_size)
        shm, kind = self._at(b"./dev/shm"), self._at(b"tmpfs")
        parts = []
        if plan.own & flags.CLONE_NEWIPC:
            parts.append(step(_MOUNT, self._at(b"shm"), shm, kind, mounts.SAFE, size))
        directories = [procs.rpartition(b"/")[0] for procs in plan.joins]
        made, mounted = mounts.cgroup_mounts(b".", directories, depth=plan.cgroup_depth)
        if directories:
            top = b"./sys/fs/cgroup"
            parts.append(self._mount(b"tmpfs", top, b"tmpfs", mounts.SAFE, b"mode=755,size=64k"))
        parts += [step(_MKDIR, self._at(path), 0o755) for path in made]
        for source, target, kind_text, bits, _ in mounted:
            if kind_text:
                parts.append(self._mount(source or b"", target, kind_text, bits))
            else:
                from_path = texts.put(source) if source else 0
                parts.append(step(_MOUNT, from_path, self._at(target), 0, bits, 0))
        return b"".join(parts)

    def _nodes(self, plan: Plan, texts: Texts) -> bytes:
        """What `devices.allow` and `devices.fill` do in the new /dev."""
        if plan.nodev:
            return b""
        parts = [step(_MOUNT, 0, self._at(b"./dev"), 0, devices.ABOVE, 0)]
        for node in plan.nodes:
            if not node.inside:
                raise Unusual
            for parent in devices.parents(node.inside):
                path = texts.put(b"./dev/" + parent)
                parts.append(step(_MKDIR, path, 0o755, passing=(errno.EEXIST,)))
            path = texts.put(b"./dev/" + node.inside)
            parts.append(step(_MKNOD, path, node.mode, node.number))
            parts.append(step(_CHMOD, path, stat.S_IMODE(node.mode)))
            if node.uid or node.gid:
                parts.append(step(_CHOWN, path, node.uid, node.gid))
        return b"".join(parts)

    def _take_binds(self, binds: Sequence[Bind], nodev: int, texts: Texts) -> bytes:
        parts = []
        below = flags.AT_EMPTY_PATH | flags.AT_RECURSIVE
        for fd, bind in enumerate(binds, _FIRST):
            attributes = flags.MOUNT_ATTR_NODEV if nodev and not bind.device_nodes else 0
            if bind.readonly:
                attributes |= flags.MOUNT_ATTR_RDONLY
            copy = flags.OPEN_TREE_CLONE | flags.OPEN_TREE_CLOEXEC
            copy |= flags.AT_RECURSIVE if bind.recursive else 0
            value = self._at(struct.pack("=4Q", attributes, 0, 0, 0))
            parts.append(step(_OPEN_TREE, _HERE, texts.put(bind.source), copy))
            parts.append(step(_MOUNT_SETATTR, fd, self._nothing, below, value, 32))
        return b"".join(parts)

    def _attach_binds(self, binds: Sequence[Bind], texts: Texts) -> bytes:
        parts = []
        found = _FIRST + len(binds)
        bits = flags.MOVE_MOUNT_F_EMPTY_PATH | flags.MOVE_MOUNT_T_EMPTY_PATH
        for fd, bind in enumerate(binds, _FIRST):
            make = self._make_target(bind, found, texts)
            over = len(make) // STEP_BYTES + 1
            target = texts.put(bind.target)
            missing = (errno.ENOENT,)
            how = self._target if bind.target == _SHM else self._inside
            parts.append(step(_OPENAT2, _HERE, target, how, 24, passing=missing, done=over))
            parts.append(make)
            parts.append(step(_MOVE_MOUNT, fd, self._nothing, found, self._nothing, bits))
            parts.append(step(_CLOSE, found))
        return b"".join(parts)

    def _take_init(self, init: bytes, fd: int, texts: Texts) -> bytes:
        """What the init does to find the one before the payload."""
        directory = texts.put(os.path.dirname(init))
        readonly = flags.MS_REMOUNT | flags.MS_BIND | flags.MS_RDONLY
        only_directory = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        return (
            step(_MOUNT, directory, directory, 0, flags.MS_BIND, 0)
            + step(_MOUNT, 0, directory, 0, readonly, 0)
            + step(_OPEN, directory, only_directory)
            + step(_DUP3, fd, _INIT, os.O_CLOEXEC)
            + step(_CLOSE, fd)
        )

    def _close_from(self, first: int, plan: Plan) -> bytes:
        """Close all but what the execve needs."""
        if not plan.init:
            return step(_CLOSE_RANGE, first, _LAST, 0)
        return step(_CLOSE_RANGE, first, _INIT - 1, 0) + step(_CLOSE_RANGE, _INIT + 1, _LAST, 0)

    def _make_target(self, bind: Bind, fd: int, texts: Texts) -> bytes:
        """What `binds._make` does: walk down from the root, making what is missing."""
        directory = bind.directory
        try:
            if directory is None:
                directory = stat.S_ISDIR(os.stat(bind.source).st_mode)
        except OSError as error:
            raise Unusual from error
        key = (bind.target, directory, fd)
        packed = self._targets.get(key)
        if packed is None:
            if len(self._targets) >= _KEPT_TARGETS or len(bind.target) > _LONG_TARGET:
                return self._pack_target(bind.target, directory, fd, texts.put)
            packed = self._pack_target(bind.target, directory, fd, self._at)
            self._targets[key] = packed
        return packed

    def _pack_target(
        self, target: bytes, directory: bool, fd: int, put: Callable[[bytes], int]
    ) -> bytes:
        names = [name for name in target.split(b"/") if name not in (b"", b".")]
        parts = [step(_OPENAT2, _HERE, self._at(b"/"), self._inside, 24)]
        so_far = b""
        for number, name in enumerate(names, 1):
            so_far += b"/" + name
            path, last = put(so_far), put(name)
            missing = (errno.ENOENT,)
            parts.append(step(_OPENAT2, _HERE, path, self._inside, 24, passing=missing, done=3))
            if number == len(names) and not directory:
                parts.append(step(_MKNODAT, fd, last, stat.S_IFREG | 0o644, 0))
            else:
                parts.append(step(_MKDIRAT, fd, last, 0o755))
            parts.append(step(_OPENAT2, _HERE, path, self._inside, 24))
            parts.append(step(_DUP3, fd + 1, fd, os.O_CLOEXEC))
            parts.append(step(_CLOSE, fd + 1))
        return b"".join(parts)

    def _sysctls(self, plan: Plan, texts: Texts) -> bytes:
        return b"".join(
            step(_OPEN, texts.put(file), os.O_WRONLY | os.O_CLOEXEC)
            + step(_WRITE, _FIRST, texts.put(value), len(value))
            + step(_CLOSE, _FIRST)
            for file, value in plan.sysctls
        )

    def _protect(self, plan: Plan, texts: Texts) -> bytes:
        key = (*plan.readonly, b"", *plan.masked)
        packed = self._protections.get(key)
        if packed is None:
            if len(self._protections) >= _KEPT or sum(map(len, key)) > _LONG_LISTS:
                return self._pack_protection(plan, texts.put)
            packed = self._pack_protection(plan, self._at)
            self._protections[key] = packed
        return packed

    def _pack_protection(self, plan: Plan, put: Callable[[bytes], int]) -> bytes:
        parts = []
        readonly = self._at(struct.pack("=4Q", flags.MOUNT_ATTR_RDONLY, 0, 0, 0))
        null, kind, size = self._at(b"/dev/null"), self._at(b"tmpfs"), self._at(b"size=4k")
        missing = (errno.ENOENT,)
        for name in plan.readonly:
            path = put(name)
            bits = flags.MS_BIND | flags.MS_REC
            parts.append(step(_MOUNT, path, path, 0, bits, 0, passing=missing, passed=2))
            parts.append(step(_MOUNT_SETATTR, _HERE, path, 0, readonly, 32))
        for name in plan.masked:
            path = put(name)
            # Jumps: missing, over both; no file, so a directory, to the second; done, over both.
            bind = (_MOUNT, null, path, 0, flags.MS_BIND, 0)
            parts.append(step(*bind, passing=missing, passed=2, failed=1, done=2))
            parts.append(step(_MOUNT, kind, path, kind, mounts.SAFE | flags.MS_RDONLY, size))
        return b"".join(parts)

    def _become(
        self,
        plan: PayloadPlan,
        identity: Identity,
        ends: Ends,
        texts: Texts,
        silent: Sequence[int] = (),
    ) -> bytes:
        """What `becoming.Becoming.become` does."""
        return (
            self._limits
            + (b"" if ends.stdin >= 0 else self._no_input)
            + (self._give_streams(identity.uid, ends, silent) if identity.uid else b"")
            + self._enter(plan.cwd, texts)
            + self._rlimits(plan, texts)
            + self._privileges(plan, identity, texts)
            + self._signals
            + self._close
            + (self._filter_calls(plan, texts) if plan.filter else b"")
            + self._execute(plan, identity, texts)
        )

    def _filter_calls(self, plan: PayloadPlan, texts: Texts) -> bytes:
        program = self._filters.get(plan.filter)
        if program is None:
            if len(self._filters) >= _KEPT or len(plan.filter) > _LONG_FILTER:
                program = _sock_fprog(plan.filter, texts.put)
            else:
                program = self._filters[plan.filter] = _sock_fprog(plan.filter, self._at)
        return step(_SECCOMP, flags.SECCOMP_SET_MODE_FILTER, plan.filter_flags, program)

    def _give_streams(self, uid: int, ends: Ends, silent: Sequence[int]) -> bytes:
        streams = enumerate((ends.stdin, ends.stdout, ends.stderr))
        return b"".join(
            step(_FCHOWN, number, uid, _LAST)
            for number, end in streams
            # What is silent is the machine's own /dev/null by then.
            if end >= 0 and number not in silent and stat.S_ISFIFO(os.fstat(end).st_mode)
        )

    def _rlimits(self, plan: PayloadPlan, texts: Texts) -> bytes:
        if plan.oom_score_adj:
            raise Unusual  # whoever shares our memory sets it for us, too (fs/proc/base.c)
        return b"".join(
            step(_PRLIMIT64, 0, number, texts.put(_limit(soft) + _limit(hard)), 0)
            for _, number, soft, hard in plan.rlimits
        )

    def _enter(self, cwd: bytes, texts: Texts) -> bytes:
        # CVE-2024-21626: the kernel spells a directory outside the root "(unreachable)/…".
        return (
            step(_CHDIR, texts.put(cwd))
            + step(_GETCWD, texts.scratch, SCRATCH_BYTES)
            + step(COMPARE, texts.scratch, ord("/"))
        )

    def _privileges(self, plan: PayloadPlan, identity: Identity, texts: Texts) -> bytes:
        drops = self._drops.get(plan.keep)
        if drops is None:
            dropped = capabilities.members(self._host.bounding & ~plan.keep)
            drops = b"".join(step(_PRCTL, flags.PR_CAPBSET_DROP, number) for number in dropped)
            if len(self._drops) < _KEPT:
                self._drops[plan.keep] = drops
        groups = struct.pack(f"={len(identity.groups)}I", *identity.groups)
        needed = becoming.to_filter(plan)
        left = (plan.keep & self._host.permitted if identity.uid == 0 else 0) | needed
        low, high = left & 0xFFFFFFFF, left >> 32
        sets = texts.put(struct.pack("=6I", low, low, 0, high, high, 0))
        header = self._at(struct.pack("=2I", 0x20080522, 0))
        uid, gid = identity.uid, identity.gid
        packed = (
            drops
            + step(_SETGROUPS, len(identity.groups), texts.put(groups))
            + step(_SETRESGID, gid, gid, gid)
            + (step(_PRCTL, flags.PR_SET_KEEPCAPS, 1) if needed and uid else b"")
            + step(_SETRESUID, uid, uid, uid)
            + step(_CAPSET, header, sets)
        )
        if plan.no_new_privileges:
            packed += step(_PRCTL, flags.PR_SET_NO_NEW_PRIVS, 1)
        # A change of user has set this as /proc/sys/fs/suid_dumpable says now, for the memory that
        # is the shim's too.
        return packed + step(_PRCTL, flags.PR_SET_DUMPABLE, 0)

    def _execute(self, plan: PayloadPlan, identity: Identity, texts: Texts) -> bytes:
        env = dict(plan.env)
        env.setdefault(b"HOME", identity.home)
        argv = texts.put_array(plan.args)
        envp = texts.put_array([name + b"=" + value for name, value in env.items()])
        if plan.init:
            name = texts.put(os.path.basename(plan.init))
            return step(_EXECVEAT, _INIT, name, argv, envp, 0)
        command = plan.args[0]
        if b"/" in command:
            return step(_EXECVE, texts.put(command), argv, envp)
        # As a shell looks it up; what can't be executed is passed over, up to the last.
        passing = (errno.ENOENT, errno.EACCES, errno.ENOTDIR)
        candidates = [
            texts.put((directory or b".") + b"/" + command)
            for directory in env.get(b"PATH", b"").split(b":")
        ]
        tries = [step(_EXECVE, path, argv, envp, passing=passing) for path in candidates[:-1]]
        return b"".join(tries) + step(_EXECVE, candidates[-1], argv, envp)


def _limit(number: int) -> bytes:
    return struct.pack("=Q", number & _UNLIMITED)


def _sock_fprog(program: bytes, put: Callable[[bytes], int]) -> int:
    """The address of a struct sock_fprog (linux/filter.h)."""
    return put(struct.pack("=H6xQ", len(program) // 8, put(program)))


def _resolved(plan: PayloadPlan, layers: Sequence[bytes]) -> Identity:
    passwd, group = read_etc(layers, (b"passwd", b"group"))
    return resolve(plan.user, passwd, group, plan.groups)


def _ordinary(binds: Sequence[Bind | Tmpfs]) -> list[Bind]:
    """The binds, if they are of the kind that needs no more than their own few steps.

    Raises:
        Unusual: one is not.
    """
    covered = [*_ELSEWHERE]
    for bind in binds:
        if not isinstance(bind, Bind) or bind.propagation or bind.subpath or bind.fill:
            raise Unusual
        if bind.target != _SHM and any(_is_below(bind.target, top) for top in covered):
            raise Unusual
        covered.append(bind.target)
    return list(binds)  # type: ignore[arg-type]  # all are, as the loop has seen


def _is_below(path: bytes, top: bytes) -> bool:
    return path == top or path.startswith(top + b"/")


def usable() -> bool:
    """This machine's instructions are the ones we have."""
    return MACHINE == "x86_64"
