"""The engine on a pure cgroup v2 kernel: one boot of a virtual machine, one test for each check.

The checks themselves are in tests/vm/checks.py. By hand, with the console shown at the end:
`pytest tests/real/test_pure_v2.py -s`.
"""

import platform
import subprocess
import sys

import pytest

from tests.real.engine_process import EngineProcess
from tests.vm.checks import CHECKS
from tests.vm.kernel import Unavailable
from tests.vm.machine import boot

WATCHDOG = 240  # seconds; a boot with all checks takes about 60 in software emulation

# The first test waits for the whole boot, and perhaps for the download of the kernel.
pytestmark = pytest.mark.timeout(WATCHDOG + 60)


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    """One boot with all checks."""
    if platform.machine() != "x86_64":
        pytest.skip("the virtual machine is x86-64, and runs the programs of this machine")
    try:
        done = boot("tests.vm.guest", tmp_path_factory.mktemp("vm"), WATCHDOG)
    except Unavailable as reason:
        pytest.skip(f"no virtual machine: {reason}")
    for line in done.lines:
        print(f"{line['seconds']:7.2f} s  {'ok' if line['ok'] else 'FAILED'}  {line['check']}")
    print(f"{done.seconds:7.2f} s  in all")
    return done


@pytest.mark.parametrize("name", ["engine", *CHECKS])
def test_on_pure_v2(guest, name):
    told = {line["check"]: line for line in guest.lines}
    assert name in told, (
        f"the guest did not report {name}; it reported {list(told)} and its console says:\n"
        f"{guest.console[-4000:]}"
    )
    assert told[name]["ok"], told[name]["text"]


def test_the_machine_ends_by_itself(guest):
    assert guest.ended, f"the watchdog ended it; its console says:\n{guest.console[-4000:]}"
    assert "Call Trace" not in guest.console


def test_without_a_cgroup2_tree_the_engine_says_so(tmp_path):
    """On this machine, in a mount namespace of its own."""
    process = EngineProcess(tmp_path)
    daemon = [
        *(sys.executable, "-m", "mdocker", "daemon", "--ready-fd", "1"),
        *("--root", str(process.root), "--run-dir", str(process.run_dir)),
    ]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", 'umount -a -t cgroup2 && exec "$@"', "sh", *daemon],
        capture_output=True,
        text=True,
        env=process.environment,
        cwd="/",
        check=False,
    )
    assert done.returncode == 1, done
    assert len(done.stdout.splitlines()) == 1
    assert "no cgroup2 tree is mounted" in done.stdout
    assert "mount -t cgroup2" in done.stdout
    assert "Traceback" not in done.stderr
