"""The guest's side: start an engine, run every check, report each as a line of JSON, power off.

`python -m tests.vm.guest REPORT`; a line is {"check", "ok", "seconds", "text"}, where "check" is
"boot" and "engine" for what comes first.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.real.engine_process import EngineProcess
from tests.vm.checks import CHECKS

_POWER_OFF = 0x4321FEDC  # LINUX_REBOOT_CMD_POWER_OFF, reboot(2)
_LOG_TAIL = 6000


def main(report_path: str) -> None:
    """Do it all; never returns."""
    try:
        with open(report_path, "w", encoding="ascii") as report:
            _report(report, "boot", lambda: None, seconds=_uptime())
            engine = EngineProcess(Path("/run/engine"))
            if _report(report, "engine", engine.start, engine):
                for name, check in CHECKS.items():
                    _report(report, name, lambda check=check: check(engine), engine)
    finally:
        os.sync()
        ctypes.CDLL(None).reboot(_POWER_OFF)


def _report(
    report,
    name: str,
    work: Callable[[], object],
    engine: EngineProcess | None = None,
    seconds: float | None = None,
) -> bool:
    began = time.monotonic()
    try:
        work()
        text = ""
    except Exception:  # noqa: BLE001 - whatever it is, the host's pytest tells it
        text = traceback.format_exc()
        if engine is not None and (engine.base / "supervisor.log").exists():
            text += "\nthe supervisor's log ends:\n" + engine.log_text()[-_LOG_TAIL:]
    took = time.monotonic() - began if seconds is None else seconds
    line = {"check": name, "ok": not text, "seconds": round(took, 2), "text": text}
    report.write(json.dumps(line) + "\n")
    report.flush()
    return not text


def _uptime() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


if __name__ == "__main__":
    main(sys.argv[1])
