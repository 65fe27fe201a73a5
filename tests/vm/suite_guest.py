"""The guest's side of `tests.vm.suite`: run one command in the checkout, power off.

The command and its environment are in `ARGUMENTS`, its output goes to `OUTPUT` and its exit status
to `STATUS`, all in the directory that both sides see.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
from pathlib import Path

from tests.vm.initramfs import SHARE

ARGUMENTS, OUTPUT, STATUS = "arguments.json", "output", "status"
_POWER_OFF = 0x4321FEDC  # LINUX_REBOOT_CMD_POWER_OFF, reboot(2)
_DESCRIPTORS = (1024, 524288)
"""What systemd gives its services; the kernel's own hard limit is 4096."""


def main() -> None:
    """Do it; never returns."""
    try:
        share = Path(SHARE)
        asked = json.loads((share / ARGUMENTS).read_text())
        resource.setrlimit(resource.RLIMIT_NOFILE, _DESCRIPTORS)
        with (share / OUTPUT).open("wb") as output:
            done = subprocess.run(
                asked["command"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=asked["folder"],
                env={**os.environ, **asked["environment"]},
                check=False,
            )
        (share / STATUS).write_text(str(done.returncode))
    finally:
        os.sync()
        ctypes.CDLL(None).reboot(_POWER_OFF)


if __name__ == "__main__":
    main()
