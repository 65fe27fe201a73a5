"""Capability names and sets as bit masks (capabilities(7), linux/capability.h). Pure."""

from __future__ import annotations

NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""Index is the capability's number."""

SYS_ADMIN = 1 << NAMES.index("CAP_SYS_ADMIN")


def mask(names: list[str] | tuple[str, ...]) -> int:
    """The set of `names` as a bit mask.

    Raises:
        ValueError: a name is no capability's.
    """
    result = 0
    for name in names:
        if name not in NAMES:
            raise ValueError(f"unknown capability {name}")
        result |= 1 << NAMES.index(name)
    return result


def status_mask(status: str, field: str) -> int:
    """A set from the text of /proc/PID/status, such as `CapBnd`; 0 if the line is not there."""
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value, 16)
    return 0


def members(bits: int) -> list[int]:
    """The numbers of the capabilities in a mask, those without a name in `NAMES` too."""
    return [number for number in range(bits.bit_length()) if bits >> number & 1]
