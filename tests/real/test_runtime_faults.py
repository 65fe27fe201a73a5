"""Each kernel call of a start fails once: the report names the step, and nothing remains."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from itertools import count
from pathlib import Path

import pytest

from runtime import becoming, spawner
from runtime.cgroups import Cgroups, Limits
from runtime.joining import Joining
from runtime.kernel import DOOR, Kernel
from runtime.network import NamespacePool
from runtime.plan import Plan, compile_plan
from runtime.shim_protocol import Spawn
from runtime.spec import Bind, Donor, Spec
from tests.real.fast_steps import host
from tests.real.shim_driver import BUSYBOX, busybox_tree


class FailingDoor(Kernel):
    """The real door, whose call number `fatal` fails with `code`; it is not made.

    With `of_init` the calls of the process that made the door are neither counted nor failed.
    """

    def __init__(self, fatal: int, *, of_init: bool = False) -> None:
        self.calls = 0
        self.fatal = fatal
        self.code = errno.EIO
        self.spared = os.getpid() if of_init else -1

    def __getattribute__(self, name):
        attribute = super().__getattribute__(name)
        if name.startswith("_") or not callable(attribute):
            return attribute

        def door(*args, **kwargs):
            self.calls += os.getpid() != self.spared
            if os.getpid() == self.spared or self.calls != self.fatal:
                return attribute(*args, **kwargs)
            if name == "try_mount":
                return self.code
            raise OSError(self.code, os.strerror(self.code), f"<{name}>")

        return door


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Everything a start needs, without a shim."""
    directory = tmp_path_factory.mktemp("faults")
    cgroups = Cgroups.detect(f"mdocker-faults{os.getpid()}")
    for name in ("upper", "work", "merged", "source"):
        (directory / name).mkdir()
    spec = Spec(
        id="faulty",
        args=("true",),
        hostname="faulty",
        domainname="wood",
        lower=(str(busybox_tree(directory / "lower")),),
        upper=str(directory / "upper"),
        work=str(directory / "work"),
        merged=str(directory / "merged"),
        binds=(Bind(str(directory / "source"), "/new/place", readonly=True),),
        no_new_privileges=True,
        cgroup=cgroups.create("faulty", Limits(pids=50)),
    )
    yield spec
    cgroups.remove("faulty")
    cgroups.remove_parent()


def start(door: Kernel, plan: Plan, network: int, ipc: int = -1) -> tuple[int, dict | None]:
    """One init through `door`: its exit code and its report."""
    status_r, status_w = os.pipe()
    null = os.open("/dev/null", os.O_WRONLY)
    # The init's own numbers are below these, as in the shim.
    assert min(status_w, null) >= becoming.FIRST_FREE_FD
    ends = becoming.Ends(status_w, null, null, network, ipc=ipc)
    joining = Joining(DOOR, {})
    try:
        pid, pidfd, _ = spawner._clone(door, plan, ends, host(), joining, None)
    finally:
        os.close(joining.home)
    try:
        for fd in (status_w, null):
            os.close(fd)
        text = b""
        while part := os.read(status_r, 4096):
            text += part
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(status_r)
        os.close(pidfd)
    return os.waitstatus_to_exitcode(status), json.loads(text) if text else None


def test_every_call_of_an_init_fails_once(place):
    mounts_before = Path("/proc/self/mountinfo").read_text()
    fds_before = len(os.listdir("/proc/self/fd"))
    plan = compile_plan(place.to_json())
    steps = []
    for fatal in count(1):
        code, report = start(FailingDoor(fatal, of_init=True), plan, -1)
        if report is None and code == 0:
            break
        assert report is not None, f"call {fatal} failed and nobody heard of it"
        assert code == report["exit_code"]
        assert code in (125, 126)
        assert report["errno"] == errno.EIO
        assert "input/output error" in report["words"]
        if not steps or steps[-1] != report["step"]:
            steps.append(report["step"])
    assert fatal > 120
    assert steps == [
        "take over its descriptors",
        "set its limits",
        "join its session keyring",
        "enter its cgroups",
        "make its namespaces",
        "raise loopback",
        "set its host name",
        "make its mounts private",
        "bind",
        "mount the root",
        "mount its file systems",
        "bind its devices",
        "mount its cgroups",
        "change the root",
        "bind",
        "protect /proc and /sys",
        "find the user",
        "set its limits",
        "set its privileges",
        "execute",
    ]
    assert not any(Path(place.merged).iterdir())
    assert [line for line in mounts_before.splitlines() if place.merged in line] == []
    assert place.merged not in Path("/proc/self/mountinfo").read_text()
    assert len(os.listdir("/proc/self/fd")) == fds_before
    assert Path(place.cgroup.unified, "cgroup.procs").read_text() == ""


