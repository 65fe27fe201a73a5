"""A shim of the test's own, and containers in it, without any of the supervisor's code."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
from itertools import count
from pathlib import Path

import pytest

from runtime import kernel, shim_launch
from runtime import shim_protocol as protocol
from runtime.cgroups import Cgroups, Limits
from runtime.spec import Spec

BUSYBOX = Path("/bin/busybox")
_NUMBERS = count()


def busybox_tree(directory: Path) -> Path:
    """An unpacked root of busybox with two users, and files that can't be executed."""
    bare_tree(directory)
    (directory / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nbird:x:1234:5678::/nest:/bin/sh\n"
    )
    (directory / "etc/group").write_text("root:x:0:\nbird:x:5678:\nflock:x:999:bird\n")
    (directory / "plain").write_text("no program\n")
    for name, text in (("no-format", "echo hi\n"), ("no-interpreter", "#!/nowhere/sh\n")):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    (directory / "closed").mkdir(mode=0o700)
    return directory


def bare_tree(directory: Path) -> None:
    """A root of busybox, without users."""
    if not BUSYBOX.exists():
        pytest.skip("needs /bin/busybox (apt-get install busybox-static)")
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev"):
        (directory / name).mkdir(parents=True)
    shutil.copy2(BUSYBOX, directory / "bin/busybox")
    for applet in subprocess.check_output([BUSYBOX, "--list"], text=True).split():
        if applet != "busybox":
            (directory / "bin" / applet).symlink_to("busybox")


class Process:
    """A process that the shim was asked for: our ends of its pipes, and what the shim said."""

    def __init__(self, driver: ShimDriver, its_id: str) -> None:
        self.id = its_id
        self.pid = 0
        self.pidfd = -1
        self.refused: protocol.SpawnRefused | protocol.ExecRefused | None = None
        self._driver = driver
        self._ends: dict[str, int] = {}

    def pipes(self) -> tuple[int, int, int]:
        """Make its pipes; its own ends are the caller's: status, stdout, stderr."""
        theirs = []
        for name in ("status", "stdout", "stderr"):
            self._ends[name], write = os.pipe()
            theirs.append(write)
        return tuple(theirs)

    def end_of(self, name: str) -> int:
        """Our end of a pipe."""
        return self._ends[name]

    def answered(self, message: protocol.Message) -> None:
        """Take over what the shim said."""
        assert message.id == self.id
        if isinstance(message, protocol.SpawnRefused | protocol.ExecRefused):
            self.refused = message
        else:
            self.pid, self.pidfd = message.pid, message.pidfd

    def failure(self) -> dict | None:
        """Its report of a step that failed, None once it has become what was asked for."""
        text = self._read("status")
        return json.loads(text) if text else None

    def output(self) -> str:
        """All of stdout, at its end."""
        return self._read("stdout").decode()

    def errors(self) -> str:
        """All of stderr, at its end."""
        return self._read("stderr").decode()

    def readline(self) -> str:
        """One line of stdout."""
        line = b""
        while not line.endswith(b"\n") and (byte := os.read(self._ends["stdout"], 1)):
            line += byte
        return line.decode()

    def close(self) -> None:
        for fd in (*self._ends.values(), self.pidfd):
            if fd >= 0:
                os.close(fd)
        self._ends = {}
        self.pidfd = -1

    def _read(self, name: str) -> bytes:
        parts = []
        while part := os.read(self._ends[name], 65536):
            parts.append(part)
        return b"".join(parts)


class Started(Process):
    """A container's init."""

    def kill(self, number: int = signal.SIGKILL) -> None:
        signal.pidfd_send_signal(self.pidfd, number)

    def exited(self) -> protocol.Exited:
        """The shim's word that it has ended."""
        return self._driver.exit_of(self.id)

    def status(self) -> int:
        """wait(2)'s status, once it has ended."""
        return self.exited().wait_status


