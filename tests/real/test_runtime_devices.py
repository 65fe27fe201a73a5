"""Devices at the runtime's own door: payloads that try to open what they were not given.

Each with fast starts and Python inits, by BPF programs and, where it is mounted, by v1's
controller.
"""

from __future__ import annotations

import errno
import os
import stat

import pytest

from runtime import device_program
from runtime.device_rules import EVERYTHING, Rule
from runtime.errors import CgroupsUnusable
from runtime.spec import Bind, Device
from tests.real.device_probe import DENIED, LOOK, NODEV, looks, seen
from tests.real.exec_driver import execute
from tests.real.loop_device import SECTOR, LoopDevice
from tests.real.shim_driver import ShimDriver, busybox_tree


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    device = LoopDevice(tmp_path_factory.mktemp("loop"))
    yield device
    device.close()


WAYS = {"fast-programs": (True, True), "python-programs": (False, True), "fast-v1": (True, False)}


@pytest.fixture(scope="module", params=WAYS, ids=str)
def shim(request, tmp_path_factory):
    """A shim of its own: fast starts or not, and which of the two ways holds the rules."""
    fast, programs = WAYS[request.param]
    directory = tmp_path_factory.mktemp("shim")
    driver = ShimDriver(directory, busybox_tree(directory / "lower"), fast=fast)
    if not programs:
        if "devices" not in driver.cgroups.trees.v1:
            driver.close()
            pytest.skip("v1's devices controller is not mounted here")
        driver.cgroups.devices.programs = False
    yield driver
    assert driver.cgroups.devices.programs == programs
    driver.close()


@pytest.fixture
def driver(shim):
    yield shim
    shim.forget_all()


def only(loop, access):
    return [Rule("b", loop.major, loop.minor, access)]


def node(loop, path, mode=0o600):
    return Device(path, "b", loop.major, loop.minor, mode)


ORDINARY = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def test_without_devices_there_are_the_ordinary_ones_and_no_other(driver, loop):
    script = (
        f"mknod /tmp/own b {loop.major} {loop.minor} && mknod /dev/shm/own c 1 3 || exit 3\n"
        "cd /proc/self/fd || exit 4; mknod /dev/sda b 8 0; mknod /dev/mem c 1 1\n"
    )
    found = seen(
        driver.run(script + looks(*ORDINARY, "/tmp/own", "/dev/shm/own", "/dev/sda", "/dev/mem"))
    )
    for path in ("/tmp/own", "/dev/shm/own", "/dev/sda", "/dev/mem"):
        # The program is asked before the mount is; both say no.
        assert found[path, "r"] in (DENIED, NODEV), path
        assert found[path, "w"] in (DENIED, NODEV), path
    assert {found[path, "r"] for path in ORDINARY} == {"open"}
    assert found["/dev/null", "w"] == found["/dev/zero", "w"] == "open"


def test_the_program_alone_holds_where_nodev_is_gone(driver, loop):
    """Without nodev, as CAP_SYS_ADMIN could have it, or a mount that comes from the host later."""
    script = f"mknod /tmp/own b {loop.major} {loop.minor}\n"
    script += "mknod /tmp/mem c 1 1; mknod /tmp/con c 5 1\n"
    mine = seen(
        driver.run(
            script + looks("/tmp/own", "/tmp/mem", "/tmp/con", "/dev/null"), device_nodes=True
        )
    )
    assert mine.pop(("/dev/null", "w")) == mine.pop(("/dev/null", "r")) == "open"
    assert set(mine.values()) == {DENIED}


@pytest.mark.parametrize(
    ("access", "reads", "writes"),
    [("r", "open", DENIED), ("w", DENIED, "open"), ("rw", "open", "open"), ("m", DENIED, DENIED)],
)
def test_what_a_device_is_given_for(driver, loop, access, reads, writes):
    given = {"rules": only(loop, access), "device_nodes": True}
    script = f"mknod /tmp/own b {loop.major} {loop.minor} || exit 3\n"
    output = driver.run(script + looks("/dev/disk", "/tmp/own", "/dev/null"), devices=(
        node(loop, "/dev/disk"),
    ), **given)  # fmt: skip
    found = seen(output)
    # The node that it was given, and one that it makes itself: the device counts, not the path.
    for path in ("/dev/disk", "/tmp/own"):
        assert (found[path, "r"], found[path, "w"]) == (reads, writes)
    assert found["/dev/null", "w"] == "open"
    assert loop.content() == SECTOR


def test_a_neighbour_of_the_device_stays_closed(driver, loop):
    script = (
        f"mknod /tmp/minor b {loop.major} {loop.minor + 1}\n"
        f"mknod /tmp/major b {loop.major + 1} {loop.minor}\n"
        f"mknod /tmp/kind c {loop.major} {loop.minor}\n"
    )
    output = driver.run(
        script + looks("/tmp/minor", "/tmp/major", "/tmp/kind"),
        rules=only(loop, "rwm"),
        device_nodes=True,
    )
    assert set(seen(output).values()) == {DENIED}