class SharingDoor(FailingDoor):
    """Counts the calls of which some are made by those alone that share, or have an init."""

    counted = frozenset(
        {"setns", "open_tree", "move_mount", "mount", "dup2", "set_child_subreaper", "execveat"}
    )

    def __getattribute__(self, name):
        if name in SharingDoor.counted:
            return super().__getattribute__(name)
        return object.__getattribute__(self, name)


def test_every_call_of_sharing_fails_once(place):
    """Another's IPC namespace and /dev/shm (this process's), the machine's pids, and an init."""
    spec = dataclasses.replace(
        place,
        args=("true",),
        init=os.path.realpath(BUSYBOX),
        pid="host",
        uts="host",
        hostname="",
        domainname="",
        network="host",
        ipc=Donor("other", os.getpid(), 0),
        binds=(),
    )
    plan = compile_plan(spec.to_json())
    pidfd = os.pidfd_open(os.getpid())
    fds_before = len(os.listdir("/proc/self/fd"))
    steps = set()
    for fatal in count(1):
        code, report = start(SharingDoor(fatal, of_init=True), plan, -1, pidfd)
        if report is None and code == 0:
            break
        assert report is not None, f"call {fatal} failed and nobody heard of it"
        assert (code, report["errno"]) == (report["exit_code"], errno.EIO)
        steps.add(report["step"])
    assert {"enter the IPC namespace of another container", "find its init", "execute"} <= steps
    assert place.merged not in Path("/proc/self/mountinfo").read_text()
    assert len(os.listdir("/proc/self/fd")) == fds_before
    assert Path(place.cgroup.unified, "cgroup.procs").read_text() == ""
    os.close(pidfd)


def test_a_kernel_without_mount_setattr(place, monkeypatch):
    """Linux 5.10: the binds' flags are set after they are attached."""

    class OldDoor(Kernel):
        def mount_setattr(self, fd, attributes, propagation=0):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    script = "touch /new/place/x 2>/dev/null && exit 1; grep -q ' /new/place .*nodev' /proc/mounts"
    plan = compile_plan(place.to_json())
    plan.args = [b"sh", b"-c", script.encode()]
    assert start(OldDoor(), plan, -1) == (0, None)


@pytest.mark.parametrize("fatal", [1, 2])
def test_the_shim_s_own_calls(place, fatal):
    """Open the cgroup, clone: refused, and a ready namespace that was taken is given back."""
    pool = NamespacePool(DOOR, 1)
    pool.make_one()
    assert pool.wants_more is False
    fds_before = len(os.listdir("/proc/self/fd"))
    spec = os.memfd_create("spec")
    os.write(spec, place.to_json())
    ends = [os.open("/dev/null", os.O_WRONLY) for _ in range(5)]
    try:
        with pytest.raises(spawner.Refused, match=r"cgroup|process") as refused:
            message = Spawn("faulty", spec, *ends, ())
            joining = Joining(DOOR, {})
            try:
                held = spawner.spawn(FailingDoor(fatal), message, pool, host(), joining)
            finally:
                os.close(joining.home)
            spawner.undo(DOOR, held.pidfd)
            raise spawner.Refused(errno.EIO, "started, and the process is gone again")
        assert refused.value.errno == errno.EIO
    finally:
        for fd in (spec, *ends):
            os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == fds_before - 1  # the namespace was used up
    assert pool.wants_more
    os.close(pool._home)


def test_the_pool_comes_home_whatever_fails():
    home = os.readlink("/proc/self/ns/net")
    for fatal in (2, 3, 4):
        door = FailingDoor(fatal)
        pool = NamespacePool(door, 2)
        pool.make_one()
        assert os.readlink("/proc/self/ns/net") == home
        assert pool.take() == -1
        pool.make_one()
        ready = pool.take()
        assert ready >= 0
        os.close(ready)
        os.close(pool._home)


def test_a_loopback_that_does_not_come_up_is_no_leak():
    fds_before = len(os.listdir("/proc/self/fd"))
    pool = NamespacePool(FailingDoor(3), 1)
    pool.make_one()
    os.close(pool._home)
    assert len(os.listdir("/proc/self/fd")) == fds_before
