"""A private mount namespace for the peers: their mounts die with it, whatever happens to them."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

from bench.harness import BenchError

_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, step: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{step}: {os.strerror(number)}")


class MountNamespace:
    """Held open by one sleeping process. `without` is unmounted inside, if it is mounted there."""

    def __init__(self, without: tuple[str, ...] = ()) -> None:
        self._without = [place.encode() for place in without if os.path.ismount(place)]
        try:
            self._holder = subprocess.Popen(["sleep", "infinity"], preexec_fn=self._make)
        except (OSError, subprocess.SubprocessError) as error:
            raise BenchError(f"no private mount namespace (not root?): {error}") from error
        self._door = os.open(f"/proc/{self._holder.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def _make(self) -> None:
        _check(_libc.unshare(_CLONE_NEWNS), "unshare")
        _check(_libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "make / private")
        for place in self._without:
            _check(_libc.umount2(place, _MNT_DETACH), f"unmount {place.decode()}")

    def enter(self) -> None:
        """For `preexec_fn`: the child of a fork, which has one thread, joins (setns(2))."""
        _check(_libc.setns(self._door, _CLONE_NEWNS), "setns")

    def root(self) -> Path:
        """The namespace's own view of the file system."""
        return Path(f"/proc/{self._holder.pid}/root")

    def close(self) -> None:
        os.close(self._door)
        self._holder.kill()
        self._holder.wait()


def unmount_below(directory: Path) -> list[str]:
    """Unmounts what is mounted below a directory in our own namespace; returns what was there."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    below = [point for point in points if point.startswith(f"{directory}/")]
    for point in reversed(below):
        _libc.umount2(point.encode(), _MNT_DETACH)
    return below
