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


# where the peers write whatever roots they are given: keys, locks, caches
_WRITTEN_TO = ("/etc", "/var/lib", "/var/cache")


class MountNamespace:
    """Held open by one sleeping process. `without` is unmounted inside, if it is mounted there.

    What is written to /etc, /var/lib, /var/cache, /run and /dev/shm inside goes to
    `directory`, or dies with the namespace.
    """

    def __init__(self, directory: Path, without: tuple[str, ...] = ()) -> None:
        self._overlays = [
            (place.encode(), self._upper(directory, place))
            for place in _WRITTEN_TO
            if Path(place).is_dir() and not directory.is_relative_to(place)
        ]
        self._without = [place.encode() for place in without if os.path.ismount(place)]
        try:
            self._holder = subprocess.Popen(["sleep", "infinity"], preexec_fn=self._make)
        except (OSError, subprocess.SubprocessError) as error:
            raise BenchError(f"no private mount namespace (not root?): {error}") from error
        self._door = os.open(f"/proc/{self._holder.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    @staticmethod
    def _upper(directory: Path, place: str) -> bytes:
        """The mount options of an overlay over `place`, whose directories are made here."""
        upper, work = (directory / f"{part}{place.replace('/', '-')}" for part in ("over", "work"))
        upper.mkdir(parents=True)
        work.mkdir()
        return f"lowerdir={place},upperdir={upper},workdir={work}".encode()

    def _make(self) -> None:
        _check(_libc.unshare(_CLONE_NEWNS), "unshare")
        _check(_libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "make / private")
        for place, options in self._overlays:
            _check(_libc.mount(b"overlay", place, b"overlay", 0, options), "overlay")
        for place in (b"/dev/shm", b"/run"):
            _check(_libc.mount(b"tmpfs", place, b"tmpfs", 0, None), f"tmpfs on {place.decode()}")
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
