"""How soon a supervisor is back depends on what it imports; what it imports it also keeps."""

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
DEAR = {"rich", "pygments", "cyclopts", "trio", "unittest", "httpx", "zstandard", "isal"}
BEHIND = {
    "supervisor.registries.client",
    "supervisor.transfers.pulling",
    "supervisor.building.builder",
}
"""Imported behind the start; see supervisor/api/late.py."""


def test_the_supervisor_imports_nothing_dear():
    script = "import supervisor.daemon, sys; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.split())
    assert modules & BEHIND == set()
    loaded = {name.partition(".")[0] for name in modules}
    assert "structlog" in loaded
    assert loaded & DEAR == set()
