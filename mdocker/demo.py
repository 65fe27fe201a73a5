"""`make demo`: the main job, shown. A hundred containers started, followed, stopped.

    python -m mdocker.demo [N]

Runs an engine of its own, with root and run directory in temporary directories, and types the
commands that a person would type. At the end, also after Ctrl-C, it looks whether anything is
left on the machine, and says so. Exits with 1 if any step failed or anything is left.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mdocker.errors import BROKEN_PIPE, FAILED, INTERRUPTED
from mdocker.output import table, wants_colour

BIRD = (
    "trap 'echo bye; exit 0' TERM; n=0; "
    'while :; do n=$((n+1)); echo "chirp $n"; sleep 1 & wait; done'
)
DEAF = "trap '' TERM; while :; do echo 'I hear nothing'; sleep 1; done"
FOLLOW_S = 3
STOP_S = 2
GRACE_S = 10
"""How long the engine and the shim may take to end."""


class DemoFailed(Exception):
    """A step did not do what it was to do."""


class Demo:
    """One run of it.

    Attributes:
        failures: What went wrong, as lines for the end.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.failures: list[str] = []
        self.root = Path(tempfile.mkdtemp(prefix="mdocker-demo-"))
        # Where marks and sockets belong: a tmpfs, if there is one.
        fast = "/run" if os.access("/run", os.W_OK) else None
        self.run_dir = Path(tempfile.mkdtemp(prefix="mdocker-demo-", dir=fast))
        self.cgroup = ""
        self._environment = {
            **os.environ,
            "MDOCKER_ROOT": str(self.root),
            "MDOCKER_RUN_DIR": str(self.run_dir),
        }
        self._environment.pop("MDOCKER_HOST", None)

    def show(self) -> list[list[str]]:
        """Do the main job; return the closing table.

        Raises:
            DemoFailed: A step failed, so that the next ones make no sense.
        """
        self._type("images")
        idle = self._memory()
        began = time.monotonic()
        birds = self.count - 1
        self._type(
            *("run", "-d", "--name", "bird", "--replicas", str(birds), "host", "sh", "-c", BIRD),
            lines=2,
        )
        self._type("run", "-d", "--name", "deaf", "host", "sh", "-c", DEAF)
        started = time.monotonic() - began
        running = len(self._ask("ps", "-q").split())
        if running != self.count:
            self.failures.append(f"{running} of {self.count} containers run")
        self._remember_cgroup()
        self._type("ps", "-n", "3")
        followed = [f"bird-{number}" for number in range(1, min(3, birds) + 1)]
        self._follow(*followed, "deaf")
        full = self._memory()
        began = time.monotonic()
        self._type("stop", "--timeout", str(STOP_S), "--all", lines=3)
        stopped = time.monotonic() - began
        if left := self._ask("ps", "-q").split():
            self.failures.append(f"{len(left)} containers still run after the stop")
        self._check_exits()
        return [
            [f"{self.count} CONTAINERS", ""],
            ["started in", f"{started:.2f} s"],
            [
                "memory for each",
                f"{(full - idle) / self.count:.0f} KiB of the engine's "
                f"({idle / 1024:.1f} MiB idle, {full / 1024:.1f} MiB now)",
            ],
            ["stopped in", f"{stopped:.2f} s, one of them deaf to SIGTERM (timeout {STOP_S} s)"],
        ]

    def clean(self) -> None:
        """Remove the containers, end the engine, look for what is left."""
        with contextlib.suppress(DemoFailed):
            if self._pid("supervisor"):
                self._remember_cgroup()
                self._ask("rm", "--force", "--all")
        # The engine first; then the shim ends by itself, having nothing left to hold.
        for pid, words in self._processes():
            if b"\0daemon\0" in words:
                self._end(pid, ask=True)
        for pid, _ in self._processes():
            self._end(pid, ask=False)
        self._look_for_leftovers()
        for folder in (self.root, self.run_dir):
            shutil.rmtree(folder, ignore_errors=True)
            if folder.exists():
                self.failures.append(f"left behind: {folder}")

    def _start(self, words: Sequence[str], stdout: int | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "mdocker", *words],
            cwd=Path(__file__).parent.parent,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            text=True,
            stdout=stdout,
        )

    def _type(self, *words: str, lines: int | None = None) -> None:
        """Show a command and its output, or the first lines of it."""
        _echo(words)
        with self._start(words, stdout=subprocess.PIPE) as process:
            output, _ = process.communicate()
        shown = output.splitlines()
        if lines is not None and len(shown) > lines:
            shown = [*shown[:lines], f"… and {len(shown) - lines} more lines"]
        for line in shown:
            print(line, flush=True)
        if process.returncode:
            raise DemoFailed(f"'mdocker {words[0]}' failed with exit code {process.returncode}")

    def _ask(self, *words: str) -> str:
        """Run a command that is not shown."""
        with self._start(words, stdout=subprocess.PIPE) as process:
            output, _ = process.communicate()
        if process.returncode:
            raise DemoFailed(f"'mdocker {words[0]}' failed with exit code {process.returncode}")
        return output

    def _follow(self, *names: str) -> None:
        words = ("logs", "--follow", "--tail", "2", *names)
        _echo(words)
        with self._start(words) as process:
            try:
                process.wait(FOLLOW_S)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
                process.wait()
        if process.returncode != INTERRUPTED:
            raise DemoFailed(f"'mdocker logs' ended by itself, with {process.returncode}")

    def _check_exits(self) -> None:
        """The birds left by themselves, the deaf one had to be killed."""
        form = "{{.Name}} {{.State.ExitCode}}"
        code = self._ask("inspect", "--format", form, "bird-1", "deaf").split()
        if code != ["/bird-1", "0", "/deaf", "137"]:
            self.failures.append(f"the exit codes are not 0 and 137: {' '.join(code)}")

    def _pid(self, name: str) -> int:
        """Return the pid of one of our engine's processes, 0 if it does not live."""
        try:
            pid = int((self.run_dir / f"{name}.pid").read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return 0
        return pid if str(self.run_dir).encode() in words else 0

    def _memory(self) -> int:
        """Return what supervisor and shim use, in KiB: their proportional set size."""
        total = 0
        for name in ("supervisor", "shim"):
            pid = self._pid(name)
            if not pid:
                raise DemoFailed(f"the {name} does not run")
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        return total

    def _remember_cgroup(self) -> None:
        """Learn the name of our engine's cgroup from a container that runs."""
        if self.cgroup:
            return
        names = self._ask("ps", "-q", "-n", "1").split()
        if not names:
            return
        pid = self._ask("inspect", "--format", "{{.State.Pid}}", *names).strip()
        with contextlib.suppress(OSError):
            for part in Path(f"/proc/{pid}/cgroup").read_text().replace("\n", "/").split("/"):
                if part.startswith("mdocker-"):
                    self.cgroup = part

    def _processes(self) -> list[tuple[int, bytes]]:
        """Find our engine's processes by their command lines, also one that has no pid file yet."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes()
                    if str(self.run_dir).encode() in words:
                        found.append((int(entry.name), words))
        return found

    def _end(self, pid: int, *, ask: bool) -> None:
        """Wait until a process has ended; ask it to first, and kill it if it does not."""
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        if ask:
            signal.pidfd_send_signal(handle, signal.SIGTERM)
        if not poller.poll(GRACE_S * 1000):
            self.failures.append(f"process {pid} did not end within {GRACE_S} s: killed")
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            poller.poll()
        os.close(handle)

    def _look_for_leftovers(self) -> None:
        for pid, _ in self._processes():
            self.failures.append(f"left behind: process {pid}")
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if str(self.root) in line or str(self.run_dir) in line:
                self.failures.append(f"left behind: mount {line.split()[4]}")
        if self.cgroup:
            trees = (f"sys/fs/cgroup/{self.cgroup}", f"sys/fs/cgroup/*/{self.cgroup}")
            for cgroup in (found for tree in trees for found in Path("/").glob(tree)):
                self.failures.append(f"left behind: cgroup {cgroup}")
        containers = self.root / "containers"
        if containers.is_dir() and any(containers.iterdir()):
            self.failures.append(f"left behind: container directories in {containers}")


def _echo(words: Sequence[str]) -> None:
    bold, plain = ("\x1b[1m", "\x1b[0m") if wants_colour(1) else ("", "")
    print(f"\n{bold}$ {shlex.join(('mdocker', *words))}{plain}", flush=True)


def main() -> int:
    """Show it; return the exit code."""
    if os.geteuid() != 0:
        print("the demo runs real containers, so it needs root", file=sys.stderr)
        return 1
    try:
        count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    except ValueError:
        count = 0
    if count < 2:
        print("usage: python -m mdocker.demo [NUMBER OF CONTAINERS, 2 at least]", file=sys.stderr)
        return 1
    # To be told to end is as good as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    demo = Demo(count)
    code = 0
    rows: list[list[str]] = []
    try:
        rows = demo.show()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except (DemoFailed, OSError) as error:
        demo.failures.append(str(error))
    finally:
        # A second Ctrl-C must not keep us from cleaning up.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        demo.clean()
    try:
        _tell(demo, rows)
    except BrokenPipeError:
        return BROKEN_PIPE
    return code or (FAILED if demo.failures else 0)


def _tell(demo: Demo, rows: list[list[str]]) -> None:
    if rows:
        print(f"\n{table(rows)}", end="")
    for failure in demo.failures:
        print(failure, file=sys.stderr)
    if not demo.failures:
        print("nothing is left behind: no process, no cgroup, no mount, no directory", flush=True)


if __name__ == "__main__":
    sys.exit(main())
