"""Processes as `ps -ef` shows them, read from /proc: for machines that have no ps (proc(5))."""

from __future__ import annotations

import os
import pwd
import time

from runtime import process_stat

TITLES = ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")

_HERTZ = os.sysconf("SC_CLK_TCK")
_PTS_MAJORS = range(136, 144)
_DAY_S = 86400


def rows(pids: set[int]) -> list[tuple[str, ...]]:
    """A row for each process that is still there, by pid."""
    now = time.time()
    boot = now - time.clock_gettime(time.CLOCK_BOOTTIME)
    found = []
    for pid in sorted(pids):
        try:
            found.append(_row(pid, now, boot))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
    return found


def _row(pid: int, now: float, boot: float) -> tuple[str, ...]:
    fields = process_stat.fields(pid)
    used_s = (
        int(fields[process_stat.USER_TICKS]) + int(fields[process_stat.SYSTEM_TICKS])
    ) / _HERTZ
    began = boot + int(fields[process_stat.START_TICKS]) / _HERTZ
    lived_s = max(now - began, 1 / _HERTZ)
    return (
        _user(pid),
        str(pid),
        fields[process_stat.PARENT].decode(),
        str(min(int(used_s * 100 / lived_s), 99)),
        _began(began, now),
        _terminal(int(fields[process_stat.TERMINAL])),
        _used(int(used_s)),
        _command(pid),
    )


def _user(pid: int) -> str:
    """Whose rights it has; the owner of its directory is root's where it is not dumpable."""
    with open(f"/proc/{pid}/status", "rb") as file:
        uid = next(int(line.split()[2]) for line in file if line.startswith(b"Uid:"))
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _began(began: float, now: float) -> str:
    """The time of this day, the day of this year, or the year."""
    when, today = time.localtime(began), time.localtime(now)
    if now - began < _DAY_S and when.tm_mday == today.tm_mday:
        return time.strftime("%H:%M", when)
    return time.strftime("%b%d" if when.tm_year == today.tm_year else "%Y", when)


def _used(seconds: int) -> str:
    days, rest = divmod(seconds, _DAY_S)
    text = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{text}" if days else text


def _terminal(device: int) -> str:
    """The number's coding is that of tty_nr in proc_pid_stat(5)."""
    major = os.major(device)
    if major not in _PTS_MAJORS:
        return "?"
    return f"pts/{(major - _PTS_MAJORS.start) * 256 + os.minor(device)}"


def _command(pid: int) -> str:
    """Its words, or its name in brackets where it has none (zombies)."""
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read(65536).rstrip(b"\0").replace(b"\0", b" ")
    if words:
        return words.decode(errors="replace")
    with open(f"/proc/{pid}/comm", "rb") as file:
        return f"[{file.read().rstrip().decode(errors='replace')}]"
