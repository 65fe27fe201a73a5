"""Where an engine lives: its root, its run directory, and what follows from them."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import stat
from pathlib import Path

from runtime.spec import Rlimit
from supervisor.access import AccessOptions
from supervisor.registries.configuration import RegistryOptions
from supervisor.seccomp_options import SeccompOptions

BACKENDS = ("asyncio", "trio", "uvloop")

_PAYLOADS = 0o710
"""Of directories in which payloads leave what they like, such as set-user-id programs: no user of
the machine's may come by there (CVE-2021-41091)."""


class RefusedDirectory(Exception):
    """A directory can't be the engine's; the text says why and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What the daemon was started with.

    Attributes:
        root: State that lasts: images, containers, logs.
        run_dir: State that a reboot may forget: sockets, pids, the pump's marks.
        backend: One of `BACKENDS`.
        debug: Log at debug level.
        respawn: Should this supervisor die, the shim starts another.
        registries: How registries are reached.
        userns_remap: Whose ids containers have (`supervisor.remapping`); "" for the machine's.
        no_new_privileges: Nobody gains privileges by an execve, where a container says nothing.
        access: Who may talk to us, and where.
        default_ulimits: Of containers that say nothing of them.
        seccomp: Which system calls containers may make that say nothing of it.
    """

    root: Path
    run_dir: Path
    backend: str = "asyncio"
    debug: bool = False
    respawn: bool = False
    registries: RegistryOptions = dataclasses.field(default_factory=RegistryOptions)
    userns_remap: str = ""
    no_new_privileges: bool = False
    access: AccessOptions = dataclasses.field(default_factory=AccessOptions)
    default_ulimits: tuple[Rlimit, ...] = ()
    seccomp: SeccompOptions = dataclasses.field(default_factory=SeccompOptions)

    @property
    def containers(self) -> Path:
        """One directory for each container."""
        return self.root / "containers"

    @property
    def volumes(self) -> Path:
        """One directory for each volume."""
        return self.root / "volumes"

    @property
    def rootfs(self) -> Path:
        """An empty directory; each container mounts its root there, in its own namespace."""
        return self.run_dir / "rootfs"

    @property
    def socket(self) -> Path:
        """The Engine API's socket."""
        return self.run_dir / "mdocker.sock"

    @property
    def cgroup_parent(self) -> str:
        """Name of the cgroup that holds all our containers' cgroups.

        It follows from the root, so two engines on one machine never share one.
        """
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()
        return f"mdocker-{digest[:8]}"


def claim_directories(settings: Settings) -> None:
    """Make the engine's directories, or refuse ones that somebody else could tamper with.

    Raises:
        RefusedDirectory: One is owned by somebody else, is writable by others, is no directory,
            or can't be made.
    """
    for directory, mode in _directories(settings):
        try:
            directory.mkdir(mode=mode, parents=True, exist_ok=True)
            found = directory.stat()
            if mode == _PAYLOADS and found.st_mode & 0o007 and found.st_uid == os.geteuid():
                directory.chmod(mode)
        except OSError as error:
            raise _not_made(directory, error) from error
        _check_ours(directory, found)


def check_directories(settings: Settings) -> None:
    """Refuse what `claim_directories` would refuse, and leave all as it is.

    Raises:
        RefusedDirectory: As there, or one can't be written to.
    """
    for directory, _ in _directories(settings):
        try:
            found = _nearest(directory)
            if found != directory:
                # /proc, for one, says that it can be written to, and takes nothing.
                tried = found / f".mdocker-check-{os.getpid()}"
                tried.mkdir(0o700)
                tried.rmdir()
                continue
            if not directory.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            # Not by making something: a full disk is no reason against an upgrade.
            if os.statvfs(directory).f_flag & os.ST_RDONLY:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            _check_ours(directory, directory.stat())
        except OSError as error:
            raise _not_made(directory, error) from error


def _directories(settings: Settings) -> tuple[tuple[Path, int], ...]:
    return (
        (settings.root, 0o711),
        (settings.run_dir, 0o755),
        (settings.containers, _PAYLOADS),
        (settings.volumes, _PAYLOADS),
        (settings.rootfs, 0o711),
    )


def _nearest(directory: Path) -> Path:
    """What is there of a path: all of it, or the directory in which the rest would be made."""
    while not os.path.lexists(directory):
        directory = directory.parent
    return directory


def _not_made(directory: Path, error: OSError) -> RefusedDirectory:
    return RefusedDirectory(
        f"cannot make {directory}: {error.strerror}; choose another by --root or --run-dir"
    )


def _check_ours(directory: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise RefusedDirectory(
            f"{directory} is owned by uid {found.st_uid}, not by {os.geteuid()}: "
            "chown it or choose another by --root or --run-dir"
        )
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise RefusedDirectory(
            f"{directory} can be written by others (mode {stat.S_IMODE(found.st_mode):04o}): "
            "chmod go-w it or choose another"
        )
