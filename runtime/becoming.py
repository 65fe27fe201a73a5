"""The last stage of a process that becomes a payload: user, limits, privileges, execve.

The container's first process (`runtime.init`) and each one that enters it later
(`runtime.exec_child`) go through the same steps, so that nobody has more rights than the payload.
"""

from __future__ import annotations

# The C module of `signal`, which imports enum.
import _signal  # type: ignore[import-not-found]  # typeshed has none
import errno
import os
import stat

from runtime import capabilities, flags, json_text, payload, terminal, user_namespaces, users
from runtime.errors import InitRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from runtime.kernel import Kernel
    from runtime.plan import PayloadPlan


FIRST_FREE_FD = 6
"""What a process is given lies at or above this number; what it keeps is put below."""

STATUS_FD = 3
ENTERED_FD = 4
INIT_FD = 4
"""The directory of the init that stands before the payload: what is entered has been, by then."""

KEYRING_PERMISSIONS = flags.KEY_POS_ALL | flags.KEY_USR_SEARCH
KEYRING_REFUSALS = (errno.ENOSYS, errno.EPERM, errno.EACCES)
"""A kernel without keys; a sandbox that forbids them, to containers too; a keyring whose container
has changed its permissions."""

_PROFILE = b"/proc/self/attr/apparmor/exec"
_PROFILE_OF_OLD = b"/proc/self/attr/exec"
_NULL = os.makedev(1, 3)  # Documentation/admin-guide/devices.txt
_HIGHEST_FD = 2**31 - 1
_OPEN_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_LONGEST_FILE = 4 * 1024 * 1024
_LONGEST_WORDS = 4096
_OOM_SCORE = b"/proc/self/oom_score_adj"


