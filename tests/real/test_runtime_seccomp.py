"""A filter that the runtime loads: in init and exec, as root and as others, fast and by Python.

The filters are assembled here, by hand: what the runtime does with them is what is tested.
"""

from __future__ import annotations

import base64
import errno
import os
import platform
import struct

import pytest

from runtime.cgroups import Limits
from tests.real.exec_driver import entered, execute

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the filters here have system call numbers of x86_64"
)

MKDIR, WRITE, EXECVE, CAPSET, UNAME = 83, 1, 59, 126, 63
ALLOW, KILL = 0x7FFF0000, 0x80000000
ADMIN = 1 << 21


def refuse(code):
    return 0x50000 | code


def forbidding(calls, otherwise=ALLOW):
    """A filter that answers the calls with what they are mapped to."""
    words = [struct.pack("=HBBI", 0x20, 0, 0, 0)]  # load the number
    for number, answer in calls.items():
        words.append(struct.pack("=HBBI", 0x15, 0, 1, number))
        words.append(struct.pack("=HBBI", 0x06, 0, 0, answer))
    words.append(struct.pack("=HBBI", 0x06, 0, 0, otherwise))
    return base64.b64encode(b"".join(words)).decode()


NO_MKDIR = forbidding({MKDIR: refuse(errno.EXDEV)})
STATUS = "grep -E '^(Seccomp|CapPrm|CapEff|CapBnd|NoNewPrivs):' /proc/self/status; mkdir /tmp/x; :"


def told(text):
    return dict(line.split(":\t") for line in text.splitlines() if ":\t" in line)


@pytest.mark.parametrize("user", ["", "bird"])
@pytest.mark.parametrize("no_new_privileges", [False, True])
@pytest.mark.parametrize("limits", [Limits(), Limits(memory=2**26)], ids=["free", "limited"])
def test_a_payload_is_filtered_whoever_it_is(driver, user, no_new_privileges, limits):
    """What seccomp(2) needs on the way, CAP_SYS_ADMIN, the payload has not."""
    out = driver.run(
        STATUS + " 2>&1",
        user=user,
        no_new_privileges=no_new_privileges,
        seccomp=NO_MKDIR,
        limits=limits,
    )
    status = told(out)
    assert status["Seccomp"] == "2"
    assert status["NoNewPrivs"] == str(int(no_new_privileges))
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert not int(status[name], 16) & ADMIN, name
    assert (int(status["CapEff"], 16) == 0) == bool(user)


def test_what_it_forbids_fails_with_the_errno_that_it_names(driver):
    started = driver.start("mkdir", "/tmp/x", seccomp=NO_MKDIR)
    assert started.failure() is None
    assert "Invalid cross-device link" in started.errors()
    assert os.waitstatus_to_exitcode(started.status()) == 1


def test_a_kill_ends_the_payload_by_sigsys(driver):
    started = driver.start("mkdir", "/tmp/x", seccomp=forbidding({MKDIR: KILL}))
    assert started.failure() is None
    assert started.status() & 0x7F == 31


def test_nothing_but_the_execve_comes_after_it(driver):
    """A profile needs to allow none of what drops privileges, closes descriptors or the like."""
    calls = dict.fromkeys((59, 12, 9, 10, 11, 158, 102, 63, 1, 231, 3, 334, 218, 273, 302), ALLOW)
    calls |= dict.fromkeys((262, 332, 16, 39, 110, 104, 107, 108, 13, 14, 79, 89, 318), ALLOW)
    started = driver.start(
        "echo", "said", user="bird", seccomp=forbidding(calls, refuse(errno.EPERM))
    )
    assert started.failure() is None
    assert started.output() == "said\n"


def test_a_filter_that_the_kernel_does_not_take_is_a_failure_with_words(driver):
    started = driver.start("true", seccomp=base64.b64encode(b"\xff" * 8).decode())
    assert started.failure()["words"] == "filter its system calls: invalid argument"
    assert os.waitstatus_to_exitcode(started.status()) == 125


@pytest.mark.parametrize("user", ["", "bird"])
def test_who_enters_is_filtered(driver, user):
    started = driver.start("sleep", "1000", seccomp=NO_MKDIR)
    assert started.failure() is None
    for more in ({}, {"no_new_privileges": True}, {"layers": ()}):  # without layers: no fast one
        seen = told(execute(driver, started, STATUS, user=user, seccomp=NO_MKDIR, **more))
        assert seen["Seccomp"] == "2"
        for name in ("CapPrm", "CapEff", "CapBnd"):
            assert not int(seen[name], 16) & ADMIN, name
        with entered(driver, started, "mkdir", "/x", user=user, seccomp=NO_MKDIR, **more) as one:
            assert one.failure() is None
            assert "Invalid cross-device link" in one.errors()
            assert one.status() != 0


def test_each_container_has_a_session_keyring_of_its_own(driver):
    """What it sees in /proc/keys it could use; its neighbour's is not among that."""
    ids, serials = [], set()
    for _ in range(2):
        started = driver.start("sleep", "1000", masked_paths=())
        assert started.failure() is None
        ids.append(started.id)
        for user in ("", "bird"):
            keys = execute(driver, started, "cat /proc/keys", user=user, container=started.id)
            # Other engines on this machine may give away theirs to be seen.
            ours = [line.split() for line in keys.splitlines() for one in ids if f".{one}:" in line]
            assert [words[8] for words in ours] == [f"_ses.{started.id}:"], keys
            assert ours[0][4] == "3f080000"
            serials.add(ours[0][0])
        anonymous = execute(driver, started, "cat /proc/keys")
        assert f"_ses.{started.id}:" not in anonymous
        assert " _ses: " in anonymous  # what the kernel calls one without a name
    assert len(serials) == 2, "those who enter have others"


def test_an_apparmor_profile_that_can_not_be_applied_is_a_failure_with_words(driver):
    """On a kernel without AppArmor, and with it: this profile is nowhere."""
    for more in ({}, {"user": "bird"}):
        started = driver.start("true", apparmor="no-such-profile", **more)
        failure = started.failure()
        assert failure["words"].startswith("apply the AppArmor profile no-such-profile: ")
        assert failure["exit_code"] == os.waitstatus_to_exitcode(started.status()) == 125
    started = driver.start("sleep", "1000")
    with entered(driver, started, "true", apparmor="no-such-profile") as one:
        assert one.failure()["words"].startswith("apply the AppArmor profile no-such-profile: ")
        assert os.waitstatus_to_exitcode(one.status()) == 125
