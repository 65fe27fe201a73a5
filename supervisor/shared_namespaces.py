"""Whose namespaces a container shares. Asked for by id, joined at each start, and held to that run.

A donor must run when the container starts. What becomes of it later harms nobody: a network or IPC
namespace stays as long as one process is in it. A pid namespace ends with its first process, and
the kernel then kills all that are in it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from runtime.spec import Bind, Donor
from supervisor import network_files
from supervisor.container import Container, UserNamespace
from supervisor.errors import DonorMissing, DonorNotRunning, DonorNotShareable
from supervisor.states import ALIVE, State

if TYPE_CHECKING:
    from supervisor.engine import Engine

OF = "container:"
"""What stands before the id of a container whose namespace is shared."""

HOST_SHM = Bind("/dev/shm", "/dev/shm", directory=True, recursive=False)
_SHAREABLE = ("host", "shareable")
_LONGEST_CHAIN = 64


class Shared(msgspec.Struct, frozen=True):
    """What a start is to share; the fields but one are those of `runtime.spec.Spec`.

    Attributes:
        files: The directory with its hostname, hosts and resolv.conf.
        user_namespace: As its record has it.
    """

    network: str | Donor
    pid: str | Donor
    ipc: str | Donor
    uts: str
    hostname: str
    domainname: str
    files: Path
    user: str | Donor = "host"
    user_namespace: UserNamespace | None = None


def donor_id(mode: str) -> str:
    """The id in a mode such as `container:ID`; empty where it names no container."""
    return mode.removeprefix(OF) if mode.startswith(OF) else ""


def shares_pids(container: Container) -> bool:
    """Whether its first process is the first of no pid namespace: what it leaves behind at its end
    is not killed by the kernel, but through its cgroup."""
    mode = container.config.namespaces.pid
    return mode == "host" or mode.startswith(OF)


def resolve(engine: Engine, container: Container) -> Shared:
    """Find what a container that starts now shares, and with which runs.

    Raises:
        DonorMissing: A container that it names is gone.
        DonorNotRunning: One does not run.
        DonorNotShareable: One has not said that its IPC namespace may be shared, or is in another
            user namespace.
        StartFailed: It can't have its user namespace (any more).
    """
    config = container.config
    modes = config.namespaces
    donors: list[tuple[str, Container]] = []
    network: str | Donor = "host" if config.network_mode == "host" else "none"
    hostname, domainname = network_files.own_hostname(container), config.domainname
    if named := donor_id(config.network_mode):
        words = "cannot join network of a non running container: "
        donor = _running(engine, named, words + named)
        donors.append(("network", donor))
        network = _of(donor)
        hostname, domainname = network_files.hostname(donor), donor.config.domainname
    pid: str | Donor = "host" if modes.pid == "host" else "private"
    if named := donor_id(modes.pid):
        words = f"can't join PID namespace of container {named}"
        donor = _running(engine, named, f"{words}: container {named} is not running")
        donors.append(("PID namespace", donor))
        if _robs(engine, donor):
            raise DonorNotShareable(
                f"{words}: a container there may trace others (CAP_SYS_PTRACE), and could take "
                "over this one before it has given up the machine's rights: give the capability "
                "to the one that joins, not to the one that is joined"
            )
        # In the machine's nobody else adopts its orphans.
        pid = "host" if _in_hosts_pids(engine, donor) else _of(donor)
    ipc: str | Donor = modes.ipc if modes.ipc in ("host", "none") else "private"
    if named := donor_id(modes.ipc):
        words = f"can't join IPC of container {named}"
        donor = _running(engine, named, f"{words}: container {named} is not running")
        theirs = donor.config.namespaces.ipc
        if theirs not in _SHAREABLE and not theirs.startswith(OF):
            raise DonorNotShareable(
                f"{words}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
            )
        donors.append(("IPC", donor))
        ipc = _of(donor)
    if modes.uts == "host":
        hostname = domainname = ""
    user, user_namespace = engine.remapping.resolve(container, donors)
    return Shared(
        network,
        pid,
        ipc,
        modes.uts or "private",
        hostname,
        domainname,
        files(engine, container),
        user,
        user_namespace,
    )


def traceable(engine: Engine, container: Container) -> bool:
    """Whether somebody in its pid namespace may trace, and so take over, who is born into it."""
    home = _home(engine, container)
    return any(
        one.config.privileges.may_trace and _home(engine, one) is home
        for one in (container, *engine.containers.all())
    )


def _robs(engine: Engine, donor: Container) -> bool:
    """Whether whoever joins its pid namespace would be in the hands of one who runs there.

    Not where they are root on the machine anyhow.
    """
    home = _home(engine, donor)
    if home.config.privileges.privileged or _in_hosts_pids(engine, home):
        return False
    return any(
        one.config.privileges.may_trace
        and not one.config.privileges.privileged
        and _home(engine, one) is home
        and one.state in ALIVE
        for one in engine.containers.all()
    )


def _pid_mode(container: Container) -> str:
    return container.config.namespaces.pid


def _network_mode(container: Container) -> str:
    return container.config.network_mode


def _owner(engine: Engine, container: Container, mode: Callable[[Container], str]) -> Container:
    """The one at the end of the chain of those that share: as a rule itself."""
    for _ in range(_LONGEST_CHAIN):
        donor = engine.containers.get(donor_id(mode(container)))
        if donor is None:
            break
        container = donor
    return container


def _home(engine: Engine, container: Container) -> Container:
    """The one whose pid namespace it is in."""
    return _owner(engine, container, _pid_mode)


def files(engine: Engine, container: Container) -> Path:
    """The directory of the one whose hostname, hosts and resolv.conf it has."""
    return engine.directory(_owner(engine, container, _network_mode))


def _in_hosts_pids(engine: Engine, container: Container) -> bool:
    return _home(engine, container).config.namespaces.pid == "host"


def _running(engine: Engine, named: str, words: str) -> Container:
    donor = engine.containers.get(named)
    if donor is None:
        raise DonorMissing(named)
    if donor.state is State.RESTARTING:
        raise DonorNotRunning(
            f"Container {named} is restarting, wait until the container is running"
        )
    if donor.state not in ALIVE or donor.run is None or donor.run.is_ending:
        raise DonorNotRunning(words)
    return donor


def _of(donor: Container) -> Donor:
    assert donor.run is not None
    return Donor(donor.id, donor.run.pid, donor.run.start_ticks)
