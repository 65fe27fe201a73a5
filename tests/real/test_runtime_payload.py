"""Which program runs as whom, and what is said when it can't."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from runtime.spec import Bind, Tmpfs

REFUSED = {
    "not in PATH": (("nope",), {}, 127, 'exec: "nope": executable file not found in $PATH'),
    "no PATH at all": (
        ("true",),
        {"env": ("PATH",)},
        127,
        'exec: "true": executable file not found in $PATH',
    ),
    "no such file": (("/nope",), {}, 127, 'exec: "/nope": stat /nope: no such file or directory'),
    "a directory": (("/etc",), {}, 126, 'exec: "/etc": is a directory'),
    "not executable": (("/plain",), {}, 126, 'exec: "/plain": permission denied'),
    "no format": (("/no-format",), {}, 126, "exec /no-format: exec format error"),
    "no interpreter": (
        ("/no-interpreter",),
        {},
        127,
        "exec /no-interpreter: no such file or directory "
        "(the file is there, but not the interpreter that it names)",
    ),
    "behind a closed directory": (
        ("/closed/x",),
        {"user": "bird"},
        126,
        'exec: "/closed/x": stat /closed/x: permission denied',
    ),
    "no working directory": (
        ("true",),
        {"cwd": "/missing"},
        127,
        'working directory "/missing" can\'t be entered: no such file or directory',
    ),
    "a file as working directory": (
        ("true",),
        {"cwd": "/plain"},
        127,
        'working directory "/plain" can\'t be entered: not a directory',
    ),
    "no user": (
        ("true",),
        {"user": "bob"},
        125,
        "unable to find user bob: no matching entries in passwd file",
    ),
    "no group": (
        ("true",),
        {"user": "bird:herd"},
        125,
        "unable to find group herd: no matching entries in group file",
    ),
    "no bind source": (
        ("true",),
        {"binds": (Bind("/no/such", "/x"),)},
        125,
        "bind: no such file or directory: /no/such",
    ),
}


@pytest.mark.parametrize(("args", "more", "exit_code", "words"), REFUSED.values(), ids=REFUSED)
def test_refusals(driver, args, more, exit_code, words):
    started = driver.start(*args, **more)
    report = started.failure()
    assert (report["exit_code"], report["words"]) == (exit_code, words)
    assert report["errno"] > 0
    # The init that failed is told of like any other, with the same code.
    assert os.waitstatus_to_exitcode(started.status()) == exit_code
    assert driver.cgroups.populated(started.id) is False


@pytest.mark.parametrize("args", [(), ("",)])
def test_no_command(driver, args):
    started = driver.start(*args)
    assert "no command specified" in started.refused.message
    assert started.failure() is None


@pytest.mark.parametrize(
    ("user", "uid", "gid", "groups", "home"),
    [
        ("", "0", "0", "0", "/root"),
        ("root", "0", "0", "0", "/root"),
        ("bird", "1234", "5678", "5678 999", "/nest"),
        ("1234", "1234", "5678", "5678 999", "/nest"),
        ("bird:flock", "1234", "999", "999", "/nest"),
        ("bird:4711", "1234", "4711", "4711", "/nest"),
        ("7:8", "7", "8", "8", "/"),
        ("4242", "4242", "0", "0", "/"),
    ],
)
def test_user_and_groups(driver, user, uid, gid, groups, home):
    script = "grep -e Uid -e Gid -e Groups /proc/self/status; echo $HOME"
    seen = [line.split() for line in driver.run(script, user=user).splitlines()]
    assert seen[0] == ["Uid:", *[uid] * 4]
    assert seen[1] == ["Gid:", *[gid] * 4]
    assert sorted(seen[2][1:]) == sorted(groups.split())
    assert seen[3] == [home]


def test_groups_are_added_to_the_users(driver):
    for more in ({}, {"binds": (Tmpfs("/x"),)}):  # a fast start, and one of the Python init
        assert (
            driver.run("id -G", user="bird", groups=("root", "31"), **more) == "5678 0 31 999\n"
        )  # as the kernel sorts them


def test_a_group_that_is_not_there(driver):
    report = driver.start("true", groups=("cats",)).failure()
    assert "unable to find group cats: no matching entries in group file" in str(report)


def test_a_user_has_no_capability_and_can_get_none_of_those_dropped(driver):
    seen = driver.run("grep Cap /proc/self/status", user="bird").split()
    nothing = "0" * 16
    assert seen[1::2] == [nothing, nothing, nothing, "00000000a80425fb", nothing]


def test_the_users_come_from_the_container(driver, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nbird:x:1:2::/inner:/bin/sh\n")
    lower = (str(tmp_path), str(driver.lower))
    assert driver.run("id -u; echo $HOME", user="bird", lower=lower).split() == ["1", "/inner"]


# Not `id`: that would read the file itself, and stumble where the init must not.
UID = "grep Uid /proc/self/status"


@pytest.mark.parametrize("target", ["/dev/zero", "/nowhere", "/tmp"])
def test_a_passwd_that_leads_astray(driver, tmp_path, target):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to(target)
    lower = (str(tmp_path), str(driver.lower))
    assert driver.run(UID, lower=lower).split()[1] == "0"
    report = driver.start("true", user="bird", lower=lower).failure()
    assert "unable to find user bird" in report["words"]


def test_a_passwd_that_blocks(driver, tmp_path):
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/passwd")
    lower = (str(tmp_path), str(driver.lower))
    assert driver.run(UID, lower=lower).split()[1] == "0"


def test_path_look_up_goes_in_order_and_passes_over_what_can_not_run(driver, tmp_path):
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
    (tmp_path / "first/tool").write_text("not executable\n")
    (tmp_path / "second/tool").mkdir()
    (tmp_path / "third/tool").write_text("#!/bin/sh\necho third\n")
    (tmp_path / "third/tool").chmod(0o755)
    started = driver.start(
        "tool", env=("PATH=/t/first:/t/second:/t/third",), binds=(Bind(str(tmp_path), "/t"),)
    )
    assert started.output() == "third\n"


def test_exit_code(driver):
    started = driver.start("sh", "-c", "exit 7")
    assert os.waitstatus_to_exitcode(started.status()) == 7


def test_killed_by_a_signal(driver):
    started = driver.start("sleep", "1000")
    assert started.failure() is None
    # A pid namespace's first process is deaf to signals that it has no handler for, but for two.
    started.kill(signal.SIGTERM)
    started.kill(signal.SIGKILL)
    assert os.WTERMSIG(started.status()) == signal.SIGKILL


_LIBRARIES = [path for path in map(Path, ("/lib", "/lib64", "/usr/lib")) if path.exists()]
CRASH = """
import ctypes, resource
resource.setrlimit(resource.RLIMIT_CORE, ({limit}, -1))
ctypes.string_at(0)
"""


@pytest.mark.parametrize("dumps", [False, True])
def test_a_crash_tells_whether_it_left_a_core(driver, dumps):
    """The kernel's own SIGSEGV reaches even a namespace's first process."""
    if dumps and not Path("/proc/sys/kernel/core_pattern").read_text().strip():
        pytest.skip("this machine dumps no cores")
    script = CRASH.format(limit=2**20 if dumps else 0)
    python = Path(sys.base_prefix)
    binds = tuple(Bind(str(path), str(path), readonly=True) for path in (python, *_LIBRARIES))
    started = driver.start(f"{python}/bin/python3", "-c", script, binds=binds)
    assert started.failure() is None
    status = started.status()
    assert os.WTERMSIG(status) == signal.SIGSEGV
    assert os.WCOREDUMP(status) == dumps


def test_the_whole_container_ends_with_its_first_process(driver):
    started = driver.start("sh", "-c", "for i in 1 2 3; do sleep 1000 & done; echo up; wait")
    assert started.readline() == "up\n"
    started.kill()
    started.exited()
    assert driver.cgroups.populated(started.id) is False
