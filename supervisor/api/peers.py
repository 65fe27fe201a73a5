"""Who is at the other end of a connection: by the kernel's word, or by a certificate."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import msgspec

_UCRED = struct.Struct("3i")
_LONGEST = 200


class Peer(msgspec.Struct, frozen=True):
    """A client.

    Attributes:
        pid: Its process, as seen from here, when it connected (SO_PEERCRED, unix(7)); 0 for one
            that is outside of our pid namespace, and for who came by TLS.
        uid: Its user when it connected; None for who came by TLS.
        gid: Its group when it connected.
        subject: What its certificate calls it; "" on a unix socket.
        address: Where it came from; "" on a unix socket.
    """

    pid: int = 0
    uid: int | None = None
    gid: int | None = None
    subject: str = ""
    address: str = ""

    @property
    def who(self) -> str:
        """Whom what it does counts for, in words."""
        return f"certificate {self.subject}" if self.uid is None else f"uid {self.uid}"

    @property
    def is_root(self) -> bool:
        """Whether it is this machine's root by the kernel's word."""
        return self.uid == 0

    def told(self) -> dict[str, str | int]:
        """It, for the log, with the name of its process as far as that still lives.

        A process may call itself what it likes.
        """
        if self.uid is None:
            return {"subject": shown(self.subject), "address": self.address}
        return {"pid": self.pid, "uid": self.uid, "gid": self.gid or 0, "comm": _comm(self.pid)}


def of_unix(connected: socket.socket) -> Peer:
    """The peer of a unix socket."""
    told = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(told)
    return Peer(pid, uid & 0xFFFFFFFF, gid & 0xFFFFFFFF)  # they are unsigned


def shown(text: str) -> str:
    """A stranger's words, for the log: on one line, none of a terminal's commands, not for ever."""
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _comm(pid: int) -> str:
    try:
        return shown(Path(f"/proc/{pid}/comm").read_bytes().decode(errors="replace").rstrip("\n"))
    except OSError:
        return ""
