"""The machine and the programs a figure was measured with."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import resource
import shutil
import subprocess
from pathlib import Path

# program -> how to ask for its version; only what is on PATH is asked
PROGRAMS = {
    "docker": ("docker", "--version"),
    "dockerd": ("dockerd", "--version"),
    "containerd": ("containerd", "--version"),
    "runc": ("runc", "--version"),
    "podman": ("podman", "--version"),
    "conmon": ("conmon", "--version"),
    "crun": ("crun", "--version"),
    "gcc": ("gcc", "--version"),
    "busybox": ("busybox",),
}
LIBRARIES = ("anyio", "trio", "structlog", "cyclopts", "h11", "msgspec", "uvloop")


def load_average() -> float:
    """The load of the last minute."""
    return os.getloadavg()[0]


def find(program: str) -> str | None:
    """The path of a program, also where daemons live; None when it is not installed."""
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    return shutil.which(program, path=path)


@functools.cache
def versions() -> dict[str, str]:
    """The version of every competitor and of our own libraries; "not installed" where absent."""
    told: dict[str, str] = {"python": platform.python_version()}
    for name, (program, *arguments) in PROGRAMS.items():
        path = find(program)
        if path is None:
            told[name] = "not installed"
            continue
        try:
            answer = subprocess.run(
                [path, *arguments], capture_output=True, text=True, timeout=20, check=False
            )
        except (OSError, subprocess.SubprocessError) as error:
            told[name] = f"does not run: {error}"
            continue
        words = (answer.stdout or answer.stderr).strip().splitlines()
        told[name] = words[0] if words else "says nothing"
    for library in LIBRARIES:
        try:
            told[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            told[library] = "not installed"
    told["mdocker"] = _commit()
    return told


def _commit() -> str:
    checkout = Path(__file__).parent.parent
    git = shutil.which("git")
    if git is None or not (checkout / ".git").exists():
        return "no checkout"
    answer = subprocess.run(
        [git, "-C", str(checkout), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return answer.stdout.strip() or "unknown"


def cgroup_mode() -> str:
    """How the control groups are mounted: v2, hybrid, v1 or none."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return "v2"
    if (root / "unified" / "cgroup.procs").exists():
        return "hybrid"
    return "v1" if (root / "memory").exists() else "none"


def filesystem_of(path: Path) -> str:
    """The type of the file system that holds a path (proc(5), mountinfo)."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, tail = line.partition(" - ")
        point = fields.split()[4]
        inside = point == "/" or str(path) == point or str(path).startswith(point + "/")
        if inside and len(point) >= len(best):
            best, kind = point, tail.split()[0]
    return kind


def facts() -> dict[str, object]:
    """What a reader needs to compare two records."""
    memory = Path("/proc/meminfo").read_text().split(maxsplit=2)[1]
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cpus": os.cpu_count(),
        "cpu": model,
        "memory_mib": int(memory) // 1024,
        "kernel": platform.release(),
        "cgroups": cgroup_mode(),
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "work_filesystem": filesystem_of(work_directory()),
        "run_filesystem": filesystem_of(run_directory()),
    }


def work_directory() -> Path:
    """Where the roots of the engines go: MDOCKER_BENCH_DIR, else /var/tmp (a disk, as in life)."""
    return Path(os.environ.get("MDOCKER_BENCH_DIR", "/var/tmp"))


def run_directory() -> Path:
    """Where run directories go: /run where it is a tmpfs, else /dev/shm where that is one."""
    for place in (Path("/run"), Path("/dev/shm")):
        if place.is_dir() and filesystem_of(place) == "tmpfs":
            return place
    return work_directory()
