"""No cgroup is left behind, and one that an earlier run has left does no harm to the next one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from runtime.cgroup_trees import find_trees
from runtime.cgroups import Cgroups
from supervisor.strays import bury_orphans
from tests.real.conftest import our_cgroups
from tests.real.engine_process import cgroups_of


def place(engine, container):
    """Where its v2 cgroup is while it runs."""
    tree = find_trees(Path("/proc/self/mountinfo").read_text()).unified
    parent = next(path.parent for path in map(Path, cgroups_of(container)) if tree in path.parents)
    return parent / container


def test_an_engine_has_none_before_its_first_container(fresh_engine):
    """So however early its start is cut short, nothing is left. On pure v2 its own is there, empty:
    what is counted and held in it is so for all that will be below it."""
    found = our_cgroups(fresh_engine.base)
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        assert [[path.name for path in Path(one).iterdir() if path.is_dir()] for one in found] == [
            []
        ]
    else:
        assert found == set()
    assert fresh_engine.result("true") == (0, "", "")
    assert len(our_cgroups(fresh_engine.base)) == 1
    fresh_engine.terminate()
    assert our_cgroups(fresh_engine.base) == set()


def test_one_that_was_killed_once_is_not_used_again(engine):
    """Linux 6.18 kills at birth what is cloned into one that cgroup.kill was ever used on."""
    script = "test -e /again && exit 5; touch /again; echo up; exec sleep 1000"
    container = engine.run("sh", "-c", script)
    left = place(engine, container)
    with engine.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1") as log:
        assert log.read1()
    assert engine.post(f"/containers/{container}/kill").status == 204
    left.mkdir()
    (left / "cgroup.kill").write_text("1")
    assert engine.post(f"/containers/{container}/start").status == 204
    assert engine.wait(container) == 5
    assert engine.delete(f"/containers/{container}").status == 204


def test_what_is_still_in_it_is_ended_first(engine):
    container = engine.run("sleep", "1000")
    left = place(engine, container)
    assert engine.post(f"/containers/{container}/kill").status == 204
    left.mkdir()
    with subprocess.Popen(["sleep", "1000"]) as straggler:
        (left / "cgroup.procs").write_text(str(straggler.pid))
        status = engine.post(f"/containers/{container}/start").status
        ended = straggler.poll()
        straggler.kill()
    assert (status, ended) == (204, -9)
    assert engine.inspect(container)["State"]["Running"]
    assert engine.delete(f"/containers/{container}?force=1").status == 204
    assert not left.exists()


def test_a_zombie_is_buried_also_where_its_cgroup_is_gone():
    """A dead shim's command that has ended: found by CI as one that stayed for good."""
    cgroups = Cgroups.detect(f"mdocker-{os.urandom(4).hex()}")
    container = "c" * 64
    cgroups.create(container)
    plan = cgroups.below(container, "health")
    with subprocess.Popen(["sleep", "1000"]) as child:
        (Path(plan.unified) / "cgroup.procs").write_text(str(child.pid))
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        cgroups.remove_below(f"{container}/health")
        cgroups.remove(container)
        cgroups.remove_parent()
        bury_orphans(cgroups, f"{container}/health")
        with pytest.raises(ChildProcessError):
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG)
        child.returncode = -9
