"""Ctrl-C in the moment in which the command line's own modules are read."""

import subprocess
import sys

_PROGRAM = """
import sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "mdocker.launch":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
from mdocker.__main__ import main
main()
"""


def test_no_traceback():
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (130, "")
