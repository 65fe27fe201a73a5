"""Who may open which device, held by cgroups.

Where the kernel has BPF programs for it (Linux 4.15, also beside v1 trees) the engine's own
directory in the v2 tree has one for all containers, with the ordinary rules: it costs a start
nothing, and nothing has to be done when somebody dies. A container with rules of its own has a
program of its own, which takes the place of that one. Without BPF every container joins v1's
devices controller, as Docker's do. Without that too, `nodev` has to do, and rules are refused.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from runtime import device_program
from runtime.cgroup_limits import write
from runtime.device_rules import EVERYTHING, ORDINARY, Rule, merged
from runtime.errors import CgroupsUnusable

# EBADF: what is not in a v2 tree has none.
_NO_PROGRAMS = (errno.EBADF, errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL)


class DeviceControl:
    """One engine's.

    Attributes:
        programs: BPF programs are used, as far as is known.
    """

    def __init__(self) -> None:
        self.programs = True

    def usable(self) -> bool:
        """Whether the kernel takes such programs from us.

        Raises:
            OSError: It could not say, for want of descriptors or memory.
        """
        if self.programs:
            try:
                os.close(device_program.load(device_program.assemble(EVERYTHING)))
            except OSError as error:
                if error.errno not in _NO_PROGRAMS:
                    raise
                self.programs = False
        return self.programs

    def guard(self, directory: Path) -> bool:
        """Hold all containers below a v2 directory to the ordinary rules; returns whether it does.

        Raises:
            OSError: The directory is not there.
        """
        return self._attach(directory, ORDINARY, device_program.ALLOW_OVERRIDE)

    def allow(self, directory: Path, rules: Sequence[Rule]) -> bool:
        """Hold a container in a v2 directory to rules of its own; returns whether it does.

        Raises:
            OSError: The directory is not there.
        """
        return self._attach(directory, rules, device_program.ALLOW_MULTI)

    def _attach(self, directory: Path, rules: Sequence[Rule], bits: int) -> bool:
        if not self.programs:
            return False
        try:
            program = device_program.load(device_program.assemble(rules))
            try:
                device_program.attach(program, str(directory), bits)
            finally:
                os.close(program)  # the cgroup keeps it
        except OSError as error:
            if error.errno not in _NO_PROGRAMS:
                raise
            self.programs = False
            return False
        return True


def write_v1(directory: Path, rules: Sequence[Rule]) -> None:
    """Hold a v1 directory of the devices controller to rules.

    Raises:
        OSError: The kernel refused.
    """
    everything = any(rule.covers_all for rule in rules)
    write(directory / ("devices.allow" if everything else "devices.deny"), "a")
    if everything:
        return
    for rule in merged(rules):
        for kind in ("b", "c") if rule.kind == "a" else (rule.kind,):
            write(directory / "devices.allow", rule._replace(kind=kind).text())


def refuse() -> None:
    """Say that nothing on this machine can hold rules.

    Raises:
        CgroupsUnusable: Always.
    """
    raise CgroupsUnusable(
        "devices need BPF programs for cgroups (CONFIG_CGROUP_BPF, and the right to bpf(2)) or "
        "v1's devices controller, and this machine lets mdocker use neither; --privileged needs "
        "none of them"
    )


def own_rules(rules: Sequence[Rule] | None) -> Sequence[Rule]:
    """What a container may open that asked for these; None is nothing of its own."""
    if rules is None:
        return ORDINARY
    return EVERYTHING if any(rule.covers_all for rule in rules) else (*ORDINARY, *rules)
