"""An engine of the fuzzer's own, and where a fault shows: its log, its life, what it holds."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from tests.fuzz.findings import Findings
from tests.real.engine_process import EngineProcess

PROMPT = 5.0
"""Seconds in which a ping is answered, on a machine that does other things as well."""

_ALARMS = ("api.request_failed", "api.connection_failed", "Traceback", "[critical", "shim.died")


class WatchedEngine:
    """`mdocker daemon`, its log read along.

    Attributes:
        process: The engine.
        findings: Where trouble is told.
    """

    def __init__(self, base: Path, findings: Findings, backend: str) -> None:
        self.process = EngineProcess(base, backend=backend)
        self.process.start()
        self.findings = findings
        self._pid = self._supervisor()
        self._read = 0
        self._warm_up()
        self._before = self._holdings()

    def _supervisor(self) -> int:
        return int((self.process.run_dir / "supervisor.pid").read_text())

    def _warm_up(self) -> None:
        """What is made at first use is no leak."""
        self.process.post("/containers/create?name=warm", {"Image": "host", "Cmd": ["true"]})
        self.process.post("/containers/warm/start")
        self.process.post("/containers/warm/wait")
        self.clean()

    def look(self, example: str = "") -> None:
        """Tell of what stands in its log since the last look, and of an engine that is no more."""
        log = self.process.base / "supervisor.log"
        with log.open("rb") as file:
            file.seek(self._read)
            fresh = file.read()
        whole = fresh.rfind(b"\n") + 1
        self._read += whole
        text = fresh[:whole].decode(errors="replace")
        for alarm in _ALARMS:
            if alarm in text:
                at = text.index(alarm)
                self.findings.note(alarm, text[max(0, at - 200) : at + 3000], example)
        if self.process.process.poll() is not None:
            self.findings.note("death", f"status {self.process.process.returncode}", example)
            raise SystemExit("the engine is dead")

    def ping(self, example: str = "") -> None:
        """Tell of a ping that is answered late, or not."""
        began = time.monotonic()
        try:
            status = self.process.get("/_ping").status
        except OSError as error:
            self.findings.note("hang", f"/_ping: {error}", example)
            return
        took = time.monotonic() - began
        if status != 200 or took > PROMPT:
            self.findings.note("hang", f"/_ping: {status} after {took:.1f} s", example)

    def clean(self) -> None:
        """Remove all containers, volumes and images but the built-in one."""
        for one in self.process.get("/containers/json?all=1").json:
            answer = self.process.delete(f"/containers/{one['Id']}?force=1&v=1")
            # Another request may be removing it, or it removes itself.
            if answer.status not in (204, 404, 409):
                self.findings.note("clean-up", f"{answer!r}", json.dumps(one))
        self.process.post("/volumes/prune?filters=" + '{"all":["true"]}'.replace('"', "%22"))
        self.process.post("/build/prune?all=1")
        self.process.post("/images/prune?filters=" + '{"dangling":["false"]}'.replace('"', "%22"))

    def _holdings(self) -> dict[str, int]:
        """What the engine holds: descriptors, threads, memory in KiB, and its shim the same."""
        held = {}
        shim = int((self.process.run_dir / "shim.pid").read_text())
        for name, pid in (("supervisor", self._pid), ("shim", shim)):
            held[f"{name} descriptors"] = len(os.listdir(f"/proc/{pid}/fd"))
            status = Path(f"/proc/{pid}/status").read_text()
            for line in status.splitlines():
                if line.startswith(("VmRSS", "Threads")):
                    key, value = line.split(":")
                    held[f"{name} {key}"] = int(value.split()[0])
        children = Path(f"/proc/{shim}/task/{shim}/children").read_text().split()
        held["shim children"] = len(children)
        held["host mounts"] = len(Path("/proc/self/mounts").read_text().splitlines())
        return held

    def leaks(self) -> dict[str, tuple[int, int]]:
        """What it holds more than before; memory and threads are told, not judged."""
        self.clean()
        deadline = time.monotonic() + 20
        while True:
            now = self._holdings()
            more = {
                name: (self._before[name], count)
                for name, count in now.items()
                if count > self._before[name]
            }
            # Kept connections of ours and the stock of network namespaces move by a few.
            grown = [
                name
                for name, (before, count) in more.items()
                if "VmRSS" not in name and "Threads" not in name and count > before + 10
            ]
            if not grown or time.monotonic() > deadline:
                break
            time.sleep(0.2)  # nothing tells when the kernel has let go of the last one
        for name in grown:
            self.findings.note("leak", f"{name}: {more[name]}")
        return more

    def close(self) -> None:
        """End it, and tell of what is left."""
        self.clean()
        self.process.close()
        for left in _left(self.process.root):
            self.findings.note("left", left)


def _left(root: Path) -> list[str]:
    mounts = [
        line for line in Path("/proc/self/mounts").read_text().splitlines() if str(root) in line
    ]
    found = subprocess.run(
        ["pgrep", "-f", str(root)], capture_output=True, text=True, check=False
    ).stdout.split()
    return mounts + [f"process {pid}" for pid in found if int(pid) != os.getpid()]
