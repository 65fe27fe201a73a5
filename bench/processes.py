"""Looking at processes from outside: memory, CPU time, and waiting for their end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from bench.harness import BenchError

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def pss_kib(pid: int) -> int:
    """The proportional set size of a process in KiB (proc(5), smaps_rollup); 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


def cpu_ns(pid: int) -> int:
    """The CPU time a process took so far, in ns; 0 when it is gone.

    From the scheduler's own account where the kernel keeps one (proc(5), schedstat), since the
    ticks of /proc/PID/stat are 10 ms, as long as an idle engine works in a minute. The time of
    threads that ended is only in the ticks, so the larger one is told.
    """
    exact = 0
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            exact += int((task / "schedstat").read_text().split()[0])
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return exact
    ticks = (int(fields[11]) + int(fields[12])) * _TICK_NS
    return exact if exact and ticks <= exact + _TICK_NS else max(exact, ticks)


def total(measure: Callable[[int], int], pids: Iterable[int]) -> int:
    """The sum of a measure over processes."""
    return sum(measure(pid) for pid in pids)


def all_pids() -> Iterator[int]:
    """Every process of the machine."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            yield int(entry.name)


def command_line(pid: int) -> list[str]:
    """The arguments of a process; empty for a kernel thread or one that is gone."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return raw.rstrip(b"\0").decode(errors="replace").split("\0") if raw else []


def tagged(tag: str, name: str | None = None) -> list[int]:
    """The processes with `tag` in an argument, whose program is called `name` if that is given.

    The tag is the path of a directory that only this run uses, so these are ours.
    """
    found = []
    for pid in all_pids():
        arguments = command_line(pid)
        if not any(tag in argument for argument in arguments) or pid == os.getpid():
            continue
        if name is None or Path(arguments[0]).name == name:
            found.append(pid)
    return found


def parent(pid: int) -> int:
    """The parent of a process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def children(pid: int) -> list[int]:
    """The children of a process."""
    return [other for other in all_pids() if parent(other) == pid]


def wait_gone(pids: Iterable[int], timeout: float) -> list[int]:
    """Waits until the processes are gone, at most `timeout` seconds; returns those that stay."""
    deadline = time.monotonic() + timeout
    waiting: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            waiting[os.pidfd_open(pid)] = pid
    poll = select.poll()
    for descriptor in waiting:
        poll.register(descriptor, select.POLLIN)
    try:
        while waiting and (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(left * 1000):
                poll.unregister(descriptor)
                os.close(descriptor)
                del waiting[descriptor]
        return list(waiting.values())
    finally:
        for descriptor in waiting:
            os.close(descriptor)


def end(pids: Iterable[int], timeout: float = 5.0) -> None:
    """SIGTERM, then SIGKILL for what is still there after `timeout` seconds."""
    ending = list(pids)
    for number, patience in ((signal.SIGTERM, timeout), (signal.SIGKILL, 5.0)):
        for pid in ending:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        ending = wait_gone(ending, patience)
        if not ending:
            return
    raise BenchError(f"processes that even SIGKILL does not end: {ending}")


def run(
    command: Sequence[str],
    *,
    env: dict[str, str] | None = None,
    enter: Callable[[], None] | None = None,
    timeout: float = 120.0,
    cwd: Path | None = None,
) -> bytes:
    """Runs a command to its end and returns its output; BenchError with its words if it fails."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=env,
            preexec_fn=enter,
            timeout=timeout,
            check=False,
            cwd=cwd,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{' '.join(command[:6])}: still running after {timeout} s") from error
    if done.returncode:
        words = (done.stderr or done.stdout).decode(errors="replace").strip() or "no words"
        raise BenchError(f"{' '.join(command[:6])}: exit code {done.returncode}: {words[-600:]}")
    return done.stdout


def run_many(
    commands: Sequence[Sequence[str]],
    at_once: int,
    *,
    env: dict[str, str] | None = None,
    enter: Callable[[], None] | None = None,
    timeout: float = 300.0,
) -> float:
    """Runs the commands, `at_once` at a time, and returns the seconds it took.

    Raises BenchError when one fails or the time is up; none is left running.
    """
    begun = time.monotonic()
    waiting, running = list(reversed(commands)), {}
    poll = select.poll()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                process = subprocess.Popen(
                    waiting.pop(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env=env,
                    preexec_fn=enter,
                )
                descriptor = os.pidfd_open(process.pid)
                running[descriptor] = process
                poll.register(descriptor, select.POLLIN)
            left = begun + timeout - time.monotonic()
            ended = poll.poll(max(left, 0) * 1000)
            if not ended:
                raise BenchError(f"{len(running)} commands still running after {timeout} s")
            for descriptor, _ in ended:
                poll.unregister(descriptor)
                os.close(descriptor)
                process = running.pop(descriptor)
                words = process.communicate()[1].decode(errors="replace").strip()
                if process.returncode:
                    raise BenchError(f"exit code {process.returncode}: {words[-600:]}")
        return time.monotonic() - begun
    finally:
        for descriptor, process in running.items():
            os.close(descriptor)
            process.kill()
            process.communicate()
