"""Let each step of a fast exec fail once. Run by test_runtime_exec_faults.py, in its own process.

Like fast_steps.py it keeps descriptors 3 to 5 for the child. Prints one JSON line.

    python -m tests.real.exec_steps LOWER DIRECTORY
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import struct
import sys
from pathlib import Path

from runtime import flags, libc, native, spawner
from runtime.cgroups import Cgroups
from runtime.exec_plan import compile_exec
from runtime.exec_spec import ExecSpec
from runtime.joining import Joining
from runtime.kernel import DOOR
from runtime.plan import compile_plan
from runtime.program import Programs
from runtime.steps import Texts
from tests.real.fast_steps import NO_SUCH_CALL, Ends, host, keep_low_descriptors, spec

PR_GET_DUMPABLE = 3
CLONE_FLAGS = flags.CLONE_PIDFD | flags.CLONE_INTO_CGROUP | flags.CLONE_CLEAR_SIGHAND


def main(lower: str, directory: Path) -> dict[str, object]:
    null, faults = keep_low_descriptors()
    cgroups = Cgroups.detect(f"mdocker-steps{os.getpid()}")
    plan = compile_plan(spec(lower, directory, cgroups).to_json())
    status, status_w = os.pipe()
    _, container, _ = spawner._clone(
        DOOR, plan, Ends(status_w, null, null, -1), host(), Joining(DOOR, {}), None
    )
    os.close(status_w)
    assert os.read(status, 4096) == b"", "the container does not start"
    os.close(status)
    below = cgroups.below("steps", "exec")
    layers = (str(directory / "upper"), lower)
    entering = ExecSpec(args=("sleep", "9"), cgroup=below.unified, joins=below.joins, layers=layers)
    exec_plan = compile_exec(entering.to_json())
    programs, code, slots = Programs(host()), native.Code(), native.Slots()
    cgroup = os.open(below.unified, os.O_PATH)
    home = os.open("/proc/self/ns/pid", os.O_RDONLY)
    fds_before = sorted(os.listdir("/proc/self/fd"))

    def enter(fatal: int, token: int) -> tuple[str, int]:
        """How one exec goes on ("runs", "fault"), and how many steps it has."""
        slot = slots.take()
        texts = Texts(slot.address, slot.room, slot.scratch)
        status, status_w = os.pipe()
        ends = Ends(status_w, null, null, container)
        steps = bytearray(programs.compile_exec(exec_plan, ends, texts))
        if fatal >= 0:
            struct.pack_into("=q", steps, fatal * 64, NO_SUCH_CALL)
            steps[fatal * 64 + 48 : fatal * 64 + 60] = bytes(12)  # no errno passed over, no jump
        first = slot.fill(token, texts.content, bytes(steps))
        DOOR.setns(container, flags.CLONE_NEWPID)
        _, pidfd = slot.spawn(code, first, CLONE_FLAGS, cgroup)
        DOOR.setns(home, flags.CLONE_NEWPID)
        os.close(status_w)
        ready, _, _ = select.select([faults, status], [], [], 10)
        assert ready, f"step {fatal}: neither a fault nor an execve"
        outcome = "runs"
        if faults in ready:
            seen, where, result = struct.unpack("=QQq", os.read(faults, native.FAULT_BYTES))
            assert (seen, where) == (token, first + fatal * 64), f"step {fatal}"
            assert result == -errno.ENOSYS
            outcome = "fault"
        else:
            assert os.read(status, 1) == b""
            assert not slot.busy, "execve did not let go of the slot"
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
        os.close(status)
        return outcome, len(steps) // 64

    count = enter(-1, 1)[1]
    outcomes = [enter(fatal, fatal + 2)[0] for fatal in range(count)]
    # As a change of user leaves it where somebody has set fs.suid_dumpable to 1 meanwhile.
    DOOR.prctl(flags.PR_SET_DUMPABLE, 1)
    last = enter(-1, count + 2)[0]
    result = {
        "steps": count,
        "faults": outcomes.count("fault"),
        "last": last,
        "dumpable": libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0),
        "left_open": sorted(set(os.listdir("/proc/self/fd")) - set(fds_before)),
        "populated": cgroups.pids("steps/exec") != set(),
        "container": select.select([container], [], [], 0)[0] == [],
    }
    os.close(cgroup)
    signal.pidfd_send_signal(container, signal.SIGKILL)
    os.waitid(os.P_PIDFD, container, os.WEXITED)
    cgroups.remove("steps")
    cgroups.remove_parent()
    return result


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
