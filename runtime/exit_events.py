"""Exits of processes that aren't ours, as the kernel's proc connector tells them.

For kernels that don't tell a status once somebody else has reaped the process (before 6.15, see
`runtime.endings`). Whoever holds containers that it is not the parent of listens before they end.
Source: linux/cn_proc.h, connector.h, netlink(7). Needs CAP_NET_ADMIN, the machine's own pid and
network namespaces, and CONFIG_PROC_EVENTS.

Every exit on the machine would be told, so a filter in the kernel (linux/filter.h, classic BPF)
lets through exits alone, no forks, execs and the rest.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct

# The C module, as in `runtime.shim_protocol`.
from _socket import AF_NETLINK, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOL_SOCKET, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

_NETLINK_CONNECTOR = 11
_CN_IDX_PROC = _CN_VAL_PROC = 1
_PROC_CN_MCAST_LISTEN = 1
_PROC_EVENT_EXIT = 0x80000000
_SO_ATTACH_FILTER = 26
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 4 << 20
_NLMSG_DONE = 3
_HEADERS = struct.Struct("=IHHII IIII HH")  # struct nlmsghdr, struct cn_msg
# struct proc_event: what, cpu, timestamp; of an exit: thread, process, exit_code
_EVENT = struct.Struct("=IIQ III")
_ANSWER_S = 0.5


class _Instruction(ctypes.Structure):
    """struct sock_filter."""

    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jt", ctypes.c_uint8),
        ("jf", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


class ExitEvents:
    """An ear at the kernel. Listens from the moment that it is made."""

    def __init__(self) -> None:
        """Begin to listen.

        Raises:
            OSError: This kernel has no proc connector, or we may not use it.
        """
        self._socket = socket(
            AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, _NETLINK_CONNECTOR
        )
        self._told: dict[int, int] = {}
        try:
            self._socket.setsockopt(SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
            self._socket.bind((0, _CN_IDX_PROC))
            self._ask()
            self._filter()
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Readable when an exit was told."""
        return self._socket.fileno()

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def hear(self, wanted: Container[int]) -> None:
        """Take in what was told; of all exits keep those of these processes."""
        while True:
            try:
                packet = self._socket.recv(4096)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    continue  # some were dropped: they will be known as unknown
                raise
            if len(packet) < _HEADERS.size + _EVENT.size:
                continue
            what, _, _, _, process, code = _EVENT.unpack_from(packet, _HEADERS.size)
            # Each thread is told. The last one's code is the process's (exit_group(2)).
            if what == _PROC_EVENT_EXIT and process in wanted:
                self._told[process] = code

    def wait(self, pid: int, seconds: float) -> int | None:
        """The status of a process that has ended a moment ago: the event follows upon the end."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        while pid not in self._told and poll.poll(seconds * 1000):
            self.hear((pid,))
        return self.take(pid)

    def take(self, pid: int) -> int | None:
        """wait(2)'s status as it was told, None if it was not; forgotten then."""
        return self._told.pop(pid, None)

    def _ask(self) -> None:
        length = _HEADERS.size + 4
        ids = (_CN_IDX_PROC, _CN_VAL_PROC, 0, 0)
        headers = _HEADERS.pack(length, _NLMSG_DONE, 0, 0, 0, *ids, 4, 0)
        self._socket.send(headers + struct.pack("=I", _PROC_CN_MCAST_LISTEN))
        # The answer is an event of no kind, whose first word is the errno.
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        while poll.poll(_ANSWER_S * 1000):
            what, _, _, code, _, _ = _EVENT.unpack_from(
                self._socket.recv(4096).ljust(_HEADERS.size + _EVENT.size, b"\0"), _HEADERS.size
            )
            if what == 0:
                if code:
                    raise OSError(code, os.strerror(code))
                return
        raise OSError(errno.ETIMEDOUT, "the proc connector does not answer")

    def _filter(self) -> None:
        # Loads are in network order, so the word is compared as its bytes stand in memory.
        word = int.from_bytes(_PROC_EVENT_EXIT.to_bytes(4, "little"), "big")
        word = word if struct.pack("=I", 1) == struct.pack("<I", 1) else _PROC_EVENT_EXIT
        lines = (
            (0x20, 0, 0, _HEADERS.size),  # BPF_LD | BPF_W | BPF_ABS: what
            (0x15, 0, 1, word),  # BPF_JMP | BPF_JEQ | BPF_K
            (0x06, 0, 0, 0xFFFFFFFF),  # BPF_RET: all of it
            (0x06, 0, 0, 0),  # BPF_RET: nothing
        )
        code = (_Instruction * len(lines))(*(_Instruction(*line) for line in lines))
        program = _Program(len(lines), code)
        self._socket.setsockopt(SOL_SOCKET, _SO_ATTACH_FILTER, bytes(program))
