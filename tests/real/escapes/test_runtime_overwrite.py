"""CVE-2019-5736: a payload that overwrites the runtime through /proc/self/exe."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real.exec_driver import entered

ATTACK = r"""
import errno, os, signal, sys
def tried(path):
    try:
        fd = os.open(path, os.O_WRONLY)
    except OSError as error:
        return errno.errorcode[error.errno]
    os.write(fd, b"overwritten")
    return "written"
pid = int(sys.argv[1])
# Kept open for reading until nobody executes it any more, then opened anew for writing.
kept = os.open(f"/proc/{pid}/exe", os.O_RDONLY)
said = [tried(f"/proc/{pid}/exe")]
if pid > 1:
    os.kill(pid, signal.SIGKILL)
print("gone", flush=True)
sys.stdin.readline()
said.append(tried(f"/proc/self/fd/{kept}"))
# As long as somebody executes it, it is busy; that nobody could write to it later, this tells.
said.append("read-only" if os.fstatvfs(kept).f_flag & os.ST_RDONLY else "writable")
print(*said)
"""
HELD = "gone\nETXTBSY ETXTBSY read-only\n"


def test_the_payload_succeeds_against_a_program_that_is_merely_executed(tmp_path):
    """A runtime's file as runc's was until 1.0-rc6: on a writable mount."""
    runtime = tmp_path / "busybox"
    shutil.copy2("/bin/busybox", runtime)
    command = [runtime, "sh", "-c", "echo up; read line"]
    with subprocess.Popen(command, stdin=-1, stdout=-1) as victim:
        assert victim.stdout.readline() == b"up\n"
        command = [sys.executable, "-c", ATTACK, str(victim.pid)]
        with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as attack:
            assert attack.stdout.readline() == "gone\n"
            victim.communicate()
            assert attack.communicate("go\n")[0] == "ETXTBSY written writable\n"
    assert runtime.read_bytes().startswith(b"overwritten")


SLEEPS = "import time; print('up', flush=True); time.sleep(1000)"


def attacked(driver, started, python, pid):
    """What the attack says of a process of the container."""
    with entered(driver, started, python, "-c", ATTACK, str(pid), stdin=b"go\n") as one:
        assert one.failure() is None
        said = one.output()
        one.status()
    return said


@pytest.mark.parametrize("by", ["entrypoint", "script", "exec"])
def test_cve_2019_5736(driver, python, tmp_path, by):
    """Who executes /proc/self/exe has it from a mount that nobody can write to."""
    if os.stat(os.path.realpath(sys.executable)).st_dev != os.stat("/").st_dev:
        pytest.skip("the interpreter is on a file system of its own")
    program, binds = python
    before = os.stat(program)
    ours = ["/proc/self/exe", "-I", "-S", "-c", SLEEPS]
    if by == "script":
        # The interpreter of a script is looked up while the file of ours is still executed.
        top = tmp_path / "top"
        top.mkdir()
        lines = ("#!/proc/self/exe -IS", *SLEEPS.split("; "), "")
        (top / "run").write_text("\n".join(lines))
        (top / "run").chmod(0o755)
        started = driver.start("/run", binds=binds, lower=(str(top), str(driver.lower)))
    elif by == "entrypoint":
        started = driver.start(*ours, binds=binds)
    else:
        started = driver.start("sleep", "1000", binds=binds)
    assert started.failure() is None
    if by == "exec":
        with entered(driver, started, *ours) as victim:
            assert victim.readline() == "up\n"
            status = Path(f"/proc/{victim.pid}/status").read_text()
            inner = status.split("NSpid:")[1].split("\n")[0].split()[-1]
            assert attacked(driver, started, program, inner) == HELD
            assert os.waitstatus_to_exitcode(victim.status()) == -signal.SIGKILL
    else:
        assert started.readline() == "up\n"
        assert attacked(driver, started, program, 1) == HELD
    after = os.stat(program)
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)


def test_cve_2019_5736_the_init_before_the_payload(driver, tmp_path, python):
    """tini is a file of the machine's, too, which the container has as its /proc/1/exe."""
    tini = tmp_path / "tini"
    shutil.copy2("/bin/busybox", tini)
    before = tini.read_bytes()
    command = ("busybox", "sh", "-c", "echo up; sleep 1000")
    started = driver.start(*command, init=str(tini), binds=python[1])
    assert started.readline() == "up\n"
    assert attacked(driver, started, python[0], 1) == HELD
    assert tini.read_bytes() == before


def test_the_shim_s_interpreter_is_busy_and_the_payload_can_not_see_it(driver):
    started = driver.start("sh", "-c", "ls -l /proc/[0-9]*/exe")
    assert started.output().count("->") <= 2
    with pytest.raises(OSError, match="Text file busy"):
        os.open(f"/proc/{driver.pid}/exe", os.O_WRONLY)
