"""Clearing a cgroup: at once where it is empty, by SIGKILL where it is not."""

import errno
import os
import signal
import subprocess

import pytest

from supervisor.strays import clear_cgroup

pytestmark = pytest.mark.anyio


class FakeCgroups:
    """One cgroup that holds some processes of ours."""

    def __init__(self, *children):
        self.children = list(children)
        self.asked = []

    def remove(self, container_id):
        self.asked.append("remove")
        if self.children:
            raise OSError(errno.EBUSY, "busy")

    def pids(self, container_id):
        self.asked.append("pids")
        return {child.pid for child in self.children}

    def kill(self, container_id):
        for child in self.children:
            child.send_signal(signal.SIGKILL)
        self.children = []


def a_child():
    return subprocess.Popen(["sleep", "1000"])


def reaped(child):
    """Whether somebody else has reaped it; Popen must not look for it at the end."""
    try:
        os.waitpid(child.pid, os.WNOHANG)
    except ChildProcessError:
        child.returncode = -signal.SIGKILL
        return True
    return False


async def test_an_empty_one_is_removed_without_a_look_that_takes_descriptors():
    cgroups = FakeCgroups()
    await clear_cgroup(cgroups, "c" * 64)
    assert cgroups.asked == ["remove"]


async def test_what_is_in_it_is_ended_and_reaped_first():
    child = a_child()
    cgroups = FakeCgroups(child)
    await clear_cgroup(cgroups, "c" * 64)
    assert cgroups.asked == ["remove", "pids", "pids", "remove"]
    assert reaped(child)


async def test_another_trouble_is_told():
    cgroups = FakeCgroups()
    cgroups.remove = lambda container_id: (_ for _ in ()).throw(OSError(errno.EACCES, "no"))
    with pytest.raises(OSError, match="no"):
        await clear_cgroup(cgroups, "c" * 64)
