"""A process of a container that tries what it may do to another there. Run by test_runtime_exec.py.

    python -m tests.real.onlooker INIT [PID]

It enters the container of INIT (a pid on the host), and has the privileges of a payload's root
there. With PID, a number in there, it prints as JSON what it could take of that process. Without,
it watches for those that bear the shim's name until its stdin ends, tells in a line of the first
that refused it something, and prints what it could read of any: by then they have become something
else, or something is wrong.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import sys
from pathlib import Path

from runtime import capabilities, flags
from runtime.kernel import DOOR
from runtime.shim_protocol import SHIM_NAME
from runtime.spec import DEFAULT_CAPABILITIES

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
PTRACE_SEIZE = 0x4206
LINKS = ("root", "cwd", "exe", "ns/mnt", *(f"fd/{number}" for number in range(16)))


class Piece(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def link(pid: int, name: str) -> str:
    return os.readlink(f"/proc/{pid}/{name}")


def content(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def opened(pid: int, name: str) -> str:
    os.close(os.open(f"/proc/{pid}/{name}", os.O_RDONLY))
    return "opened"


def descriptor(pid: int, _name: str) -> str:
    pidfd = os.pidfd_open(pid)
    try:
        os.close(DOOR.pidfd_getfd(pidfd, 2))
    finally:
        os.close(pidfd)
    return "taken"


def memory(pid: int, _name: str) -> str:
    room = ctypes.create_string_buffer(1)
    ours, theirs = Piece(ctypes.addressof(room), 1), Piece(4096, 1)
    answer = LIBC.process_vm_readv(pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)
    # Nothing is at that address, and who may not read is told that first.
    if answer < 0 and ctypes.get_errno() != errno.EFAULT:
        raise OSError(ctypes.get_errno(), "process_vm_readv")
    return "read"


def trace(pid: int, _name: str) -> str:
    if LIBC.ptrace(PTRACE_SEIZE, pid, None, None) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    return "traced"


READS = {**dict.fromkeys(LINKS, link), "environ": content, "maps": content}
GRIPS = {
    **dict.fromkeys(("exe", "mem", "root/etc", "fd/3"), opened),
    "fdinfo/2": content,
    "auxv": opened,
    "pidfd_getfd": descriptor,
    "process_vm_readv": memory,
    "ptrace": trace,
}


def taken(pid: int, attempts: dict) -> tuple[list[tuple[str, str]], bool]:
    """What could be taken of a process, and whether anything was refused."""
    found, refused = [], False
    for name, attempt in attempts.items():
        try:
            found.append((name, attempt(pid, name)))
        except PermissionError:
            refused = True
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESRCH, errno.EBADF):
                raise
    return found, refused


def watch() -> list[tuple[str, str]]:
    seen, found = False, set()
    while not select.select([0], [], [], 0)[0]:
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            try:
                if content(pid, "comm").strip() != SHIM_NAME.decode():
                    continue
            except OSError:
                continue
            pieces, refused = taken(pid, READS)
            found |= set(pieces)
            if refused and not seen:
                seen = True
                print("seen", flush=True)
    return sorted(found)


def main(init: int, pid: int) -> None:
    pidfd = os.pidfd_open(init)
    DOOR.setns(pidfd, flags.OWN_NAMESPACES | flags.CLONE_NEWPID)
    os.close(pidfd)
    child = os.fork()
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    keep = capabilities.mask(DEFAULT_CAPABILITIES)
    DOOR.capset(keep, keep, 0)
    print(json.dumps(taken(pid, READS)[0] + taken(pid, GRIPS)[0] if pid else watch()), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
