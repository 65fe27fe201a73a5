"""The guest's side: start an engine, run every check, report each as a line of JSON, power off.

`python -m tests.vm.guest REPORT`; a line is {"check", "ok", "seconds", "text"}, where "check" is
"boot" and "engine" for what comes first.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.real.engine_process import EngineProcess
from tests.vm.checks import CHECKS

_POWER_OFF = 0x4321FEDC  # LINUX_REBOOT_CMD_POWER_OFF, reboot(2)
_LOG_TAIL = 6000
_LIMIT = 120
"""Seconds for one check; what hangs is told with the supervisor's log, and the rest goes on."""


def main(report_path: str) -> None:
    """Do it all; never returns."""
    signal.signal(signal.SIGALRM, _too_long)
    try:
        report = Path(report_path)
        _report(report, "boot", lambda: None, seconds=_uptime())
        engine = EngineProcess(Path("/run/engine"))
        if _report(report, "engine", engine.start, engine):
            for name, check in CHECKS.items():
                _report(report, name, lambda check=check: check(engine), engine)
    finally:
        os.sync()
        ctypes.CDLL(None).reboot(_POWER_OFF)


def _report(
    report: Path,
    name: str,
    work: Callable[[], object],
    engine: EngineProcess | None = None,
    seconds: float | None = None,
) -> bool:
    began = time.monotonic()
    try:
        signal.alarm(_LIMIT)
        try:
            work()
        finally:
            signal.alarm(0)
        text = ""
    except Exception:  # noqa: BLE001 - whatever it is, the host's pytest tells it
        text = traceback.format_exc()
        if engine is not None and (engine.base / "supervisor.log").exists():
            text += "\nthe supervisor's log ends:\n" + engine.log_text()[-_LOG_TAIL:]
    took = time.monotonic() - began if seconds is None else seconds
    line = {"check": name, "ok": not text, "seconds": round(took, 2), "text": text}
    report.write_text(json.dumps(line) + "\n")  # a serial port: writing truncates nothing
    return not text


def _too_long(*_: object) -> None:
    raise TimeoutError(f"still going after {_LIMIT} s")


def _uptime() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


if __name__ == "__main__":
    main(sys.argv[1])
