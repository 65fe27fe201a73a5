"""The one door to the kernel: every call the shim and the init make, as methods of `Kernel`.

A call that fails raises `OSError(errno, text, path)`, so FileNotFoundError and friends arrive by
themselves; the path is the one that a person would look at. Tests hand a subclass of `Kernel` to
the same code and let its k-th call fail (tests/unit/runtime/doors.py).

The module itself offers the default door's calls by name (`kernel.tee(…)`) for callers that have no
need of a fake.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import sys

# The C module: `socket` would make each fork of the shim dearer (it imports enum).
from _socket import AF_UNIX, SOCK_DGRAM, socket

from runtime import flags, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Mapping, Sequence

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
# struct __user_cap_header_struct: _LINUX_CAPABILITY_VERSION_3 and pid 0, the caller.
_CAPABILITY_HEADER = 0x20080522.to_bytes(4, sys.byteorder) + bytes(4)
_LOW = 0xFFFFFFFF
_F_ADD_SEALS = 1033
_SEAL_EVERYTHING = 0x1 | 0x2 | 0x4 | 0x8  # SEAL, SHRINK, GROW, WRITE

_NR_CLONE = libc.number("clone")
_NR_CLONE3 = libc.number("clone3")
_NR_CLOSE_RANGE = libc.number("close_range")
_NR_OPEN_TREE = libc.number("open_tree")
_NR_MOVE_MOUNT = libc.number("move_mount")
_NR_FSOPEN = libc.number("fsopen")
_NR_FSCONFIG = libc.number("fsconfig")
_NR_FSMOUNT = libc.number("fsmount")
_NR_MOUNT_SETATTR = libc.number("mount_setattr")
_NR_OPENAT2 = libc.number("openat2")
_NR_PIVOT_ROOT = libc.number("pivot_root")
_NR_RT_SIGACTION = libc.number("rt_sigaction")
_NR_PIDFD_GETFD = libc.number("pidfd_getfd")
_NR_CAPSET = libc.number("capset")
_NR_KEYCTL = libc.number("keyctl")
_NR_SECCOMP = libc.number("seccomp")
_NR_EXECVEAT = libc.number("execveat")

_LOOKUPS = 100
"""How often openat2 is asked again: whoever renames without a pause shall not hold up a start."""


def _failure(path: str | bytes | None = None) -> OSError:
    code = ctypes.get_errno()
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    return OSError(code, os.strerror(code), path)


class Kernel:
    """The calls, each in the manual's section 2 under the same name unless said otherwise."""

    # Calls that the os module makes as well as we could.
    setsid = staticmethod(os.setsid)
    dup2 = staticmethod(os.dup2)
    open = staticmethod(os.open)
    close = staticmethod(os.close)
    write = staticmethod(os.write)
    read = staticmethod(os.read)
    fstat = staticmethod(os.fstat)
    fchown = staticmethod(os.fchown)
    chmod = staticmethod(os.chmod)
    chown = staticmethod(os.chown)
    lstat = staticmethod(os.lstat)
    mkdir = staticmethod(os.mkdir)
    mknod = staticmethod(os.mknod)
    unlink = staticmethod(os.unlink)
    rmdir = staticmethod(os.rmdir)
    symlink = staticmethod(os.symlink)
    chdir = staticmethod(os.chdir)
    getcwd = staticmethod(os.getcwd)
    umask = staticmethod(os.umask)
    setgroups = staticmethod(os.setgroups)
    setresgid = staticmethod(os.setresgid)
    setresuid = staticmethod(os.setresuid)
    execve = staticmethod(os.execve)
    statvfs = staticmethod(os.statvfs)
    pidfd_open = staticmethod(os.pidfd_open)

    def clone3(self, clone_flags: int, cgroup_fd: int) -> tuple[int, int]:
        """Fork with `clone_flags`; returns (pid, pidfd), or (0, -1) in the child.

        The child must not return into the caller's ordinary code: nothing of Python's after-fork
        work has been done. CLONE_PIDFD must be among the flags; `cgroup_fd` counts if
        CLONE_INTO_CGROUP is.
        """
        pidfd = ctypes.c_int(-1)
        arguments = libc.CloneArgs(
            flags=clone_flags,
            pidfd=ctypes.addressof(pidfd),
            exit_signal=17,  # SIGCHLD
            cgroup=cgroup_fd if clone_flags & flags.CLONE_INTO_CGROUP else 0,
        )
        pid = libc.clone3(_NR_CLONE3, arguments, ctypes.sizeof(arguments))
        if pid < 0:
            raise _failure()
        return (pid, pidfd.value) if pid else (0, -1)

    def clone_sibling(self, page: mmap.mmap) -> int:
        """Fork another child of the caller's parent; returns its pid, or 0 in it.

        The kernel writes the pid to the beginning of `page` before the sibling runs. Not by clone3,
        which filters of system calls refuse, as they can't see its flags.
        """
        where = ctypes.c_int.from_buffer(page)
        bits = flags.CLONE_PARENT | flags.CLONE_PARENT_SETTID | 17  # SIGCHLD
        pid: int = libc.clone(_NR_CLONE, bits, None, ctypes.addressof(where), None, None)
        if pid < 0:
            raise _failure()
        return pid

    def unshare(self, namespaces: int) -> None:
        """Leave the namespaces named by CLONE_NEW* flags for new ones."""
        if libc.unshare(namespaces) < 0:
            raise _failure()

    def setns(self, fd: int, kind: int) -> None:
        """Join the namespace that `fd` stands for; `kind` is its CLONE_NEW* flag."""
        if libc.setns(fd, kind) < 0:
            raise _failure()

    def mount(
        self, source: bytes | None, target: bytes, kind: bytes | None, bits: int, data: bytes | None
    ) -> None:
        """mount(2); the error's text names the flags."""
        if libc.mount(source, target, kind, bits, data) < 0:
            code = ctypes.get_errno()
            words = f"{os.strerror(code)} (mount {flags.mount_words(bits)})"
            raise OSError(code, words, os.fsdecode(target))

    def try_mount(
        self, source: bytes | None, target: bytes, kind: bytes | None, bits: int, data: bytes | None
    ) -> int:
        """mount(2) where failure is ordinary: returns 0 or the errno."""
        return ctypes.get_errno() if libc.mount(source, target, kind, bits, data) < 0 else 0

    def umount2(self, target: bytes, bits: int) -> None:
        """umount2(2)."""
        if libc.umount2(target, bits) < 0:
            raise _failure(target)

    def pivot_root(self, new: bytes, put_old: bytes) -> None:
        """pivot_root(2)."""
        if libc.pivot_root(_NR_PIVOT_ROOT, new, put_old) < 0:
            raise _failure(new)

    def keyctl(self, what: int, key: int, value: int) -> None:
        """keyctl(2), for operations on one key that return nothing of use."""
        if libc.keyctl(_NR_KEYCTL, what, key, value) < 0:
            raise _failure()

    def join_session_keyring(self, name: bytes) -> None:
        """keyctl(2), KEYCTL_JOIN_SESSION_KEYRING: the one of this name, or a new one."""
        if libc.keyctl_text(_NR_KEYCTL, flags.KEYCTL_JOIN_SESSION_KEYRING, name or None) < 0:
            raise _failure()

    def filter_calls(self, program: bytes, bits: int) -> None:
        """seccomp(2): filter the caller's system calls by an array of struct sock_filter."""
        value = libc.SockFprog(len(program) // 8, program)
        if libc.seccomp(_NR_SECCOMP, flags.SECCOMP_SET_MODE_FILTER, bits, value) < 0:
            raise _failure()

    def open_tree(self, path: bytes, bits: int, directory_fd: int = flags.AT_FDCWD) -> int:
        """open_tree(2); returns a descriptor."""
        fd: int = libc.open_tree(_NR_OPEN_TREE, directory_fd, path, bits)
        if fd < 0:
            raise _failure(path)
        return fd

    def move_mount(self, from_fd: int, to_fd: int, path: bytes) -> None:
        """move_mount(2) of a detached tree onto what `to_fd` is; `path` is for the error only."""
        bits = flags.MOVE_MOUNT_F_EMPTY_PATH | flags.MOVE_MOUNT_T_EMPTY_PATH
        if libc.move_mount(_NR_MOVE_MOUNT, from_fd, b"", to_fd, b"", bits) < 0:
            raise _failure(path)

    def mount_setattr(self, fd: int, attributes: int, propagation: int = 0) -> None:
        """mount_setattr(2), Linux 5.12: set MOUNT_ATTR_* on `fd`'s mount and all below it.

        `propagation` is MS_PRIVATE or MS_SLAVE; 0 leaves it as it is.
        """
        value = libc.MountAttr(attr_set=attributes, propagation=propagation)
        bits = flags.AT_EMPTY_PATH | flags.AT_RECURSIVE
        size = ctypes.sizeof(value)
        if libc.mount_setattr(_NR_MOUNT_SETATTR, fd, b"", bits, value, size) < 0:
            raise _failure()

    def make_tmpfs(self, options: Sequence[bytes], attributes: int) -> int:
        """A detached tmpfs with these options (`size=1m`); returns a descriptor for move_mount.

        fsopen(2), fsconfig(2) and fsmount(2), of Linux 5.2; `attributes` are MOUNT_ATTR_*.
        """
        context: int = libc.fsopen(_NR_FSOPEN, b"tmpfs", flags.FSOPEN_CLOEXEC)
        if context < 0:
            raise _failure()
        try:
            for option in (b"source=tmpfs", *options):
                key, _, value = option.partition(b"=")
                if (
                    libc.fsconfig(_NR_FSCONFIG, context, flags.FSCONFIG_SET_STRING, key, value, 0)
                    < 0
                ):
                    raise _failure(b"tmpfs option " + option)
            create = flags.FSCONFIG_CMD_CREATE
            if libc.fsconfig(_NR_FSCONFIG, context, create, None, None, 0) < 0:
                raise _failure(b"tmpfs options " + b",".join(options))
            fd: int = libc.fsmount(_NR_FSMOUNT, context, flags.FSMOUNT_CLOEXEC, attributes)
            if fd < 0:
                raise _failure()
            return fd
        finally:
            os.close(context)

    def openat2(self, directory_fd: int, path: bytes, bits: int, resolve: int) -> int:
        """openat2(2), Linux 5.6, with RESOLVE_* flags; returns a descriptor.

        Asked again where a `..` was looked up while something was renamed or mounted anywhere: that
        is what EAGAIN means there.

        Raises:
            BlockingIOError: So it was each time: somebody renames things without end.
        """
        how = libc.OpenHow(flags=bits | os.O_CLOEXEC, resolve=resolve)
        size = ctypes.sizeof(how)
        for _ in range(_LOOKUPS):
            fd: int = libc.openat2(_NR_OPENAT2, directory_fd, path, how, size)
            if fd >= 0:
                return fd
            failure = _failure(path)
            if failure.errno != errno.EAGAIN:
                break
        raise failure

    def execveat(
        self, directory_fd: int, name: bytes, args: Sequence[bytes], env: Mapping[bytes, bytes]
    ) -> None:
        """execveat(2) of a file in a directory; returns only by its error."""
        argv = (ctypes.c_char_p * (len(args) + 1))(*args, None)
        words = [key + b"=" + value for key, value in env.items()]
        envp = (ctypes.c_char_p * (len(words) + 1))(*words, None)
        libc.execveat(_NR_EXECVEAT, directory_fd, name, argv, envp, 0)
        raise _failure(name)

    def close_range(self, first: int, last: int, bits: int) -> None:
        """close_range(2), Linux 5.9 (5.11 for CLOSE_RANGE_CLOEXEC)."""
        if libc.close_range(_NR_CLOSE_RANGE, first, last, bits) < 0:
            raise _failure()

    def sethostname(self, name: bytes) -> None:
        """sethostname(2), in the caller's UTS namespace."""
        if libc.sethostname(name, len(name)) < 0:
            raise _failure()

    def setdomainname(self, name: bytes) -> None:
        """setdomainname(2), in the caller's UTS namespace."""
        if libc.setdomainname(name, len(name)) < 0:
            raise _failure()

    def prctl(self, option: int, value: int) -> None:
        """prctl(2) with one number."""
        if libc.prctl(option, value, 0, 0, 0) < 0:
            raise _failure()

    def set_name(self, name: bytes) -> None:
        """PR_SET_NAME: at most 15 bytes."""
        if libc.prctl_text(flags.PR_SET_NAME, name, 0, 0, 0) < 0:
            raise _failure()

    def set_child_subreaper(self) -> None:
        """PR_SET_CHILD_SUBREAPER: orphaned descendants become the caller's children."""
        self.prctl(flags.PR_SET_CHILD_SUBREAPER, 1)

    def capset(self, effective: int, permitted: int, inheritable: int) -> None:
        """capset(2) on the caller, each set as a bit mask."""
        low = (effective & _LOW, permitted & _LOW, inheritable & _LOW)
        high = (effective >> 32, permitted >> 32, inheritable >> 32)
        data = b"".join(word.to_bytes(4, sys.byteorder) for word in (*low, *high))
        if libc.capset(_NR_CAPSET, _CAPABILITY_HEADER, data) < 0:
            raise _failure()

    def shift_ids(self, fd: int, user_fd: int) -> None:
        """mount_setattr(2), MOUNT_ATTR_IDMAP: show the files of `fd`'s detached mount, and of all
        below it, with the ids that a user namespace's map makes of those on disk.

        Raises:
            OSError: EINVAL, a file system there can't do that, or it was done.
        """
        value = libc.MountAttr(attr_set=flags.MOUNT_ATTR_IDMAP, userns_fd=user_fd)
        bits = flags.AT_EMPTY_PATH | flags.AT_RECURSIVE
        size = ctypes.sizeof(value)
        if libc.mount_setattr(_NR_MOUNT_SETATTR, fd, b"", bits, value, size) < 0:
            raise _failure()

    def set_file_ids(self, uid: int, gid: int) -> None:
        """setfsgid(2) and setfsuid(2), which report nothing: so they are asked what they did.

        Raises:
            PermissionError: Without the capabilities for it.
        """
        nobody = 0xFFFFFFFF  # an id that is none: it changes nothing, and tells what is
        for call, wanted in ((libc.setfsgid, gid), (libc.setfsuid, uid)):
            call(wanted)
            if call(nobody) != wanted:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    def bounding_set(self) -> int:
        """The caller's capability bounding set, as a bit mask (prctl(2), PR_CAPBSET_READ)."""
        bits = 0
        for number in range(64):
            found = libc.prctl(flags.PR_CAPBSET_READ, number, 0, 0, 0)
            if found < 0:
                break  # EINVAL: the kernel has no more
            bits |= found << number
        return bits

    def loopback_up(self) -> None:
        """Raise `lo` in the caller's network namespace (netdevice(7))."""
        # Any socket carries these ioctls, and a unix one needs no IPv4 in the kernel.
        carrier = socket(AF_UNIX, SOCK_DGRAM)
        try:
            request = b"lo".ljust(16, b"\0") + _IFF_UP.to_bytes(2, sys.byteorder) + bytes(22)
            fcntl.ioctl(carrier.fileno(), _SIOCSIFFLAGS, request)
        finally:
            carrier.close()

    def default_signal(self, number: int) -> None:
        """SIG_DFL for any signal, glibc's own two included (its sigaction(2) refuses those).

        posix_spawn leaves 32 and 33 ignored in the child, and execve would pass that on.
        """
        # struct sigaction of the kernel, at its longest: SIG_DFL, no flags, an empty mask.
        if libc.rt_sigaction(_NR_RT_SIGACTION, number, bytes(32), None, 8) < 0:
            raise _failure()

    def set_nofile(self, limits: tuple[int, int]) -> None:
        """setrlimit(2) of RLIMIT_NOFILE, (soft, hard), or as much of it as this process may.

        Without CAP_SYS_RESOURCE nobody can raise a hard limit, not even one that somebody else has
        lowered meanwhile (prlimit(2)).
        """
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        except ValueError:  # what that module makes of EPERM
            soft, hard = limits
            hard = min(hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard), hard))

    def set_limit(self, number: int, soft: int, hard: int) -> None:
        """prlimit(2) of our own limit of a resource; -1 is none."""
        resource.prlimit(0, number, (soft, hard))

    def tee(self, fd_in: int, fd_out: int, length: int, bits: int) -> int:
        """tee(2): duplicate up to `length` bytes from one pipe to another; returns how many."""
        while True:
            moved: int = libc.tee(fd_in, fd_out, length, bits)
            if moved >= 0:
                return moved
            if ctypes.get_errno() != errno.EINTR:
                raise _failure()

    def pidfd_send_signal(self, pidfd: int, signal_number: int) -> None:
        """pidfd_send_signal(2), Linux 5.1."""
        # Here, not above: the shim's forks pay for each module, and it sends no signals.
        import signal

        signal.pidfd_send_signal(pidfd, signal_number)

    def pidfd_getfd(self, pidfd: int, fd: int) -> int:
        """pidfd_getfd(2), Linux 5.6: a duplicate of another process's descriptor."""
        duplicate: int = libc.pidfd_getfd(_NR_PIDFD_GETFD, pidfd, fd, 0)
        if duplicate < 0:
            raise _failure()
        return duplicate

    def wait_pidfd(self, pidfd: int) -> int | None:
        """Reap the child behind `pidfd` if it has ended; returns wait(2)'s status, else None.

        Raises:
            ChildProcessError: it is no child of the caller, or somebody reaped it before.
        """
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        return None if result is None else wait_status(result.si_code, result.si_status)

    def memfd_sealed(self, name: str, data: bytes) -> int:
        """A memfd with `data`, sealed against every change and positioned at its start."""
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            fcntl.fcntl(fd, _F_ADD_SEALS, _SEAL_EVERYTHING)
            os.lseek(fd, 0, os.SEEK_SET)
        except BaseException:
            os.close(fd)
            raise
        return fd


def wait_status(code: int, status: int) -> int:
    """Turn waitid(2)'s (si_code, si_status) into the number that wait(2) would have given."""
    if code == os.CLD_EXITED:
        return status << 8
    return status | 0x80 if code == os.CLD_DUMPED else status


DOOR = Kernel()
tee = DOOR.tee
pidfd_open = DOOR.pidfd_open
pidfd_send_signal = DOOR.pidfd_send_signal
set_child_subreaper = DOOR.set_child_subreaper
memfd_sealed = DOOR.memfd_sealed
wait_pidfd = DOOR.wait_pidfd
