"""A pytest plugin for the guest: each test's end as a line of JSON, for who watches from outside.

`pytest -p tests.vm.progress`; the file is named by MDOCKER_PROGRESS. A line is {"of"} once it is
known how many tests there are, {"begun"} as one begins, and {"test", "outcome", "seconds", "text"}
as it ends, where "outcome" is pytest's: passed, failed or skipped, and "text" says why it failed.
"""

from __future__ import annotations

import json
import os

_FILE = os.environ["MDOCKER_PROGRESS"]
_outcomes: dict[str, tuple[str, float, str]] = {}
_IN_WORKER = "PYTEST_XDIST_WORKER" in os.environ
"""Whose reports its controller hears, and tells."""


def pytest_collection_finish(session):
    _tell(of=len(session.items))


def pytest_runtest_logstart(nodeid):
    _tell(begun=nodeid)


def pytest_runtest_logreport(report):
    """Setup, call and teardown have a report each; the worst is the test's."""
    outcome, seconds, text = _outcomes.pop(report.nodeid, ("passed", 0.0, ""))
    if report.outcome != "passed":
        outcome = "failed" if "failed" in (outcome, report.outcome) else report.outcome
    if report.outcome == "failed":
        text += report.longreprtext + "\n"
    seconds += report.duration
    if report.when != "teardown":
        _outcomes[report.nodeid] = outcome, seconds, text
        return
    _tell(test=report.nodeid, outcome=outcome, seconds=round(seconds, 2), text=text)


def _tell(**line):
    if _IN_WORKER and "of" not in line:
        return
    with open(_FILE, "a") as file:  # each line is there at once, whatever comes after it
        file.write(json.dumps(line) + "\n")
