"""Into the namespaces of containers that run, on behalf of processes about to be cloned.

Most namespaces are entered by the child itself, by the pidfd of the one that it joins. A pid
namespace is not: setns(2) of one changes only where the caller's later children are born, so the
shim goes there, clones once, and comes home.
"""

from __future__ import annotations

import errno
import os

from runtime import flags
from runtime.spawner import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from runtime.kernel import Kernel
    from runtime.plan import Donor
    from runtime.spawner import Held


class Joining:
    """The shim's own pid namespace, and the way to others' and back.

    Attributes:
        home: A descriptor of the shim's own pid namespace.
    """

    def __init__(self, door: Kernel, containers: Mapping[str, Held]) -> None:
        self._door = door
        self._containers = containers
        self.home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._away = False

    def pidfd(self, donor: Donor) -> int:
        """The pidfd, still the container's own, of the init whose namespace is to be entered.

        Raises:
            Refused: That run of it is over. The next one may be in the middle of its start, when
                its namespaces are still the machine's.
        """
        held = self._containers.get(donor.id)
        if (
            held is None
            or held.wait_status is not None
            or (held.pid, held.start_ticks) != (donor.pid, donor.start_ticks)
        ):
            raise Refused(errno.ESRCH, f"container {donor.id}, which it joins, has ended")
        return held.pidfd

    def enter(self, pidfd: int) -> None:
        """Have what is cloned next born into the pid namespace of this process.

        Raises:
            OSError: ESRCH, ENOMEM: that process has ended.
        """
        self._away = True
        self._door.setns(pidfd, flags.CLONE_NEWPID)

    def come_home(self) -> None:
        """Have it born into our own again; without memory for that, `be_home` will say so."""
        try:
            self._door.setns(self.home, flags.CLONE_NEWPID)
        except OSError:
            return  # `be_home` tries again before anything else is cloned
        self._away = False

    def be_home(self) -> None:
        """Be sure that what is cloned next is born into our own pid namespace.

        Raises:
            Refused: It would not be.
        """
        if self._away:
            self.come_home()
        if self._away:
            raise Refused(errno.ENOMEM, "return to the shim's own pid namespace")
