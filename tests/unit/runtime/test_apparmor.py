"""How a process changes to its AppArmor profile. No machine of ours has AppArmor: its file is made
up here, at the place where the kernel has it."""

from __future__ import annotations

import os

import pytest

from runtime.becoming import Becoming, Ends
from runtime.exec_plan import compile_exec
from runtime.exec_spec import ExecSpec
from runtime.kernel import Kernel


class Proc(Kernel):
    """A /proc in a directory."""

    def __init__(self, directory, code=0):
        self.directory = directory
        self.code = code

    def open(self, path, flags):
        return os.open(f"{self.directory}{os.fsdecode(path)}", flags)

    def write(self, fd, data):
        if self.code:
            raise OSError(self.code, os.strerror(self.code))
        return os.write(fd, data)


@pytest.mark.parametrize("place", ["proc/self/attr/apparmor/exec", "proc/self/attr/exec"])
def test_the_execve_is_told_where_to(tmp_path, place):
    """The second is where kernels before 5.1 have it."""
    file = tmp_path / place
    file.parent.mkdir(parents=True)
    file.touch()
    plan = compile_exec(ExecSpec(args=("true",), cgroup="/", apparmor="nest//egg").to_json())
    process = Becoming(Proc(tmp_path), plan, None, Ends(3, 1, 2, -1))
    process._change_profile()
    assert file.read_bytes() == b"exec nest//egg"
    refusing = Becoming(Proc(tmp_path, 2), plan, None, Ends(3, 1, 2, -1))
    with pytest.raises(FileNotFoundError):
        refusing._change_profile()
    assert refusing.step == "apply the AppArmor profile nest//egg"
