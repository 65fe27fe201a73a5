"""The engine on a pure cgroup v2 kernel: one boot of a virtual machine, one test for each check.

The checks themselves are in tests/vm/checks.py. By hand, with the console shown at the end:
`pytest tests/real/test_pure_v2.py -s`.
"""

import platform

import pytest

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
