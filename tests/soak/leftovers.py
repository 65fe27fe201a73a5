"""What is left behind, and what supervisor and shim take."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from logs.marks import MarkFile
from tests.real.conftest import our_cgroups, our_mounts, our_processes, payloads
from tests.real.engine_process import descriptors_of

SETTLED_S = 5.0


@dataclass(frozen=True)
class Takes:
    """Memory and descriptors of one process.

    Attributes:
        memory: Bytes of anonymous memory, by its share (Pss_Anon): that of files changes with who
            else on the machine runs Python.
        open: What each descriptor is, without numbers.
    """

    memory: int
    open: tuple[str, ...]

    @property
    def descriptors(self):
        return len(self.open)

    def more_than(self, before):
        """What is open here and was not before."""
        return sorted((Counter(self.open) - Counter(before.open)).elements())


def takes(pid):
    """Read /proc/PID/smaps_rollup (proc(5)) and /proc/PID/fd."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    memory = int(re.search(r"^Pss_Anon:\s+(\d+) kB", text, re.MULTILINE)[1]) * 1024
    # The mark file's many maps tell how many containers there were.
    return Takes(memory, tuple(name for name in _open(pid) if not name.endswith("/marks")))


def _open(pid):
    """What each descriptor is; the containers' ids and the kernel's numbers are left out."""
    for name in descriptors_of(pid):
        yield re.sub(r"[0-9a-f]{64}|\d+", "N", name)


def settled(pid, before):
    """What a process takes once it has closed what the last request left, if it does so in time."""
    until = time.monotonic() + SETTLED_S
    while (now := takes(pid)).descriptors > before.descriptors and time.monotonic() < until:
        time.sleep(0.01)
    return now


def behind(engine, supervisor_pid, shim_pid):
    """Everything that an engine without containers must not have, as words."""
    base = engine.base
    left = [
        f"process {pid}: {words.strip()}"
        for pid, words in our_processes(base).items()
        if pid not in (supervisor_pid, shim_pid)
    ]
    left += [f"payload {pid}: {name}" for pid, name in payloads(str(base)).items()]
    left += [f"mount {line}" for line in our_mounts(str(base))]
    left += [
        f"cgroup {child}"
        for parent in our_cgroups(base)
        for child in Path(parent).iterdir()
        if child.is_dir()
    ]
    left += [f"directory {path}" for path in (engine.root / "containers").iterdir()]
    marks = MarkFile(engine.run_dir / "marks")
    try:
        left += [f"mark of {slot.container_id[:12]}" for slot in marks.slots()]
    finally:
        marks.close()
    return left
