"""What a container may do beyond, or short of, what every container may. No I/O but `at_hand`."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

import msgspec

from runtime import capabilities
from runtime.spec import (
    DEFAULT_CAPABILITIES,
    DEFAULT_MASKED_PATHS,
    DEFAULT_READONLY_PATHS,
)

ALL = "ALL"
_TRACES = "CAP_SYS_PTRACE"
_EVERY = capabilities.mask(capabilities.NAMES)


class CapabilityRefused(ValueError):
    """A capability that nobody knows, or that this machine's root has not; in Docker's words."""


class Privileges(msgspec.Struct, frozen=True, omit_defaults=True):
    """As they were asked for.

    Attributes:
        added: Capabilities beside the default ones, as they were typed; "ALL" is one, too.
        dropped: Capabilities less than the default ones.
        privileged: All capabilities, all devices, nothing protected: root on the machine.
        masked_paths: What is hidden; None for what is hidden from everybody.
        readonly_paths: What can't be written; None for the default.
    """

    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    privileged: bool = False
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None

    @property
    def masked(self) -> tuple[str, ...]:
        """The paths that are hidden in it."""
        if self.masked_paths is not None:
            return self.masked_paths
        return () if self.privileged else DEFAULT_MASKED_PATHS

    @property
    def readonly(self) -> tuple[str, ...]:
        """The paths that are read-only in it."""
        if self.readonly_paths is not None:
            return self.readonly_paths
        return () if self.privileged else DEFAULT_READONLY_PATHS

    @property
    def may_trace(self) -> bool:
        """Whether its processes can look into any that they see, whatever rights those have."""
        return (self.privileged or bool(self.added)) and _TRACES in self.capabilities(_EVERY)

    def capabilities(self, there: int) -> tuple[str, ...]:
        """Which capabilities its processes may have at most, by Docker's rules.

        "ALL" means those that are there, and wins over "ALL" among the dropped ones. What is added
        by its name comes after what is dropped.

        Args:
            there: The mask of those that can be given (`at_hand`).

        Raises:
            CapabilityRefused: One was asked for by its name that is not there.
        """
        if self.privileged:
            return _members(there)
        added, dropped = canonical(self.added), canonical(self.dropped)
        for name in added:
            if name != ALL and not capabilities.mask((name,)) & there:
                raise CapabilityRefused(
                    "capability not supported by your kernel or not available in the current "
                    f'environment: "{name}": this engine was started without it'
                )
        if ALL in added:
            return tuple(name for name in _members(there) if name not in dropped)
        kept = () if ALL in dropped else DEFAULT_CAPABILITIES
        left = [name for name in kept if name not in dropped]
        return tuple(dict.fromkeys([*left, *added]))


def canonical(names: Iterable[str]) -> tuple[str, ...]:
    """Capabilities as the kernel's headers write them, whatever their case, with or without CAP_.

    Raises:
        CapabilityRefused: One is none.
    """
    found = []
    for name in names:
        upper = name.upper()
        if upper != ALL:
            upper = upper if upper.startswith("CAP_") else f"CAP_{upper}"
            if upper not in capabilities.NAMES:
                raise CapabilityRefused(f'unknown capability: "{upper[:64]}"')
        found.append(upper)
    return tuple(found)


@functools.cache
def at_hand() -> int:
    """The capabilities that this engine can give away, as a mask: a machine's root may lack some.

    Those of the shim are the same: it is the engine's child, or its parent.
    """
    status = Path("/proc/self/status").read_text()
    return capabilities.status_mask(status, "CapBnd") & capabilities.status_mask(status, "CapPrm")


def _members(mask: int) -> tuple[str, ...]:
    known = [number for number in capabilities.members(mask) if number < len(capabilities.NAMES)]
    return tuple(capabilities.NAMES[number] for number in known)
