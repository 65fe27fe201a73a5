"""Killing a cgroup on a kernel without cgroup.kill (before 5.14)."""

import signal
import subprocess

import pytest

from runtime.cgroup_trees import Trees
from runtime.cgroups import Cgroups


@pytest.fixture
def sleepers():
    """Three processes of the test's own."""
    processes = [subprocess.Popen(["sleep", "1000"]) for _ in range(3)]
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def test_each_process_is_killed_and_no_file_is_made(tmp_path, sleepers):
    outside, direct, nested = sleepers
    directory = tmp_path / "parent" / "container"
    (directory / "below").mkdir(parents=True)
    (directory / "cgroup.procs").write_text(f"{direct.pid}\n")
    (directory / "below" / "cgroup.procs").write_text(f"{nested.pid}\n")
    Cgroups("parent", Trees(tmp_path)).kill("container")
    assert direct.wait(30) == -signal.SIGKILL
    assert nested.wait(30) == -signal.SIGKILL
    assert outside.poll() is None
    # O_CREAT is what cgroupfs answers with EACCES instead of ENOENT.
    assert not (directory / "cgroup.kill").exists()


def test_cgroup_kill_is_written_where_it_is(tmp_path, sleepers):
    direct = sleepers[0]
    directory = tmp_path / "parent" / "container"
    directory.mkdir(parents=True)
    (directory / "cgroup.procs").write_text(f"{direct.pid}\n")
    (directory / "cgroup.kill").touch()
    Cgroups("parent", Trees(tmp_path)).kill("container")
    assert (directory / "cgroup.kill").read_text() == "1"
    assert direct.poll() is None


def test_a_cgroup_that_is_gone_is_no_error(tmp_path):
    Cgroups("parent", Trees(tmp_path)).kill("container")
