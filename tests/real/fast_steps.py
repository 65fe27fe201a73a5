"""Let each step of a fast start fail once. Run by test_runtime_fast.py, in a process of its own.

A fast start's child writes to descriptor 4 and puts its own at 3 and 5, so whoever makes one has to
keep these numbers free; pytest can't. Prints one JSON line.

    python -m tests.real.fast_steps LOWER DIRECTORY [INIT]

INIT is run before the payload, in the machine's pid and IPC namespaces.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import struct
import sys
from pathlib import Path

from runtime import capabilities, native, oom_score, spawner
from runtime.becoming import Ends, Host
from runtime.cgroups import Cgroups, Limits
from runtime.fast import FastStarts
from runtime.plan import compile_plan
from runtime.program import Programs
from runtime.spec import Bind, Device, Spec
from runtime.steps import Texts

NO_SUCH_CALL = 9999


def host() -> Host:
    status = Path("/proc/self/status").read_text()
    return Host(
        ignored_signals=[signal.SIGPIPE, signal.SIGINT],
        bounding=capabilities.status_mask(status, "CapBnd"),
        permitted=capabilities.status_mask(status, "CapPrm"),
        nofile=(1024, 4096),
        oom_score_adj=b"1000",
    )


def spec(lower: str, directory: Path, cgroups: Cgroups, **more: object) -> Spec:
    for name in ("upper", "work", "merged", "source"):
        (directory / name).mkdir()
    return Spec(
        id="steps",
        args=("sleep", "1000"),
        hostname="steps",
        domainname="wood",
        lower=(lower,),
        upper=str(directory / "upper"),
        work=str(directory / "work"),
        merged=str(directory / "merged"),
        binds=(
            Bind(str(directory / "source"), "/new/place", readonly=True),
            Bind("/dev/null", "/etc/file"),
        ),
        no_new_privileges=True,
        seccomp="BgAAAAAA/38=",  # all that is asked is allowed
        cgroup=cgroups.create("steps", Limits(pids=50)),
        **more,  # type: ignore[arg-type]
    )


def _above(fd: int) -> int:
    """The same at a number that no child uses."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(fd)
    return moved


def keep_low_descriptors() -> tuple[int, int]:
    """Occupy what children use as the shim does; returns /dev/null, and where faults are read."""
    null = _above(os.open("/dev/null", os.O_RDWR))
    faults, faults_w = (_above(end) for end in os.pipe())
    for source, number in ((null, 3), (faults_w, native.FAULT_FD), (null, 5)):
        os.dup2(source, number, False)
    return null, faults


def _own_score() -> int:
    return int(Path(oom_score.PATH).read_text())


def main(lower: str, directory: Path, init: str = "") -> dict[str, object]:
    _, faults = keep_low_descriptors()
    cgroups = Cgroups.detect(f"mdocker-steps{os.getpid()}")
    more: dict[str, object] = {}
    if init:
        tun = Device("/dev/net/tun", "c", 10, 200, 0o666, 1, 2)
        more = {"init": init, "pid": "host", "ipc": "host", "devices": (tun,), "device_nodes": True}
    plan = compile_plan(spec(lower, directory, cgroups, **more).to_json())
    programs, code, slots = Programs(host()), native.Code(), native.Slots()
    cgroup = os.open(plan.unified, os.O_PATH)
    fds_before = sorted(os.listdir("/proc/self/fd"))

    def start(fatal: int, token: int) -> tuple[str, int, int]:
        """How one start goes on ("runs", "fault"), how many steps it has, and the fault's errno."""
        slot = slots.take()
        texts = Texts(slot.address, slot.room, slot.scratch)
        status, status_w = os.pipe()
        out = [os.open("/dev/null", os.O_WRONLY) for _ in range(2)]
        steps = bytearray(programs.compile(plan, Ends(status_w, *out, -1), texts))
        if fatal >= 0:
            struct.pack_into("=q", steps, fatal * 64, NO_SUCH_CALL)
            steps[fatal * 64 + 48 : fatal * 64 + 60] = bytes(12)  # no errno passed over, no jump
        first = slot.fill(token, texts.content, bytes(steps))
        _, pidfd = slot.spawn(code, first, spawner.clone_flags(plan), cgroup)
        for fd in (status_w, *out):
            os.close(fd)
        ready, _, _ = select.select([faults, status], [], [], 10)
        assert ready, f"step {fatal}: neither a fault nor an execve"
        outcome, code_seen = "runs", 0
        if faults in ready:
            seen, where, result = struct.unpack("=QQq", os.read(faults, native.FAULT_BYTES))
            assert seen == token
            assert where == first + fatal * 64, f"step {fatal}: the fault names another"
            assert slot.busy
            outcome, code_seen = "fault", -result
        else:
            assert os.read(status, 1) == b""
            assert not slot.busy, "execve did not let go of the slot"
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        assert not slot.busy
        os.close(pidfd)
        os.close(status)
        return outcome, len(steps) // 64, code_seen

    outcomes = []
    fast = FastStarts(host())
    own_score = _own_score()
    count = start(-1, 1)[1]
    for fatal in range(count):
        outcome, count, code_seen = start(fatal, fatal + 2)
        assert code_seen in (0, errno.ENOSYS)
        outcomes.append(outcome)
    last = start(-1, count + 2)[0]
    fast.score_is_changed = True
    scores = [own_score, _own_score()]
    fast.trim()
    result = {
        "scores": [*scores, _own_score()],
        "steps": count,
        "faults": outcomes.count("fault"),
        "last": last,
        "left_open": sorted(set(os.listdir("/proc/self/fd")) - set(fds_before)),
        "mounts": [
            line
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if str(directory) in line
        ],
        "populated": cgroups.populated("steps"),
    }
    os.close(cgroup)
    cgroups.remove("steps")
    cgroups.remove_parent()
    return result


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])))
