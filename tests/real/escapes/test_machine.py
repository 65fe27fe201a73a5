"""What belongs to the machine: its disks, release agents, terminals, keys and mounts."""

from __future__ import annotations

import ctypes
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime.spec import DEFAULT_CAPABILITIES, Bind
from tests.real.exec_driver import entered

_SHOCKER = r"""
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
mount = os.open(sys.argv[1], os.O_RDONLY)
# FILEID_INO32_GEN: inode 2, generation 0: the root of an ext4 file system (open_by_handle_at(2)).
handle = struct.pack("=IiII", 8, 1, 2, 0)
fd = libc.open_by_handle_at(mount, handle, os.O_RDONLY)
print(sorted(os.listdir(fd)) if fd >= 0 else os.strerror(ctypes.get_errno()))
"""


def test_shocker_a_file_handle_opens_the_machine_s_root(driver, python, tmp_path):
    """By a bind on the machine's disk, as /etc/hosts is: any file of that disk by its number."""
    disk = tmp_path.stat().st_dev
    if disk != os.stat("/").st_dev or os.stat("/").st_ino != 2:
        pytest.skip("needs the tests' directory on the root's file system, an ext4")
    program, binds = python
    (tmp_path / "hosts").touch()
    binds = (*binds, Bind(str(tmp_path / "hosts"), "/etc/hosts"))

    def shocked(**more):
        started = driver.start(program, "-c", _SHOCKER, "/etc/hosts", binds=binds, **more)
        assert started.failure() is None
        return started.output()

    assert shocked() == "Operation not permitted\n"
    able = (*DEFAULT_CAPABILITIES, "CAP_DAC_READ_SEARCH")
    assert shocked(capabilities=able) == f"{sorted(os.listdir('/'))}\n"


_RELEASE = """
mkdir /c
mount -t cgroup -o none,name=$0 cgroup /c || exit 0
mkdir /c/child && echo 1 > /c/child/notify_on_release || exit 0
echo $1 > /c/release_agent || exit 0
sh -c 'echo $$ > /c/child/cgroup.procs'
for i in $(seq 200); do [ -e /flags/ran ] && break; sleep 0.02; done
rmdir /c/child; umount /c; [ -e /flags/ran ] && echo escaped
"""


def test_cve_2022_0492_release_agent(driver, tmp_path):
    """The kernel runs it as the machine's root when a v1 cgroup has become empty.

    In a hierarchy of the test's own, which ends with it: none of the machine's is touched.
    """
    flags = tmp_path / "flags"
    flags.mkdir()
    agent = tmp_path / "agent"
    agent.write_text(f"#!/bin/sh\ntouch {flags}/ran\n")
    agent.chmod(0o755)
    name = f"mdocker-escapes-{os.getpid()}"
    # Only the machine may make one; who may mount finds it.
    hierarchy = tmp_path / "hierarchy"
    hierarchy.mkdir()
    mount = ["mount", "-t", "cgroup", "-o", f"none,name={name}", "none", str(hierarchy)]
    if subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("this kernel has no cgroup v1")
    try:
        _attack_release_agent(driver, agent, flags, name)
    finally:
        (hierarchy / "release_agent").write_text("")
        if (hierarchy / "child").exists():
            (hierarchy / "child").rmdir()
        subprocess.run(["umount", hierarchy], check=True)
        # The kernel takes it back a while later, if it was done with the cgroups in it; else the
        # next umount does. Nothing tells of either.
        for attempt in range(300):
            if f"name={name}:" not in Path("/proc/self/cgroup").read_text():
                break
            if attempt % 30 == 29:
                subprocess.run(mount, check=True)
                subprocess.run(["umount", hierarchy], check=True)
            time.sleep(0.02)
        assert f"name={name}:" not in Path("/proc/self/cgroup").read_text()


def _attack_release_agent(driver, agent, flags, name):
    binds = (Bind(str(flags), "/flags", readonly=True),)
    # By a user namespace of its own it is allowed to mount.
    nested = ("unshare", "-Urm", "sh", "-c", _RELEASE, name, str(agent))
    for command in (nested[2:], nested):
        started = driver.start(*command, binds=binds)
        assert (started.failure(), started.output()) == (None, "")
        assert started.errors() != ""
        assert os.listdir(flags) == []
    able = (*DEFAULT_CAPABILITIES, "CAP_SYS_ADMIN")
    started = driver.start(*nested[2:], binds=binds, capabilities=able)
    assert (started.output(), os.listdir(flags)) == ("escaped\n", ["ran"]), started.errors()


def test_what_is_there_of_cgroups_cannot_be_written(driver):
    script = """
        find /sys/fs/cgroup -name release_agent -o -name cgroup.procs -o -name devices.allow |
        while read file; do (echo 0 > $file) 2>/dev/null && echo $file; done
        mkdir /sys/fs/cgroup/x 2>/dev/null && echo made; echo done
    """
    assert driver.run(script) == "done\n"


