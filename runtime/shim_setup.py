"""What the shim does to its own process before it serves: names, signals, limits, descriptors."""

from __future__ import annotations

# The C module of `signal`, which imports enum.
import _signal  # type: ignore[import-not-found]  # typeshed has none
import errno
import fcntl
import os
import resource

from runtime import capabilities, flags, native, oom_score, scheduling
from runtime.becoming import FIRST_FREE_FD, Host
from runtime.kernel import DOOR
from runtime.shim_protocol import SHIM_NAME

_PAYLOAD_SOFT_NOFILE = 1024
_GLIBC_SIGNALS = (32, 33)
_UNWANTED_SIGNALS = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT)


def fit_out() -> Host:
    """Make this process fit to be a shim, and note what its inits have to set back."""
    DOOR.set_name(SHIM_NAME)
    DOOR.prctl(flags.PR_SET_DUMPABLE, 0)
    scheduling.be_prompt()
    _leave_session_keyring()
    os.umask(0o022)  # the payload inherits it
    os.chdir("/")
    # A parent that ignores SIGCHLD would make our children vanish unreaped.
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    for number in _UNWANTED_SIGNALS:
        _signal.signal(number, _signal.SIG_IGN)
    for number in _GLIBC_SIGNALS:
        DOOR.default_signal(number)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    ignored = [
        number
        for number in range(1, _signal.NSIG)
        if number not in (_signal.SIGKILL, _signal.SIGSTOP)
        and _signal.getsignal(number) == _signal.SIG_IGN
    ]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with open("/proc/self/status") as file:
        status = file.read()
    return Host(
        ignored_signals=ignored,
        bounding=capabilities.status_mask(status, "CapBnd"),
        permitted=capabilities.status_mask(status, "CapPrm"),
        nofile=(min(_PAYLOAD_SOFT_NOFILE, hard), hard),
        oom_score_adj=oom_score.spare_us(),
    )


def _leave_session_keyring() -> None:
    """Let containers have no session keyring of somebody's (keyrings(7)), nor share one to write.

    Whoever started the engine may hold secrets in the keyring of the login session. Each container
    would inherit it, so they get an empty one, without a single permission for anybody.
    """
    try:
        DOOR.keyctl(flags.KEYCTL_JOIN_SESSION_KEYRING, 0, 0)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            return  # a kernel without keys
        raise
    DOOR.keyctl(flags.KEYCTL_SETPERM, flags.KEY_SPEC_SESSION_KEYRING, 0)


def note_pid(run_dir: str) -> None:
    """Write RUN_DIR/shim.pid, at one stroke: whoever reads it finds the old number or the new one.

    A disk without room takes it from us, and no more: the supervisor knows us without it.
    """
    path = f"{run_dir}/shim.pid"
    try:
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, b"%d\n" % os.getpid())
        finally:
            os.close(fd)
        os.rename(f"{path}.new", path)
    except OSError as error:
        os.write(2, f"mdocker-shim: write {path}: {error.strerror}\n".encode())


def reserve_low_descriptors(listener_fd: int) -> tuple[int, int]:
    """Move the listener up, and fill what inits need for themselves below `FIRST_FREE_FD`.

    Returns the listener and the end where faults are read (`runtime.native`).
    """
    moved: int = fcntl.fcntl(listener_fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD)
    if moved > FIRST_FREE_FD:
        DOOR.close_range(FIRST_FREE_FD, moved - 1, 0)
    DOOR.close_range(moved + 1, 2**31 - 1, 0)
    for fd in range(3, FIRST_FREE_FD):
        os.dup2(0, fd, False)
    faults, faults_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(faults_w, True)
    os.dup2(faults_w, native.FAULT_FD, False)
    os.close(faults_w)
    return moved, faults
