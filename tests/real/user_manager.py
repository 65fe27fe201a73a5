"""A real systemd of the test's own: a user's manager, run as root, beside whatever runs here.

It needs no boot: a mount namespace in which /run says that systemd runs, a runtime directory and a
cgroup in each tree that systemd uses. Its services are in that mount namespace too.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
from pathlib import Path

PROGRAM = Path("/lib/systemd/systemd")
_TREES = [Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")]
_PRELUDE = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
for group in "$@"; do echo $$ > "$group/cgroup.procs"; done
exec /lib/systemd/systemd --user --log-target=console --log-level=info
"""


def missing() -> str:
    """Why there can be no such manager here, empty if there can."""
    if not PROGRAM.exists():
        return "needs systemd's program (apt-get install systemd)"
    if os.geteuid() != 0:
        return "needs root"
    return "" if _trees() else "needs a cgroup tree for systemd"


def _trees() -> list[Path]:
    return [tree for tree in _TREES if (tree / "cgroup.procs").exists()][:2]


def _kill_all(group: Path) -> None:
    """End what a failed test has left in a service; returns when it has ended."""
    for procs in group.glob("**/cgroup.procs"):
        for pid in procs.read_text().split():
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(int(pid))
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                select.select([pidfd], [], [], 5)
                os.close(pidfd)


class UserManager:
    """`systemd --user`, its units below `base`/units."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.runtime = base / "xdg"
        self.units = base / "config" / "systemd" / "user"
        self.log = base / "systemd.log"
        self._groups = [tree / f"mdocker-test-{os.getpid()}" for tree in _trees()]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.base),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "XDG_CONFIG_HOME": str(self.base / "config"),
            "SYSTEMD_COLORS": "0",
        }

    def start(self) -> UserManager:
        self.runtime.mkdir(mode=0o700, parents=True)
        self.units.mkdir(parents=True)
        for group in self._groups:
            group.mkdir()
        with self.log.open("wb") as log, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            # It says that it is ready as our own supervisor does.
            ready.bind(str(self.base / "ready"))
            ready.settimeout(15)
            self._process = subprocess.Popen(
                ["unshare", "--mount", "bash", "-c", _PRELUDE, "prelude", *self._groups],
                env={**self.environment, "NOTIFY_SOCKET": str(self.base / "ready")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            told = b""
            while b"READY=1" not in told:
                try:
                    told = ready.recv(4096)
                except TimeoutError:
                    raise AssertionError(f"no manager: {self.log.read_text()}") from None
        return self

    def ctl(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """systemctl --user."""
        done = subprocess.run(
            ["systemctl", "--user", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if check:
            assert done.returncode == 0, (words, done.stderr, self.log.read_text()[-3000:])
        return done

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        told = self.ctl("show", unit, *(f"--property={name}" for name in properties)).stdout
        return dict(line.split("=", 1) for line in told.splitlines() if "=" in line)

    def close(self) -> None:
        """End it, with all that it started."""
        if self._process is not None and self._process.poll() is None:
            # SIGRTMIN+24 ends a user's manager at once (systemd(1)).
            self._process.send_signal(signal.SIGRTMIN + 24)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for group in self._groups:
            _kill_all(group)
        for group in self._groups:
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(FileNotFoundError):
                    os.rmdir(folder)