def test_devpts_of_the_machine(driver):
    """Every way to a multiplexer leads to the container's own terminals."""
    ours, theirs = pty.openpty()
    name = os.ttyname(theirs)
    try:
        script = f"""
            mknod /ptmx c 5 2; mknod /dev/ptmx2 c 5 2; mknod /tmp/tty c 4 1
            for one in /ptmx /dev/ptmx2 /tmp/tty; do (exec 3<>$one) 2>/dev/null && echo $one; done
            [ -e {name} ] && echo there
            stat -c %d /dev/ptmx /dev/pts -L | uniq | wc -l
            echo sent > {name} || true
        """
        started = driver.start("sh", "-c", script)
        assert started.output() == "1\n"
        # It has made a plain file of that name, if anything.
        os.set_blocking(ours, False)
        with pytest.raises(BlockingIOError):
            os.read(ours, 1)
    finally:
        os.close(ours)
        os.close(theirs)


_TYPE = r"""
import fcntl, os
tried = []
for path in ("/dev/tty", "/dev/console", "/proc/self/fd/0", "/proc/self/fd/1"):
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        for letter in b"id\n":
            fcntl.ioctl(fd, 0x5412, bytes((letter,)))
        tried.append("typed")
    except OSError as error:
        tried.append(error.strerror)
print(tried)
"""


def test_tiocsti_types_at_nobody_s_terminal(driver, python, tmp_path):
    """CVE-2016-2568 and its like: a payload that types into the terminal that it was started from.

    Its session is its own, without a terminal, whatever the one who started it sits at.
    """
    program, binds = python
    started = driver.start(program, "-c", _TYPE, binds=binds)
    said = started.output()
    assert "typed" not in said and "No such device or address" in said
    # Who keeps the session of its parent types there (root may, whatever legacy_tiocsti says).
    pid, master = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", _TYPE])
    shown = b""
    try:
        while b"]" not in shown:
            shown += os.read(master, 4096)
    finally:
        os.close(master)
        os.waitpid(pid, 0)
    assert b"typed" in shown


def test_keyrings_of_others(driver, python):
    """A key in the session keyring of whoever started the engine is in nobody's reach."""
    add_key, request, keyctl = 248, 249, 250
    if os.uname().machine != "x86_64":
        pytest.skip("numbers of x86_64")
    read = f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
found = libc.syscall({request}, b"user", b"mdocker-secret", None, 0)
print(found if found > 0 else os.strerror(ctypes.get_errno()))
print(open("/proc/keys").read() == "")
"""
    program, binds = python
    ours = f"""
import ctypes, os, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.syscall({keyctl}, 1, None) > 0
assert libc.syscall({add_key}, b"user", b"mdocker-secret", b"x", 1, -3) > 0
sys.stdout.flush()
subprocess.run([sys.executable, "-c", {read!r}])
"""
    # Who shares the keyring finds it.
    shared = subprocess.check_output([sys.executable, "-c", ours], text=True)
    assert int(shared.splitlines()[0]) > 0
    said = driver.start(program, "-c", read, binds=binds).output().splitlines()
    assert said[0] in ("Required key not available", "Operation not permitted", "Permission denied")
    assert said[1] == "True"


def test_mounts_do_not_propagate_out(driver, tmp_path):
    """Also of one that may mount: its mounts are private. By a shared bind they do, as asked."""
    (tmp_path / "volume/place").mkdir(parents=True)
    volume = str(tmp_path / "volume")
    subprocess.run(["mount", "--bind", volume, volume], check=True)
    try:
        subprocess.run(["mount", "--make-shared", volume], check=True)
        script = "mount -t tmpfs none /v/place && touch /v/place/x && echo mounted"
        more = {"capabilities": (*DEFAULT_CAPABILITIES, "CAP_SYS_ADMIN")}
        binds = (Bind(volume, "/v"),)
        assert driver.run(script, binds=binds, **more) == "mounted\n"
        assert os.listdir(f"{volume}/place") == []
        slave = (Bind(volume, "/v", propagation="slave"),)
        assert driver.run(script, binds=slave, **more) == "mounted\n"
        assert os.listdir(f"{volume}/place") == []
        shared = (Bind(volume, "/v", propagation="shared"),)
        assert driver.run(script, binds=shared, **more) == "mounted\n"
        assert os.listdir(f"{volume}/place") == ["x"]
        subprocess.run(["umount", f"{volume}/place"], check=True)
    finally:
        subprocess.run(["umount", "--recursive", volume], check=True)


def test_a_device_in_the_place_of_passwd_is_not_opened_outside(driver):
    """To open a watchdog is to start it: a payload makes one, and waits for somebody to enter."""
    script = "rm /etc/passwd /etc/group; mknod /etc/passwd c 1 3; mknod /etc/group c 1 3; echo up"
    started = driver.start("sh", "-c", f"{script}; exec sleep 1000")
    assert started.readline() == "up\n"
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    opened = 0x20  # IN_OPEN
    etc = driver.home(started.id) / "upper/etc"
    try:
        for name in ("passwd", "group"):
            assert libc.inotify_add_watch(watch, os.fsencode(etc / name), opened) > 0
        with entered(driver, started, "true") as one:
            failure = one.failure()
            one.status()
        assert "permission denied: /etc/passwd" in failure["words"]
        with pytest.raises(BlockingIOError):
            os.read(watch, 4096)
        # It would be seen.
        os.close(os.open(etc / "passwd", os.O_RDONLY))
        assert os.read(watch, 4096)
    finally:
        os.close(watch)
