"""Each kernel call of an exec fails once: it is told, nothing remains, and the shim is at home."""

from __future__ import annotations

import errno
import json
import os
import select
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from runtime import kernel, spawner
from runtime import shim_protocol as protocol
from runtime.exec_spec import ExecSpec
from runtime.joining import Joining
from runtime.kernel import Kernel
from runtime.program import usable
from runtime.shim_exec import Execs
from tests.real.fast_steps import host
from tests.real.shim_driver import ShimDriver, busybox_tree
from tests.real.test_runtime_faults import FailingDoor

CHECKOUT = Path(__file__).resolve().parents[2]


class Bed:
    """A running container, and the shim's part of an exec in this process."""

    def __init__(self, driver):
        self.driver = driver
        self.started = driver.start("sleep", "1000")
        assert self.started.failure() is None
        self.cgroup = Path(driver.cgroups.below(self.started.id, "exec").unified)
        self.poll = select.epoll()
        self.told = []
        self.held = spawner.Held(self.started.id, self.started.pid, self.started.pidfd, 0)

    def execs(self, door):
        self.joining = Joining(door, {})
        return Execs(door, host(), None, self.poll, self.told.append, self._release, self.joining)

    @staticmethod
    def _release(fds):
        for fd in fds:
            os.close(fd)

    def run(self, execs, joins=()):
        """One exec of `true`: what was told, and the child's report."""
        self.told.clear()
        spec = ExecSpec(args=("true",), cgroup=str(self.cgroup), joins=joins, user="bird")
        memory = kernel.memfd_sealed("exec", spec.to_json())
        status_r, status_w = os.pipe()
        null = os.open("/dev/null", os.O_WRONLY)
        execs.start(
            protocol.Exec("e", self.started.id, memory, status_w, null, null, ()), self.held
        )
        for fd in (memory, status_w, null):
            os.close(fd)
        text = b""
        while part := os.read(status_r, 4096):
            text += part
        os.close(status_r)
        if isinstance(self.told[0], protocol.Execed):
            ((pidfd, _),) = self.poll.poll(10)
            execs.ended(pidfd)
        return json.loads(text) if text else None

    def close(self):
        assert (self.cgroup / "cgroup.procs").read_text() == ""
        self.poll.close()
        self.driver.forget_all()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    directory = tmp_path_factory.mktemp("shim")
    driver = ShimDriver(directory, busybox_tree(directory / "lower"))
    yield driver
    driver.close()


@pytest.fixture
def bed(driver):
    bed = Bed(driver)
    yield bed
    bed.close()


def at_home():
    links = [os.readlink(f"/proc/self/ns/{name}") for name in ("pid", "pid_for_children")]
    return links[0] == links[1]


def test_every_call_of_the_child_fails_once(bed):
    joins = tuple(str(tree) for tree in list(bed.driver.cgroups.trees.v1.values())[:1])
    open_before = len(os.listdir("/proc/self/fd"))
    steps = []
    for fatal in count(1):
        execs = bed.execs(FailingDoor(fatal, of_init=True))
        report = bed.run(execs, joins)
        os.close(bed.joining.home)
        execed, exited = bed.told
        assert exited.pid == execed.pid
        code = os.waitstatus_to_exitcode(exited.wait_status)
        if report is None and code == 0:
            break
        assert report is not None, f"call {fatal} failed and nobody heard of it"
        assert (report["errno"], report["exit_code"]) == (errno.EIO, code)
        if not steps or steps[-1] != report["step"]:
            steps.append(report["step"])
    assert steps == [
        "take over its descriptors",
        "set its limits",
        "join its session keyring",
        *(["enter its cgroups"] if joins else []),
        "enter its namespaces",
        "find the user",
        "set its limits",
        "set its privileges",
        "execute",
    ]
    assert len(os.listdir("/proc/self/fd")) == open_before
    assert at_home()


@pytest.mark.parametrize(
    ("fatal", "words"),
    [(1, "open the cgroup"), (2, "make a process"), (3, "make a process")],
    ids=["cgroup", "go there", "clone"],
)
def test_what_the_shim_can_not_do_is_refused(bed, fatal, words):
    open_before = len(os.listdir("/proc/self/fd"))
    door = FailingDoor(fatal)
    execs = bed.execs(door)
    assert bed.run(execs) is None
    (refused,) = bed.told
    assert (refused.errno, refused.message[: len(words)]) == (errno.EIO, words)
    assert at_home()
    door.fatal = 0
    assert bed.run(execs) is None
    assert [type(message) for message in bed.told] == [protocol.Execed, protocol.ExecExited]
    os.close(bed.joining.home)
    assert len(os.listdir("/proc/self/fd")) == open_before


class StrandedDoor(Kernel):
    """The real door, but `home` can't be entered."""

    home = -1

    def setns(self, fd, kind):
        if fd == self.home:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        super().setns(fd, kind)


def test_a_shim_that_can_not_come_home_clones_nothing_until_it_can(bed):
    door = StrandedDoor()
    execs = bed.execs(door)
    door.home = bed.joining.home
    assert bed.run(execs) is None
    assert isinstance(bed.told[0], protocol.Execed)
    assert not at_home()
    assert bed.run(execs) is None
    assert (bed.told[0].errno, bed.told[0].message[:6]) == (errno.ENOMEM, "return")
    with pytest.raises(spawner.Refused, match="own pid namespace"):
        bed.joining.be_home()
    door.home = -1
    bed.joining.be_home()
    assert at_home()
    os.close(bed.joining.home)


def test_every_step_of_a_fast_one_fails_once(driver, tmp_path):
    if not usable():
        pytest.skip("fast starts are for x86_64")
    command = [sys.executable, "-m", "tests.real.exec_steps", str(driver.lower), str(tmp_path)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=25)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["faults"] == result["steps"] > 50
    assert (result["last"], result["container"]) == ("runs", True)
    assert result["dumpable"] == 0
    assert (result["left_open"], result["populated"]) == ([], False)
