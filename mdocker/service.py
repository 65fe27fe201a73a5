"""`daemon --install` and `--uninstall`: the engine as a service of systemd."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import ipaddress
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mdocker.errors import CliError
from mdocker.output import say, warn
from mdocker.settings import Settings
from mdocker.unit_files import MARK, SERVICE, SOCKET, BadPath, Service, service_unit, socket_unit

STOP_LIMIT_S = 30.0
PACKAGES = Path(__file__).resolve().parent.parent


class ServiceRefused(CliError):
    """The service can't be installed or taken away; the text says why and what to do."""


class Systemd(NamedTuple):
    """Where systemd is on this machine.

    Attributes:
        units: The directory for units that an administrator adds.
        booted: Is there if and only if systemd runs the machine (sd_booted(3)).
    """

    units: Path = Path("/etc/systemd/system")
    booted: Path = Path("/run/systemd/system")

    def check(self) -> None:
        """Raise ServiceRefused where systemd does not run, or we may not tell it anything."""
        if not self.booted.is_dir() or shutil.which("systemctl") is None:
            raise ServiceRefused(
                f"no systemd runs this machine ({self.booted} is not there): have what runs it "
                "start 'mdocker daemon', or look at the units by --install --dry-run"
            )
        if os.geteuid() != 0:
            raise ServiceRefused("a service is root's to install or take away: use sudo")

    def version(self) -> int:
        """Return 252 and the like, 0 where it can't be learnt."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            told = subprocess.run(["systemctl", "--version"], capture_output=True, text=True)
            return int(told.stdout.split()[1].partition(".")[0])
        return 0

    def ctl(self, *words: str) -> str:
        """Run systemctl and return what it says.

        Raises:
            ServiceRefused: It failed; its own words are in the text.
        """
        done = subprocess.run(["systemctl", *words], capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr or done.stdout).strip().replace("\n", "; ") or "it says nothing"
            raise ServiceRefused(
                f"'systemctl {' '.join(words)}' failed with {done.returncode}: {reason} "
                f"(see 'systemctl status {SERVICE}' and 'journalctl -u {SERVICE}')"
            )
        return done.stdout


def describe(
    place: Settings,
    options: tuple[str, ...],
    systemd: Systemd,
    hosts: tuple[str, ...] = (),
    group: str | None = None,
) -> Service:
    """Return the service that runs this very mdocker for these directories.

    Args:
        options: More options of `mdocker daemon`, also the following.
        hosts: Its --host; systemd listens there, too.
        group: Its --group.
    """
    ours = (sys.executable, "-m", "mdocker", "daemon")
    root, run_dir = os.path.abspath(place.root), os.path.abspath(place.run_dir)
    if group is None:
        try:
            group = grp.getgrnam("docker").gr_name
        except KeyError:
            group = "root"
    return Service(
        command=(*ours, "--no-respawn", "--root", root, "--run-dir", run_dir, *options),
        upgrade=(*ours, "--upgrade", "--no-wait", "--run-dir", run_dir),
        directory=str(PACKAGES),
        root=root,
        socket=f"{run_dir}/mdocker.sock",
        group=group or "root",
        systemd=systemd.version(),
        further=tuple(stream for host in hosts if (stream := _stream(host))),
    )


def _stream(host: str) -> str:
    """What ListenStream= calls a host; "" for one that the engine must bind itself.

    systemd resolves no names (systemd.socket(5)).
    """
    scheme, _, rest = host.partition("://")
    if scheme == "unix":
        return rest
    name, colon, port = rest.rpartition(":")
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return ""
    return rest if colon and port.isdigit() and int(port) else ""


def units(service: Service) -> dict[str, str]:
    """Return the text of each unit by its name.

    Raises:
        ServiceRefused: A path can't be named in a unit.
    """
    try:
        return {SERVICE: service_unit(service), SOCKET: socket_unit(service)}
    except BadPath as error:
        raise ServiceRefused(str(error)) from error


def show(service: Service, systemd: Systemd) -> None:
    """Print the units, and change nothing."""
    for name, text in units(service).items():
        say(f"# {systemd.units / name}\n{text}")


def install(service: Service, systemd: Systemd) -> None:
    """Write the units, enable and start them; an engine that runs already hands its work over.

    Raises:
        ServiceRefused: There is no systemd, a unit is somebody else's, or systemctl fails.
    """
    systemd.check()
    texts = units(service)
    old = {name: _ours(systemd.units / name) for name in texts}
    for path in _writable_by_others():
        warn(f"{path} can be changed by others than root, who will run what is in it")
    moved = bool(old[SOCKET]) and old[SOCKET] != texts[SOCKET]
    for name, text in texts.items():
        _write(systemd.units / name, text)
    systemd.ctl("daemon-reload")
    systemd.ctl("enable", SOCKET, SERVICE)
    if moved:
        systemd.ctl("stop", SERVICE, SOCKET)
    main_pid = systemd.ctl("show", "--property=MainPID", "--value", SERVICE).strip()
    _end_other_engine(os.path.dirname(service.socket), int(main_pid or 0))
    systemd.ctl("start", SOCKET)
    systemd.ctl("restart", SERVICE)
    say(f"{SERVICE} and {SOCKET} are in {systemd.units}, enabled and running")


def uninstall(systemd: Systemd) -> None:
    """Stop and disable the units and take them away; containers go on.

    Raises:
        ServiceRefused: There is no systemd, no unit of ours, or systemctl fails.
    """
    systemd.check()
    paths = [systemd.units / name for name in (SERVICE, SOCKET)]
    texts = [_ours(path) for path in paths]
    if not any(texts):
        raise ServiceRefused(f"no {SERVICE} of ours is in {systemd.units}: nothing to take away")
    present = [path.name for path in paths if path.exists()]
    systemd.ctl("disable", "--now", *present)
    for path in paths:
        path.unlink(missing_ok=True)
    systemd.ctl("daemon-reload")
    say(
        f"{' and '.join(present)} are gone from {systemd.units}; containers that run go on, and "
        "the next mdocker command starts an engine for them"
    )


def _ours(path: Path) -> str:
    """Return the text of a unit that we have written; empty where there is none.

    Raises:
        ServiceRefused: Somebody else has written it, or it can't be read.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceRefused(f"cannot read {path}: {error}") from error
    if not text.startswith(MARK):
        raise ServiceRefused(f"{path} is not mdocker's: move it away, or keep it and use that")
    return text


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o644)  # whatever our umask is
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        fresh.rename(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise ServiceRefused(f"cannot write {path}: {error.strerror or error}") from error


def _end_other_engine(run_dir: str, main_pid: int) -> None:
    """End an engine that systemd has not started; its containers wait for the service.

    Args:
        main_pid: The service's own supervisor, which stays; 0 where there is none.

    Raises:
        ServiceRefused: It does not end.
    """
    pid = _running_engine(run_dir)
    if pid in (0, main_pid):
        return
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if _running_engine(run_dir) != pid:
            return  # the pid was somebody else's by the time we had it by the pidfd
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if not poller.poll(STOP_LIMIT_S * 1000):
            raise ServiceRefused(
                f"the engine that runs already (pid {pid}) does not end: see its supervisor.log, "
                "end it and install again"
            )
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)
    say(f"the engine that ran already (pid {pid}) has ended; its containers go on")


def _running_engine(run_dir: str) -> int:
    """Return the pid of the engine that holds this run directory, 0 for none.

    It holds the lock for as long as it lives, and has written its pid behind that.
    """
    try:
        lock = os.open(f"{run_dir}/supervisor.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return 0
    except BlockingIOError:
        try:
            with open(f"{run_dir}/supervisor.pid") as file:
                return int(file.read())
        except (OSError, ValueError):
            return 0  # it is only just starting, or ending: systemd tells if that is in its way
    finally:
        os.close(lock)


def _writable_by_others() -> Iterator[str]:
    """What the service executes and others than root can change."""
    executed = (sys.executable, os.path.realpath(sys.executable), str(PACKAGES / "mdocker"))
    for path in dict.fromkeys(executed):
        found = os.stat(path)
        if found.st_uid != 0 or stat.S_IMODE(found.st_mode) & 0o022:
            yield path
