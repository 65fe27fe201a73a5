"""All checks in one boot, told as they came: `python -m tests.vm [KERNEL_PACKAGE.deb]`.

For kernels that the suite doesn't boot, such as the oldest that we say we run on.
"""

import sys
import tempfile
from pathlib import Path

from tests.vm.kernel import open_package
from tests.vm.machine import CACHE, boot

LIMIT = 600  # seconds


def main(packages: list[str]) -> int:
    """Boot once; returns 0 if every check held."""
    with tempfile.TemporaryDirectory() as folder:
        # Not in CACHE itself: the suite would take it for its own.
        kernel = open_package(Path(packages[0]), CACHE.with_name("vm-others")) if packages else None
        done = boot("tests.vm.guest", Path(folder), LIMIT, kernel)
    for line in done.lines:
        print(f"{line['seconds']:7.2f} s  {'ok    ' if line['ok'] else 'FAILED'}  {line['check']}")
        print(line["text"], end="")
    print(done.console)
    print(f"{done.seconds:7.2f} s in all")
    return 0 if done.ended and all(line["ok"] for line in done.lines) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
