"""Talking to the service manager that started us: ready, stopping, reloading, alive.

The protocol is a datagram of `NAME=value` lines to a unix socket (sd_notify(3)); the watchdog's
interval comes by the environment (sd_watchdog_enabled(3)). Where no manager has asked, nothing is
done. The variables stay in the environment: a supervisor that executes its successor needs them
there, and the shim is given none of ours.
"""

from __future__ import annotations

import faulthandler
import os
import socket
import time
from collections.abc import Callable, Mapping

import anyio
import structlog

from supervisor.counts import LAG

log = structlog.get_logger()

SEND_LIMIT_S = 2.0
"""How long a manager may keep us waiting for a word that must arrive."""


class Manager:
    """The service manager, or nobody.

    Attributes:
        watchdog_s: It kills us when it has heard nothing for so long; 0 where it does not watch.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Read what the manager has told by the environment."""
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address and self._address[0] not in "/@":
            # vsock is for whole machines (systemd 254).
            log.warning("service.notify_socket_unusable", address=self._address)
            self._address = ""
        self.watchdog_s = 0.0
        for_whom = environment.get("WATCHDOG_PID", str(os.getpid()))
        usec = environment.get("WATCHDOG_USEC", "0")
        if self._address and for_whom == str(os.getpid()) and usec.isdecimal():
            self.watchdog_s = int(usec) / 1e6

    @property
    def there(self) -> bool:
        """Whether somebody manages us, and so starts another one of us after our death."""
        return bool(self._address)

    def ready(self, words: str) -> None:
        """The socket listens and every container is known; also said after a reload."""
        self._send(f"READY=1\nSTATUS={words}\nMAINPID={os.getpid()}", SEND_LIMIT_S)

    def reloading(self) -> None:
        """We are about to execute our successor; `ready` follows."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS=upgrading", SEND_LIMIT_S)

    def stopping(self) -> None:
        """We end because we were asked to."""
        self._send("STOPPING=1\nSTATUS=stopping; containers go on", SEND_LIMIT_S)

    async def watchdog(self, words: Callable[[], str]) -> None:
        """Say for ever, twice in each interval, that the event loop runs; return if nobody asks.

        A loop that hangs is silent: then the manager ends us by SIGABRT, which prints where every
        thread was, and starts the next supervisor.

        Args:
            words: What to show as the service's status.
        """
        if not self.watchdog_s:
            return
        if not faulthandler.is_enabled():
            faulthandler.enable()
        due = anyio.current_time()
        while True:
            due += self.watchdog_s / 2
            await anyio.sleep_until(due)
            now = anyio.current_time()
            LAG.note(max(now - due, 0.0))
            due = now
            self._send(f"WATCHDOG=1\nSTATUS={words()}", 0)

    def _send(self, text: str, limit_s: float) -> None:
        """Send a datagram; a manager that does not take it within the limit goes without."""
        if not self._address:
            return
        address = os.fsencode(self._address)
        if address.startswith(b"@"):
            address = b"\0" + address[1:]  # an abstract one (unix(7))
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(limit_s)
                sender.sendto(text.encode(), address)
        except OSError as error:
            log.warning("service.manager_not_told", error=str(error), words=text.partition("\n")[0])