class ShimDriver:
    """Launches a shim and talks to it. `close` checks that nothing is left."""

    def __init__(self, directory: Path, lower: Path, *, fast: bool = True) -> None:
        self.run_dir = directory / "run"
        self.run_dir.mkdir(parents=True)
        self._fds = len(os.listdir("/proc/self/fd"))
        self._directory = directory
        self.lower = lower
        self.fast = fast
        self._exits: dict[str, protocol.Exited] = {}
        self._started: dict[str, Started] = {}
        self.exec_exits: dict[str, protocol.ExecExited] = {}
        self.cgroups = Cgroups.detect(f"mdocker-driver{os.getpid()}-{next(_NUMBERS)}")
        self.pid = shim_launch.launch(self.run_dir, fast=fast)
        self.ended: int | None = None
        self.socket = self.connect()
        self.adopt()  # once it answers it is set up

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(str(self.run_dir / "shim.sock"))
        return connection

    def reconnect(self) -> None:
        """Be a supervisor that dies, and the next one."""
        self.socket.close()
        self.socket = self.connect()
        self._exits.clear()

    def home(self, container_id: str) -> Path:
        """Where its writable layer is."""
        return self._directory / container_id

    def spec(
        self, container_id: str, *args: str, limits: Limits | None = None, rules=None, **more
    ) -> Spec:
        """A spec with directories and cgroup made."""
        home = self.home(container_id)
        for name in ("upper", "work", "merged"):
            (home / name).mkdir(parents=True, exist_ok=True)
        values = {
            "hostname": container_id,
            "lower": (str(self.lower),),
            "cgroup": self.cgroups.create(container_id, limits or Limits(), devices=rules),
        }
        return Spec(
            id=container_id,
            args=args,
            upper=str(home / "upper"),
            work=str(home / "work"),
            merged=str(home / "merged"),
            **{**values, **more},
        )

    def send_spawn(self, spec: Spec) -> Started:
        """Ask for a start; `answer` takes the reply."""
        fd = kernel.memfd_sealed("spec", spec.to_json())
        started = self._started[spec.id] = Started(self, spec.id)
        theirs = started.pipes()
        ours = started.end_of("stdout"), started.end_of("stderr")
        protocol.send(self.socket, protocol.Spawn(spec.id, fd, *theirs, *ours, ()))
        for end in (fd, *theirs):
            os.close(end)
        return started

    def answer(self, started: Started) -> Started:
        """Wait for Spawned or SpawnRefused."""
        started.answered(self.receive(protocol.Spawned, protocol.SpawnRefused))
        return started

    def start(self, *args: str, limits: Limits | None = None, **more) -> Started:
        """Start a container under a fresh id; `rules` are those of devices."""
        spec = self.spec(f"c{next(_NUMBERS)}", *args, limits=limits, **more)
        return self.answer(self.send_spawn(spec))

    def run(self, script: str, **more) -> str:
        """What a shell script in a container prints; it must end with 0."""
        started = self.start("sh", "-c", script, **more)
        assert started.failure() is None
        output = started.output()
        assert started.status() == 0, started.errors()
        return output

    def receive(self, *kinds: type[protocol.Message]) -> protocol.Message:
        """The next message of these kinds; exits that come before are kept for `exit_of`."""
        while True:
            message = protocol.receive(self.socket)
            assert message is not None, "the shim hung up"
            if isinstance(message, kinds):
                return message
            if isinstance(message, protocol.ExecExited):
                self.exec_exits[message.id] = message
                continue
            if isinstance(message, protocol.Execed):
                os.close(message.pidfd)  # what follows one that has entered apart
                continue
            assert isinstance(message, protocol.Exited)
            self._exits[message.id] = message

    def exit_of(self, container_id: str) -> protocol.Exited:
        while container_id not in self._exits:
            message = self.receive(protocol.Exited)
            self._exits[message.id] = message
        return self._exits[container_id]

    def adopt(self) -> tuple[dict[str, protocol.Adopted], dict[str, protocol.Held]]:
        """Everything the shim holds, told anew; the descriptors are the caller's."""
        protocol.send(self.socket, protocol.Adopt())
        adopted, held = {}, {}
        kinds = (protocol.Adopted, protocol.Held, protocol.AdoptEnd)
        while not isinstance(message := self.receive(*kinds), protocol.AdoptEnd):
            if isinstance(message, protocol.Adopted):
                adopted[message.id] = message
            else:
                held[message.name] = message
        assert message.count == len(adopted)
        return adopted, held

    def shim_fds(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def host_mounts(self) -> list[str]:
        """Lines of the host's mount table that speak of this driver's containers."""
        table = Path("/proc/self/mountinfo").read_text()
        return [line for line in table.splitlines() if str(self._directory) in line]

    def children(self) -> set[int]:
        """Pids of the shim's children, zombies too."""
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return {int(pid) for pid in text.split()}

    def forget(self, started: Started) -> None:
        """End a container if it still runs, and let the shim drop it."""
        if started.pidfd >= 0:
            if started.id not in self._exits:
                with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
                    started.kill()
                started.exited()
            protocol.send(self.socket, protocol.Forget(started.id))
        started.close()
        self.cgroups.remove(started.id)
        self._started.pop(started.id, None)

    def forget_all(self) -> None:
        for started in list(self._started.values()):
            self.forget(started)

    def wait_shim(self) -> int:
        """The shim's wait status, once it has ended by itself."""
        if self.ended is None:
            self.ended = os.waitpid(self.pid, 0)[1]
        return self.ended

    def close(self) -> None:
        """End all; then there is no process, cgroup, mount or descriptor left."""
        try:
            if self.ended is None:
                self.forget_all()
                assert self.children() == set()
                protocol.send(self.socket, protocol.Quit())
                assert self.wait_shim() == 0
                assert (self.run_dir / "shim.log").read_text() == ""
        finally:
            self.socket.close()
            if self.ended is None:
                os.kill(self.pid, signal.SIGKILL)
                self.wait_shim()
            self.cgroups.remove_parent()
        trees = (self.cgroups.trees.unified, *self.cgroups.trees.v1.values())
        left = [tree / self.cgroups.parent for tree in trees]
        assert [path for path in left if path.exists()] == []
        assert self.host_mounts() == []
        assert len(os.listdir("/proc/self/fd")) == self._fds