class Host:
    """What is true of the shim, and what it changed for itself that a payload must get back.

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


class Ends:
    """The descriptors that a process is born with; all are `FIRST_FREE_FD` or above.

    Attributes:
        entered: What it enters by setns(2): an init a ready network namespace or the pidfd of
            another whose network it shares, who enters a container the pidfd of that one's init. -1
            for nothing.
        ipc: The pidfd of another init whose IPC namespace an init shares; -1 for nothing.
        stdin: -1 for /dev/null.
    """

    __slots__ = ("entered", "ipc", "status", "stderr", "stdin", "stdout")

    def __init__(
        self, status: int, stdout: int, stderr: int, entered: int, stdin: int = -1, ipc: int = -1
    ) -> None:
        self.status = status
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.entered = entered
        self.ipc = ipc


class Becoming:
    """A process on its way; `step` names the stage, for the report to `status`.

    Attributes:
        user_fd: What stands for the user namespace that it enters: its descriptor, or the pidfd of
            a process in it.
    """

    __slots__ = ("door", "ends", "host", "status", "step", "user_fd", "wanted")

    def __init__(self, door: Kernel, wanted: PayloadPlan, host: Host, ends: Ends) -> None:
        self.door = door
        self.wanted = wanted
        self.host = host
        self.ends = ends
        self.status = ends.status
        self.user_fd = -1
        self.step = "take over its descriptors"

    def take_ends(self) -> None:
        """Own session, own stdout and stderr, and no descriptor of the shim's any more."""
        door, ends = self.door, self.ends
        door.dup2(ends.status, STATUS_FD, False)
        self.status = STATUS_FD
        if ends.stdin >= 0:
            door.dup2(ends.stdin, 0)
        door.dup2(ends.stdout, 1)
        door.dup2(ends.stderr, 2)
        first = ENTERED_FD
        for fd in (ends.entered, ends.ipc):
            if fd >= 0:
                door.dup2(fd, first, False)
                first += 1
        door.close_range(first, _HIGHEST_FD, 0)
        door.setsid()
        door.prctl(flags.PR_SET_DUMPABLE, 0)
        self._set_oom_score()
        self._join_keyring()
        if self.wanted.apparmor:
            self._change_profile()

    def _join_keyring(self) -> None:
        """Have the container's own session keyring: no keys of another's in reach (keyrings(7)).

        Who enters the container later finds it by its name, as only a process of the same user can
        that knows the name; such may neither see it in /proc/keys nor read it.
        """
        self.step = "join its session keyring"
        try:
            self.door.join_session_keyring(self.wanted.keyring)
            self.door.keyctl(
                flags.KEYCTL_SETPERM, flags.KEY_SPEC_SESSION_KEYRING, KEYRING_PERMISSIONS
            )
        except OSError as error:
            if error.errno not in KEYRING_REFUSALS:
                raise

    def _change_profile(self) -> None:
        """Have the execve change to its AppArmor profile (aa_change_onexec(2)).

        Here, where /proc is the machine's: a container can show anything in the place of its own.
        """
        door, profile = self.door, self.wanted.apparmor
        self.step = f"apply the AppArmor profile {os.fsdecode(profile)}"
        try:
            fd = door.open(_PROFILE, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # before Linux 5.1 AppArmor had no directory of its own
            fd = door.open(_PROFILE_OF_OLD, os.O_WRONLY | os.O_CLOEXEC)
        door.write(fd, b"exec " + profile)
        door.close(fd)

    def join_cgroups(self) -> None:
        """Enter the v1 directories of its limits; it was born into the v2 one."""
        door = self.door
        self.step = "enter its cgroups"
        for procs in self.wanted.joins:
            fd = door.open(procs, os.O_WRONLY | os.O_CLOEXEC)
            door.write(fd, b"0")
            door.close(fd)

    def enter_namespaces(self, kinds: int) -> None:
        """Enter those of `ends.entered`, which is closed then, or once its user namespace, if it
        has one of its own, was entered too."""
        self.door.setns(ENTERED_FD, kinds)
        if kinds & flags.CLONE_NEWNS and self.wanted.uids:
            self.user_fd = ENTERED_FD
        else:
            self.door.close(ENTERED_FD)

    def open_terminal(self) -> int:
        """Make the terminal that is wanted, inside the container's root; returns its number."""
        assert self.wanted.terminal is not None
        self.step = "make its terminal"
        master, slave, number = terminal.make(self.door, self.wanted.terminal)
        terminal.hand_out(1, master)
        self.door.close(master)
        terminal.take_as_own(self.door, slave)
        return number

    def become(self) -> None:
        """The payload's own side: user, limits, working directory, privileges, execve."""
        door, wanted, host = self.door, self.wanted, self.host
        self.step = "find the user"
        files = (self._file(b"/etc/passwd"), self._file(b"/etc/group"))
        identity = users.resolve(wanted.user, *files, wanted.groups)
        wanted.env.setdefault(b"HOME", identity.home)
        self.step = "set its limits"
        door.set_nofile(host.nofile)
        if self.wanted.terminal is None and self.ends.stdin < 0:
            door.dup2(self.open_null(os.O_RDONLY), 0)
        owner = user_namespaces.mapped(wanted, identity) if wanted.uids else identity.uid
        if owner:
            self._give_streams(owner)
        self.step = "enter the working directory"
        entered = payload.try_enter(wanted.cwd)
        self.step = "set its limits"
        self._set_rlimits()
        if wanted.uids:
            # Limits are the machine's, and so is who may raise them.
            self.enter_user_namespace()
        self.step = "set its privileges"
        self._drop(identity)
        self.step = "enter the working directory"
        if not entered:
            payload.enter(wanted.cwd)
        self.step = "execute"
        for number in host.ignored_signals:
            _signal.signal(number, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        # The status pipe closes itself at execve. CLOSE_RANGE_CLOEXEC would need Linux 5.11.
        if wanted.init:
            door.close_range(INIT_FD + 1, _HIGHEST_FD, 0)
            path = wanted.init
        else:
            door.close_range(STATUS_FD + 1, _HIGHEST_FD, 0)
            path = payload.find(wanted.args[0], wanted.env)
        if wanted.filter:
            self._filter_calls()
        self.last_rights_given_up()
        try:
            if wanted.init:
                door.execveat(INIT_FD, os.path.basename(path), wanted.args, wanted.env)
            else:
                door.execve(path, wanted.args, wanted.env)
        except OSError as error:
            raise payload.explain(path, error) from None

    def last_rights_given_up(self) -> None:
        """What is left is the execve. `runtime.exec_apart` goes on in a child."""

    def enter_user_namespace(self) -> None:
        """Leave the machine's user namespace for the container's, as whose root it goes on."""
        self.step = "enter its user namespace"
        there_are = user_namespaces.enter(self.door, self.user_fd)
        # This process's own copy: what the machine's root lacks, this one has.
        self.host.bounding = self.host.permitted = there_are

    def _set_oom_score(self) -> None:
        """How readily the kernel kills it (proc_pid_oom_score_adj(5)).

        While /proc is the machine's: a write to a container's goes where a volume or a mount of
        its payload's leads (CVE-2025-52881).
        """
        door = self.door
        self.step = "set its limits"
        value = self.wanted.oom_score_adj or self.host.oom_score_adj
        if not value:
            return
        fd = door.open(_OOM_SCORE, os.O_RDWR | os.O_CLOEXEC)
        try:
            door.write(fd, value)
        except PermissionError as error:
            own = door.read(fd, 64).strip().decode()
            raise InitRefused(
                f"can't set oom_score_adj to {value.decode()}: this machine's root lacks "
                f"CAP_SYS_RESOURCE, and so can't go below its own, {own}",
                error.errno or 0,
                125,
            ) from None
        finally:
            door.close(fd)

    def _set_rlimits(self) -> None:
        """What was asked for, while it is root and may raise what its parent has."""
        for name, number, soft, hard in self.wanted.rlimits:
            try:
                self.door.set_limit(number, soft, hard)
            except PermissionError as error:
                raise InitRefused(
                    f"can't set ulimit {name}={soft}:{hard}: operation not permitted: its hard "
                    "limit is above what the engine itself has (/proc/PID/limits), which without "
                    "CAP_SYS_RESOURCE, or beyond the kernel's own, nobody can raise",
                    error.errno or 0,
                    125,
                ) from None

    def open_null(self, mode: int) -> int:
        """The container's /dev/null, and nothing that a volume or a payload has put in its place.

        Raises:
            InitRefused: It is something else.
            OSError: There is none, or a symbolic link.
        """
        door = self.door
        # Non-blocking, should it be a fifo.
        bits = mode | os.O_NONBLOCK | os.O_NOCTTY
        fd = door.openat2(flags.AT_FDCWD, b"/dev/null", bits, flags.RESOLVE_NO_SYMLINKS)
        status = door.fstat(fd)
        if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _NULL:
            raise InitRefused("the container's /dev/null is no null device", 0, 126)
        os.set_blocking(fd, True)
        return fd

    def _give_streams(self, uid: int) -> None:
        """Let a user that isn't root open its own streams by their names, such as /dev/stdout."""
        for fd in (0, 1, 2):
            if stat.S_ISFIFO(self.door.fstat(fd).st_mode) or self.wanted.terminal is not None:
                self.door.fchown(fd, uid, -1)

    def _filter_calls(self) -> None:
        """The last thing before the execve, so that a profile needs to allow nothing but that."""
        self.step = "filter its system calls"
        self.door.filter_calls(self.wanted.filter, self.wanted.filter_flags)
        self.step = "execute"

    def _drop(self, identity: users.Identity) -> None:
        """Leave the payload what its capabilities say, and nothing it could get back by execve."""
        door, keep = self.door, self.wanted.keep
        for number in capabilities.members(self.host.bounding & ~keep):
            door.prctl(flags.PR_CAPBSET_DROP, number)
        door.setgroups(identity.groups)
        door.setresgid(identity.gid, identity.gid, identity.gid)
        needed = to_filter(self.wanted)
        if needed and identity.uid:
            door.prctl(flags.PR_SET_KEEPCAPS, 1)
        door.setresuid(identity.uid, identity.uid, identity.uid)
        # A change from root to another user has emptied the sets already, or what is effective;
        # this clears what is inheritable (and with it ambient) too.
        left = keep & self.host.permitted if identity.uid == 0 else 0
        door.capset(left | needed, left | needed, 0)
        if self.wanted.no_new_privileges:
            door.prctl(flags.PR_SET_NO_NEW_PRIVS, 1)
        # Fewer capabilities set the process dumpable again where /proc/sys/fs/suid_dumpable is 1
        # (proc_sys_fs(5)); a neighbour of its uid could trace it until the execve.
        door.prctl(flags.PR_SET_DUMPABLE, 0)

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


def to_filter(wanted: PayloadPlan) -> int:
    """The capability that seccomp(2) asks for where new privileges are possible, as a mask.

    It is the one that outlives the change of user; the execve takes it away, as it is not in the
    bounding set (of root), or is neither inheritable nor ambient (of others; capabilities(7)).
    """
    if wanted.filter and not wanted.no_new_privileges:
        return capabilities.SYS_ADMIN
    return 0


def go(process: Becoming, stages: Callable[[], None]) -> NoReturn:
    """Go through `stages` and become the payload, or report the one failure and end."""
    exit_code = 125
    try:
        stages()
        process.become()
    except InitRefused as refusal:
        exit_code = refusal.exit_code
        report(process.status, process.step, refusal.errno, str(refusal), exit_code)
    except OSError as error:
        words = f"{process.step}: {(error.strerror or str(error)).lower()}"
        if error.filename is not None:
            words += f": {os.fsdecode(error.filename)}"
        report(process.status, process.step, error.errno or 0, words, exit_code)
    except BaseException as fault:  # noqa: BLE001 - whatever it is, the supervisor must hear of it
        words = f"{process.step}: {type(fault).__name__}: {fault}"
        report(process.status, process.step, 0, words, exit_code)
    finally:
        os._exit(exit_code)


def report(status: int, step: str, code: int, words: str, exit_code: int) -> None:
    """Tell of the one failure over the status pipe."""
    if len(words) > _LONGEST_WORDS:
        # A command or a user can be long; who reads takes no more than a pipe holds. What is wrong
        # with it stands at the end.
        half = _LONGEST_WORDS // 2
        words = f"{words[:half]}…{words[-half:]}"
    values = {"step": step, "errno": code, "words": words, "exit_code": exit_code}
    # Not through the door: this is what tells of the door's failures.
    os.write(status, json_text.dump(values))
