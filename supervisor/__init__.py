"""The async daemon: lifecycle phases as tasks, stop escalation, state on disk, the Engine API."""

import sys

# Where rich is installed structlog imports it, for coloured tracebacks: a quarter of a supervisor's
# start and 4 MiB for as long as it lives. None is the import system's own "not there".
_rich = sys.modules.get("rich")
if _rich is None:
    sys.modules["rich"] = None  # type: ignore[assignment]

import structlog as _  # noqa: E402, F401

if _rich is None:
    del sys.modules["rich"]
