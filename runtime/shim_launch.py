"""Starting the shim, from the supervisor's side."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

from runtime import flags, shim_protocol
from runtime.becoming import FIRST_FREE_FD
from runtime.errors import ShimUnstartable
from runtime.kernel import DOOR
from runtime.run_dir import BACKLOG

_CHECKOUT = Path(__file__).resolve().parent.parent
# -I -S -E: nothing of the caller's environment or site-packages, which would only cost memory.
# LC_ALL: no locale files mapped (file names are UTF-8 all the same, by PEP 540).
# LD_BIND_NOW: symbols are looked up once here and not again in each fork.
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "LD_BIND_NOW": "1"}
_TRIAL_S = 15.0
_PROGRAM = "import sys; sys.path.insert(0, sys.argv[3]); from runtime.shim import main; main()"


def launch(run_dir: Path, *, fast: bool = True) -> int:
    """Start the shim detached, its socket RUN_DIR/shim.sock already listening; returns its pid.

    The shim is the caller's child, in a session of its own, with nothing open but /dev/null,
    RUN_DIR/shim.log and the socket. It writes its pid to RUN_DIR/shim.pid itself, as the caller may
    die any moment. The caller reaps it.
    Without `fast` every init is a Python one (`runtime.native`).

    Raises:
        ShimUnstartable: the socket can't be made, or the process can't be started.
    """
    path = run_dir / "shim.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        path.unlink(missing_ok=True)
        # bind(2) makes the file with the socket's own mode.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(path))
        listener.listen(BACKLOG)
        pid = _start(run_dir, listener.fileno(), "fast" if fast else "plain")
    except OSError as error:
        raise ShimUnstartable(f"can't start the shim in {run_dir}: {error}") from error
    finally:
        listener.close()
    return pid


def try_out() -> None:
    """Start a shim in a directory of its own, have it answer, and end it; it holds nothing.

    Raises:
        ShimUnstartable: It does not answer; its own last words are told.
    """
    with tempfile.TemporaryDirectory(prefix="mdocker-check-") as place:
        run_dir = Path(place)
        pid = launch(run_dir)
        try:
            answered = _answers(run_dir)
        finally:
            # It holds nothing, so there is nothing that it could end in an orderly way.
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        if not answered:
            said = (run_dir / "shim.log").read_text(errors="replace").strip().splitlines()
            words = said[-1] if said else "it says nothing"
            raise ShimUnstartable(f"its shim does not answer: {words}")


def _answers(run_dir: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(_TRIAL_S)
        try:
            connection.connect(str(run_dir / "shim.sock"))
            shim_protocol.send_packet(connection, *shim_protocol.encode(shim_protocol.Adopt()))
            return isinstance(shim_protocol.receive(connection), shim_protocol.AdoptEnd)
        except (OSError, shim_protocol.ProtocolFault):
            return False


@functools.cache
def code() -> str:
    """Names the program that `launch` runs: another name, another version of it."""
    folder = Path(__file__).parent
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        about = path.stat()
        found.update(f"{path.name} {about.st_size} {about.st_mtime_ns}\n".encode())
    return found.hexdigest()[:16]


def _start(run_dir: Path, listener_fd: int, how: str) -> int:
    log = os.open(
        run_dir / "shim.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
    )
    program = -1
    try:
        program = _sealed_program()
        arguments = ["-I", "-S", "-E", "-c", _PROGRAM, str(run_dir), "3", str(_CHECKOUT), how]
        arguments.append(code())
        return os.posix_spawn(
            sys.executable if program < 0 else f"/proc/self/fd/{program}",
            [sys.executable, *arguments],
            _ENVIRONMENT,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 2),
                (os.POSIX_SPAWN_DUP2, listener_fd, 3),
            ],
            setsid=True,
        )
    finally:
        os.close(log)
        if program >= 0:
            os.close(program)


def _sealed_program() -> int:
    """Our interpreter on a read-only mount that nobody else has; -1 where there is none to be had.

    A container can execute its /proc/self/exe, which is ours until then, and keep that file open
    (CVE-2019-5736). Nobody can write to it while one of us runs; a container may outlive us.
    Only on the root's own file system: elsewhere the path that the kernel tells of such a mount's
    file would miss its beginning, and where an interpreter is may be what finds its libraries
    ($ORIGIN, ld.so(8)).
    """
    path = os.path.realpath(sys.executable)
    try:
        root = DOOR.open_tree(b"/", flags.OPEN_TREE_CLONE | flags.OPEN_TREE_CLOEXEC)
        try:
            DOOR.mount_setattr(root, flags.MOUNT_ATTR_RDONLY, flags.MS_PRIVATE)
            found = os.open(path.lstrip("/"), os.O_PATH | os.O_CLOEXEC, dir_fd=root)
        finally:
            os.close(root)
    except OSError:
        return -1  # before Linux 5.12, or it is on another file system
    try:
        if not os.path.samestat(os.fstat(found), os.stat(path)):
            return -1
        # Above what the child puts in place before its execve.
        program: int = fcntl.fcntl(found, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD)
        return program
    finally:
        os.close(found)