def test_nodes_are_made_where_they_are_asked(driver, loop, tmp_path):
    """In directories of /dev, on the root, in a bind, each with its mode and owner."""
    bound = tmp_path / "bound"
    bound.mkdir()
    places = ("/dev/sub/deep/disk", "/opt/disk", "/bound/disk", "/dev/shm/disk")
    started = driver.start(
        "sh",
        "-c",
        f"stat -c '%n %F %a %u %g %t:%T' {' '.join(places)}; chmod 611 /opt/disk && chown 7 "
        f"/opt/disk && stat -c '%a %u' /opt/disk; {LOOK} look /opt/disk; stat -c '%U %a' /dev/sub",
        rules=only(loop, "rwm"),
        device_nodes=True,
        devices=tuple(
            Device(path, "b", loop.major, loop.minor, 0o640, 3, 4) for path in places
        ),
        binds=(Bind(str(bound), "/bound", directory=True),),
    )  # fmt: skip
    assert started.failure() is None
    printed = started.output().splitlines()
    assert started.status() == 0, started.errors()
    numbers = f"{loop.major:x}:{loop.minor:x}"
    assert printed == [
        *(f"{path} block special file 640 3 4 {numbers}" for path in places),
        "611 7",
        "/opt/disk r open",
        "/opt/disk w open",
        "root 755",
    ]
    # What stays behind is no device.
    for left in (bound / "disk", driver.home(started.id) / "upper/opt/disk"):
        assert stat.S_ISREG(left.lstat().st_mode)
    # Nor has the machine's node changed.
    assert os.stat(loop.path).st_uid == 0


def test_everything(driver, loop):
    output = driver.run(
        f"mknod /tmp/own b {loop.major} {loop.minor}; cat /proc/self/cgroup >&2\n"
        + looks("/tmp/own", "/dev/disk"),
        rules=EVERYTHING,
        device_nodes=True,
        devices=(node(loop, "/dev/disk"),),
    )
    assert set(seen(output).values()) == {"open"}
    assert loop.content() == SECTOR


def joins_of(driver, started):
    """The v1 directories that an exec joins, as the supervisor asks for them."""
    plan = driver.cgroups.below(started.id, "asked")
    driver.cgroups.remove_below(f"{started.id}/asked")
    return plan.joins


def test_an_exec_is_held_as_its_container_is(driver, loop):
    sleeper = driver.start("sleep", "1000", rules=only(loop, "r"), device_nodes=True)
    assert sleeper.failure() is None
    script = f"mknod /tmp/own b {loop.major} {loop.minor}; mknod /tmp/mem c 1 1\n"
    found = seen(
        execute(
            driver, sleeper, script + looks("/tmp/own", "/tmp/mem"), joins=joins_of(driver, sleeper)
        )
    )
    assert found["/tmp/own", "r"] == "open"
    assert {found["/tmp/own", "w"], *(found["/tmp/mem", way] for way in "rw")} == {DENIED}


def test_no_container_starts_unguarded(tmp_path, loop, monkeypatch):
    """The program could not be attached, once: whoever asked is refused, the next is held to it."""
    driver = ShimDriver(tmp_path, busybox_tree(tmp_path / "lower"))
    try:
        driver.cgroups.remove_parent()  # where it is kept, on pure v2

        def no_descriptor(*_):
            raise OSError(errno.EMFILE, "too many open files")

        with monkeypatch.context() as patch:
            patch.setattr(device_program, "load", no_descriptor)
            with pytest.raises(OSError, match="too many open files"):
                driver.cgroups.create("refused")
        assert not driver.cgroups.unified("refused").exists()
        script = f"mknod /tmp/own b {loop.major} {loop.minor}\n" + looks("/tmp/own")
        assert set(seen(driver.run(script, device_nodes=True)).values()) == {DENIED}
    finally:
        driver.close()


def test_a_machine_that_can_not_hold_rules(tmp_path, loop):
    driver = ShimDriver(tmp_path, busybox_tree(tmp_path / "lower"))
    driver.cgroups.devices.programs = False
    driver.cgroups.trees.v1.pop("devices", None)
    assert not driver.cgroups.hold_devices()
    try:
        with pytest.raises(CgroupsUnusable, match="CONFIG_CGROUP_BPF"):
            driver.cgroups.create("refused", devices=only(loop, "r"))
        assert not driver.cgroups.unified("refused").exists()
        # What it has then is nodev, beside the program that is there already on pure v2.
        script = f"mknod /tmp/own b {loop.major} {loop.minor}\n" + looks("/tmp/own")
        assert set(seen(driver.run(script)).values()) <= {NODEV, DENIED}
        assert driver.run("echo fine", rules=EVERYTHING, device_nodes=True) == "fine\n"
    finally:
        driver.close()
