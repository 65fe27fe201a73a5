"""Which sysctls a container may have: those of its own namespaces, and no other. Pure.

namespaces(7): what System V and POSIX queues may be belongs to the IPC namespace, net.* to the
network's, the NIS domain to the UTS namespace's. All others are the machine's. The texts are those
of runc.
"""

from __future__ import annotations

from runtime.errors import RuntimeRefused

_OF_IPC = frozenset(
    {
        *("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall"),
        *("kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"),
    }
)


class SysctlRefused(RuntimeRefused):
    """A container can't have this one; the text says why."""


def checked(name: str, ipc: str, network: str, uts: str) -> str:
    """Return the file of a sysctl, as it is called below /proc/sys.

    Args:
        name: With dots, or (as sysctl(8) takes it) with slashes.
        ipc: Whose the namespace is: "" for its own, else Docker's word, such as "host".
        network: The same.
        uts: The same.

    Raises:
        SysctlRefused: It is none, or not of a namespace of the container's own.
    """
    parts = _parts(name)
    dotted = ".".join(parts)
    if dotted in _OF_IPC or parts[:2] == ["fs", "mqueue"]:
        _refuse_shared(dotted, "ipc", ipc)
    elif parts[0] == "net":
        _refuse_shared(dotted, "network", network)
    elif dotted == "kernel.domainname":
        _refuse_shared(dotted, "uts", uts)
    elif dotted == "kernel.hostname":
        raise SysctlRefused(
            f'sysctl "{dotted}" is not allowed as it conflicts with the host name: use --hostname'
        )
    else:
        raise SysctlRefused(f'sysctl "{dotted}" is not in a separate kernel namespace')
    return "/".join(parts)


def _parts(name: str) -> list[str]:
    """The names on the way to a file; between dots, a slash is a dot of an interface's name."""
    first = min((name.find(sign) for sign in "./" if sign in name), default=-1)
    slashed = first >= 0 and name[first] == "/"
    separator, other = ("/", ".") if slashed else (".", "/")
    parts = [part if slashed else part.replace(other, ".") for part in name.split(separator)]
    bad = any(part in ("", ".", "..") or "/" in part or "\0" in part for part in parts)
    if bad or len(parts) < 2:
        raise SysctlRefused(
            f"invalid sysctl {name[:64]!r}: it is a name such as net.core.somaxconn"
        )
    return parts


def _refuse_shared(name: str, kind: str, whose: str) -> None:
    if whose == "host":
        namespace = "host network" if kind == "network" else f"the hosts {kind}"
        raise SysctlRefused(f'sysctl "{name}" is not allowed in {namespace} namespace')
    if whose:
        raise SysctlRefused(
            f'sysctl "{name}" is not allowed in a {kind} namespace that is another container\'s '
            f"({whose}): set it for that one"
        )
