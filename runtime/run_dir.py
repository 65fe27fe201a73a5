"""What the shim needs in RUN_DIR, made anew when somebody has cleaned it away.

A cleaner of temporary files, or an admin's `rm -rf`, takes names, not what is open: everything goes
on. But the next supervisor looks for the shim by a name, and without it would take it for dead and
end all containers.
"""

from __future__ import annotations

import _socket
import os
import select
import stat

from runtime.shim_setup import note_pid

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

BACKLOG = 8
_DELETED = " (deleted)"


def stay_reachable(
    listener: socket.socket, reserve: int, poll: select.epoll, complain: Callable[[str], None]
) -> None:
    """Have a socket, a log and a pid file in RUN_DIR, if the socket's name is gone.

    Args:
        listener: Listens by that name; keeps its descriptor.
        reserve: A duplicate of it; is one of the new socket then.
        poll: Where the listener is watched, and will be.
        complain: Is told what was done or was not possible.
    """
    path = listener.getsockname()
    if os.path.lexists(path):
        return
    parent = os.path.dirname(path)
    try:
        if not os.path.isdir(parent):
            os.mkdir(parent, 0o755)
        _listen(path, listener.fileno())
        # The old one is not watched any more when its last duplicate is closed (epoll(7)).
        poll.register(listener.fileno(), select.EPOLLIN)
        os.dup2(listener.fileno(), reserve, False)
    except OSError as error:
        complain(f"{path} was removed and can't be made anew: {error.strerror}")
        return
    follow_name(2)
    note_pid(parent)
    complain(f"{path} was removed, and is made anew")


def follow_name(fd: int) -> None:
    """Have the descriptor of a deleted log write to a new file of that name (proc(5), fd).

    Where that can't be made it goes on with the deleted one.
    """
    about = os.fstat(fd)
    if about.st_nlink or not stat.S_ISREG(about.st_mode):
        return
    path = os.readlink(f"/proc/self/fd/{fd}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        new = os.open(path.removesuffix(_DELETED), flags, 0o600)
    except OSError:
        return
    os.dup2(new, fd, os.get_inheritable(fd))
    os.close(new)


def _listen(path: str, fd: int) -> None:
    """Listen at `path` with a new socket, which takes this descriptor over."""
    new = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        os.fchmod(new.fileno(), 0o600)  # bind(2) makes the file with the socket's own mode
        new.bind(path)
        new.listen(BACKLOG)
        new.setblocking(False)
        os.dup2(new.fileno(), fd, False)
    finally:
        new.close()
