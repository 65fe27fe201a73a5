"""User namespaces without a supervisor: shared layers under several maps, and starts that fail.

Of busybox alone, so that they run where only the tests' directory can show shifted ids.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import sys
from itertools import count
from pathlib import Path

import pytest

from runtime import user_namespaces
from runtime.cgroups import Cgroups, Limits
from runtime.kernel import DOOR
from runtime.plan import compile_plan
from runtime.spec import Donor, Spec
from tests.real.exec_driver import execute
from tests.real.remapped_engine import COUNT, FIRST, shifts_ids
from tests.real.shim_driver import ShimDriver, busybox_tree
from tests.real.test_runtime_faults import FailingDoor, start

MAP = ((0, FIRST, COUNT),)
NEIGHBOUR = {"user_namespace": "private", "uid_map": MAP, "gid_map": MAP}
STEPS = (
    "make its user namespace",
    "shift the ids of its files",
    "enter its user namespace",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Everything that a start in a user namespace needs, without a shim."""
    directory = tmp_path_factory.mktemp("faults")
    if not shifts_ids(directory):
        pytest.skip("the file system of the tests' directory can't show shifted ids here")
    cgroups = Cgroups.detect(f"mdocker-userfaults{os.getpid()}")
    own = directory / "own"
    for name in ("own/upper", "own/work", "merged"):
        (directory / name).mkdir(parents=True)
    lower = busybox_tree(directory / "lower")
    yield Spec(
        id="faulty",
        args=("true",),
        hostname="faulty",
        lower=(str(lower),),
        upper=str(own / "upper"),
        work=str(own / "work"),
        merged=str(directory / "merged"),
        user_namespace="private",
        uid_map=MAP,
        gid_map=MAP,
        shifted=(str(lower), str(own)),
        sysctls=(("kernel/shmmax", "12345"),),
        cgroup=cgroups.create("faulty", Limits()),
    )
    cgroups.remove("faulty")
    cgroups.remove_parent()


@pytest.fixture
def driver(place, tmp_path):
    driver = ShimDriver(tmp_path, Path(place.lower[0]))
    yield driver
    driver.close()


def left(place):
    """Mounts of these starts, children and descriptors of ours."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return (
        [line for line in mounts if str(Path(place.merged).parent) in line],
        Path(f"/proc/self/task/{os.getpid()}/children").read_text(),
        len(os.listdir("/proc/self/fd")),
    )


class FailingThere(FailingDoor):
    """Only the calls that `runtime.user_namespaces` makes are counted, and fail."""

    def __getattribute__(self, name):
        caller = sys._getframe(1).f_globals["__name__"]
        if caller == user_namespaces.__name__:
            return super().__getattribute__(name)
        return object.__getattribute__(self, name)


def test_every_call_fails_once(place):
    before = left(place)
    plan = compile_plan(place.to_json())
    steps = []
    for fatal in count(1):
        code, report = start(FailingThere(fatal, of_init=True), plan, -1)
        if report is None and code == 0:
            break
        assert report is not None, f"call {fatal} failed and nobody heard of it"
        assert (code, report["errno"]) == (report["exit_code"], errno.EIO), report
        if report["step"] not in steps and "sysctl" not in report["step"]:  # older kernels': not so
            steps.append(report["step"])
    assert tuple(steps) == STEPS
    assert fatal > 30
    assert left(place) == before


class Refusing(FailingDoor):
    """The real door, but for one call of `runtime.user_namespaces`, which answers with an error."""

    def __init__(self, name, code):
        super().__init__(0)
        self.refused = name
        self.code = code

    def __getattribute__(self, name):
        caller = sys._getframe(1).f_globals["__name__"]
        if caller == user_namespaces.__name__ and name == self.refused:
            raise OSError(self.code, os.strerror(self.code), "<refused>")
        return super().__getattribute__(name)


@pytest.mark.parametrize(
    ("door", "change", "words"),
    [
        (DOOR, {"shifted": ("/proc",)}, "the kernel can't shift the ids of files in /proc, as a"),
        (Refusing("shift_ids", errno.ENOSYS), {}, "the kernel can't shift the ids of files in /"),
        (
            DOOR,
            {"user_namespace": Donor("d" * 64, 2**22, 1)},
            f"container {'d' * 64}, whose user namespace it shares, has ended",
        ),
        (
            DOOR,
            {"user_namespace": Donor("d" * 64, os.getpid(), 1)},
            f"container {'d' * 64}, whose user namespace it shares, has ended",
        ),
        (
            Refusing("unshare", errno.ENOSPC),
            {},
            "make its user namespace: no space left on device: /proc/sys/user",
        ),
        (Refusing("clone3", errno.EAGAIN), {}, "a second process for a moment, which its --pids-"),
        (DOOR, {"user": "5:70000"}, "gid 70000 is not in its user namespace, whose gids are"),
        (
            DOOR,
            {"uid_map": ((0, FIRST, 5), (3, FIRST + 5, 5))},
            "make its user namespace: invalid argument: /proc/",
        ),
    ],
)
def test_it_is_said_in_words(place, door, change, words):
    spec = dataclasses.replace(place, **change)
    code, report = start(door, compile_plan(spec.to_json()), -1)
    assert (code, report["exit_code"]) == (125, 125)
    assert words in report["words"]


_LOOK = "stat -c %u /bin; echo x > /new; chown 7 /new; stat -c %u /new; echo up; exec sleep 1000000"


@pytest.mark.parametrize("first", [FIRST, FIRST + COUNT, None])
def test_layers_are_shared_under_any_map(driver, first):
    """One lower directory under several maps at once: nobody's files change on disk."""
    number = f"m{first}"
    home = str(driver.home(number))
    ids = {} if first is None else {"uid_map": ((0, first, COUNT),), "gid_map": ((0, first, 9),)}
    private = {"user_namespace": "private", "shifted": (str(driver.lower), home)} if ids else {}
    neighbour = {**NEIGHBOUR, "shifted": (str(driver.lower), str(driver.home("neighbour")))}
    for name, more in (("neighbour", neighbour), (number, ids | private)):
        spec = driver.spec(name, "sh", "-c", _LOOK, **more)
        started = driver.answer(driver.send_spawn(spec))
        assert started.failure() is None
        assert [started.readline().strip() for _ in range(3)] == ["0", "7", "up"]
    for path, owner in ((driver.lower / "bin", 0), (driver.home(number) / "upper/new", 7)):
        assert os.stat(path).st_uid == owner
    script = "id -u; cat /proc/self/uid_map; stat -c %u /new; echo > /dev/stdout"
    told = execute(driver, started, script, capabilities=("CAP_CHOWN",), **ids).split()
    assert told[:2] + told[4:5] == ["0", "0", "7"]
    assert told[2] == str(first or 0)
    owner = os.stat(f"/proc/{started.pid}").st_uid
    assert owner == (first or 0)


def test_a_map_too_small_for_the_group_of_terminals(driver):
    small = {"uid_map": ((0, FIRST, 3),), "gid_map": ((0, FIRST, 3),)}
    home = str(driver.home("small"))
    more = small | {"user_namespace": "private", "shifted": (str(driver.lower), home)}
    spec = driver.spec("small", "sh", "-c", "id -g; mount", **more)
    started = driver.answer(driver.send_spawn(spec))
    assert started.failure() is None
    gid, *mounts = started.output().splitlines()
    assert gid == "0"
    assert [line for line in mounts if "devpts" in line and "gid=" in line] == []
