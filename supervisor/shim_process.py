"""The shim as a process: connecting to it, launching it, seeing it end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path

import anyio
import structlog

from runtime import endings, shim_launch, shim_search

log = structlog.get_logger()

SOCKET_NAME = "shim.sock"
PID_NAME = "shim.pid"

CALL_LIMIT_S = 2.0
CALL_PAUSE_S = 0.01
"""How long a shim may take to make its socket anew, and how often we look."""

BURIAL_LIMIT_S = 5.0
"""How long a shim that has closed its connection may take to be gone."""


class ShimProcess:
    """The shim of a run directory, whichever it is at the moment.

    Attributes:
        connection: Non-blocking; None where there is none.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._pidfd = -1
        self._code = ""
        self.connection: socket.socket | None = None

    @property
    def log_path(self) -> Path:
        """Where it says what troubles it."""
        return self._run_dir / "shim.log"

    async def reach(self) -> None:
        """Connect to the one that listens, or to one that lives without a name, or launch one.

        Raises:
            ShimUnstartable: It can't be launched.
            OSError: It can't be reached.
        """
        try:
            self._connect()
        except ConnectionRefusedError:
            self.launch()
        except FileNotFoundError:
            if not await self._is_called_back():
                self.launch()

    async def _is_called_back(self) -> bool:
        """Whether one of this run directory lives whose names somebody has cleaned away."""
        if not shim_search.wake(self._run_dir):
            return False
        with anyio.move_on_after(CALL_LIMIT_S):
            while True:
                with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                    self._connect()
                    log.warning("shim.names_were_removed", run_dir=str(self._run_dir))
                    return True
                await anyio.sleep(CALL_PAUSE_S)
        log.error("shim.does_not_come_back", waited_s=CALL_LIMIT_S)
        return False

    def launch(self) -> None:
        """Launch one in place of whatever was there, and connect to it.

        Raises:
            ShimUnstartable: It can't be launched.
            OSError: It can't be reached.
        """
        pid = shim_launch.launch(self._run_dir)
        self.is_known(pid, shim_launch.code())
        log.info("shim.launched", pid=pid)
        self._connect()

    def is_known(self, pid: int, code: str) -> None:
        """It has said who it is."""
        self._code = code
        self._let_go()
        with contextlib.suppress(ProcessLookupError):
            self._pidfd = os.pidfd_open(pid)

    async def renew(self) -> None:
        """Kill it if its program is not the one that is installed, and that one runs.

        Raises:
            ShimUnstartable: The installed one doesn't; what is there goes on.
        """
        if self._pidfd >= 0 and self._code != shim_launch.code():
            await anyio.to_thread.run_sync(shim_launch.try_out)
            log.info("shim.renewed", old=self._code, new=shim_launch.code())
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def bury(self) -> None:
        """Wait until a dead one is wholly gone, and take its status if it is our child."""
        if self._pidfd < 0:
            return
        with anyio.move_on_after(BURIAL_LIMIT_S, shield=True):
            await anyio.wait_readable(self._pidfd)
        endings.bury(self._pidfd)
        self._let_go()

    def remove_names(self) -> None:
        """It has ended, and none follows: nothing of this name can be reached any more."""
        for name in (SOCKET_NAME, PID_NAME):
            with contextlib.suppress(OSError):
                (self._run_dir / name).unlink()

    def disconnect(self) -> None:
        """Close the connection."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def close(self) -> None:
        """Let go of it; it goes on."""
        self.disconnect()
        self._let_go()

    def _connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(str(self._run_dir / SOCKET_NAME))
        except OSError:
            connection.close()
            raise
        connection.setblocking(False)
        self.connection = connection

    def _let_go(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
