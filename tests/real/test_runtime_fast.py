"""Starts without Python in the child: each step's failure, what is left to the other init."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import native, program, steps
from runtime.becoming import Ends
from runtime.cgroups import Limits
from runtime.errors import UserUnknown
from runtime.exec_plan import compile_exec
from runtime.exec_spec import ExecSpec
from runtime.fast import prepare
from runtime.kernel import DOOR, Kernel
from runtime.layer_files import Unusual, read_etc
from runtime.plan import compile_plan
from runtime.spec import Bind, Donor, Tmpfs
from tests.real.fast_steps import host
from tests.real.shim_driver import BUSYBOX, ShimDriver, busybox_tree

CHECKOUT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not program.usable(), reason="fast starts are for x86_64 only")


@pytest.fixture(scope="module")
def lower(tmp_path_factory):
    return busybox_tree(tmp_path_factory.mktemp("busybox") / "lower")


@pytest.fixture
def driver(tmp_path, lower):
    driver = ShimDriver(tmp_path, lower)
    yield driver
    driver.close()


def packed(driver, **more):
    """The program of a container, with the texts it needs; the cgroup is removed again."""
    spec = driver.spec("packed", "true", **more)
    driver.cgroups.remove("packed")
    slot = native.Slot()
    texts = steps.Texts(slot.address, slot.room, slot.scratch)
    try:
        ends = Ends(10, 11, 12, 13)
        return program.Programs(host()).compile(compile_plan(spec.to_json()), ends, texts)
    finally:
        slot.free()


@pytest.mark.parametrize("init", [(), (os.path.realpath(BUSYBOX),)], ids=["own", "shared"])
def test_every_step_fails_once(lower, tmp_path, init):
    """Once with namespaces of its own, once in the machine's with an init before the payload."""
    command = [sys.executable, "-m", "tests.real.fast_steps", str(lower), str(tmp_path), *init]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    # What is not reached: making targets that are there by then, second tries of a look-up.
    assert 120 < result["faults"] < result["steps"] < result["faults"] + 60
    assert result["last"] == "runs"
    # What a child sets that shares the shim's memory is the shim's too, until it is at leisure.
    before, meanwhile, after = result["scores"]
    assert meanwhile == 1000
    assert after == before
    assert (result["left_open"], result["mounts"], result["populated"]) == ([], [], False)


def test_ordinary_containers_start_fast(driver):
    assert packed(driver)
    assert packed(driver, volatile=True)
    assert packed(driver, user="bird", network="host", cwd="/etc", hostname="x", domainname="y")
    assert packed(driver, limits=Limits(pids=5, cpu_shares=100), no_new_privileges=True)
    assert packed(driver, binds=(Bind("/tmp", "/deep/in/side"), Bind("/etc/hostname", "/etc/x")))
    # What hangs on a disk is not looked at by the shim where its kind is known.
    assert packed(driver, binds=(Bind("/no/such", "/x", directory=True),), readonly_root=True)
    assert packed(driver, pid="host", ipc="host", uts="host", hostname="", init="/sbin/init")
    assert packed(driver, network=Donor("other", 1, 1))
    # The default filter has some 750 instructions of 8 bytes.
    filter = base64.b64encode(bytes(8 * 750)).decode()
    assert packed(driver, seccomp=filter, user="bird")


@pytest.mark.parametrize(
    "more",
    [
        {"binds": (Bind("/etc/hostname", "/etc/passwd"),)},
        {"binds": (Bind("/etc", "/etc"),)},
        {"binds": (Bind("/no/such", "/x"),)},
        {"binds": (Bind("/tmp", "/x", directory=True, propagation="slave"),)},
        {"binds": (Bind("/tmp", "/x", directory=True, subpath="y"),)},
        {"binds": (Bind("/tmp", "/x", directory=True, fill=True),)},
        {"binds": (Tmpfs("/x"),)},
        {"env": ("BIG=" + "x" * 200_000,)},
        {"apparmor": "nest"},
        {"masked_paths": tuple("/" + "m" * 900 + str(n) for n in range(199))},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_is_left_to_the_python_init(driver, more):
    with pytest.raises(Unusual):
        packed(driver, **more)


def test_many_different_targets_and_paths_stay_fast(driver):
    """What is shared between programs is bounded; beyond that each start brings its own."""
    programs = program.Programs(host())
    slot = native.Slot()
    for number in range(200):
        paths = (f"/path/number/{number}",)
        binds = (Bind("/tmp", f"/a/rather/long/target/number/{number}/{'x' * 200}"),)
        spec = driver.spec("packed", "true", binds=binds, masked_paths=paths, readonly_paths=paths)
        texts = steps.Texts(slot.address, slot.room, slot.scratch)
        plan = compile_plan(spec.to_json())
        assert programs.compile(plan, Ends(10, 11, 12, -1), texts)
    slot.free()
    driver.cgroups.remove("packed")


def test_an_unknown_user_is_left_to_the_python_init(driver):
    with pytest.raises(UserUnknown):
        packed(driver, user="bob")


def test_a_memory_limit_is_left_to_the_python_init(driver):
    """Who shares memory with a victim of the OOM killer is killed with it: that would be us."""
    fast = prepare(DOOR, host())
    plan = compile_plan(driver.spec("limited", "true", limits=Limits(memory=2**26)).to_json())
    assert fast.pack_init(plan, Ends(0, 0, 0, -1)) is None
    driver.cgroups.remove("limited")
    driver.cgroups.create("limited", Limits(pids=4))
    driver.cgroups.remove("limited")


def test_a_tiny_memory_limit_does_not_cost_the_shim_its_life(driver):
    for _ in range(3):
        started = driver.start("true", limits=Limits(memory=2**18))
        started.failure()
        started.exited()
    assert driver.run("echo well") == "well\n"


def test_an_environment_that_fits_no_slot(driver):
    assert driver.run("echo ${#BIG}", env=("BIG=" + "x" * 100_000,)) == "100000\n"


def test_kernels_and_policies_that_fast_starts_are_not_made_for(tmp_path):
    class Old(Kernel):
        def pidfd_getfd(self, pidfd, fd):
            raise OSError(38, os.strerror(38))

    assert prepare(Old(), host()) is None
    (tmp_path / "setting").write_text("3\n")
    setting = os.fsencode(tmp_path / "setting")
    assert prepare(DOOR, host(), ((setting, b"3"),)) is None
    assert prepare(DOOR, host(), ((setting, b"1"), (b"/no/such", b"0"))) is not None
    weak = host()
    weak.permitted = 0
    assert prepare(DOOR, weak) is None


def test_failing_starts_leave_nothing(driver):
    driver.adopt()
    before = driver.shim_fds()
    for _ in range(30):
        started = driver.start("nope")
        assert started.failure()["exit_code"] == 127
        assert os.waitstatus_to_exitcode(started.status()) == 127
        driver.forget(started)
    driver.adopt()
    assert driver.shim_fds() <= before + 10
    assert driver.children() == set()


def test_many_fail_at_once(driver):
    pending = [driver.send_spawn(driver.spec(f"fail{n}", "nope")) for n in range(30)]
    for started in pending:
        driver.answer(started)
    assert {started.failure()["exit_code"] for started in pending} == {127}
    assert {os.waitstatus_to_exitcode(started.status()) for started in pending} == {127}


@pytest.mark.parametrize("args", [("sleep", "1000"), ("nope",)])
def test_killed_at_once(driver, args):
    """Before, while or after it sets itself up, or while it is found out why it failed."""
    for _ in range(40):
        started = driver.start(*args)
        with contextlib.suppress(
            ProcessLookupError
        ):  # "nope" may have ended by itself, and be reaped
            started.kill()
        status = started.status()
        assert status == signal.SIGKILL or os.waitstatus_to_exitcode(status) == 127
        driver.forget(started)
    assert driver.run("echo well") == "well\n"


def test_slots_are_used_again_and_given_back():
    slots = native.Slots()
    first = slots.take()
    assert slots.take() is first
    first._busy.value = 1
    taken = []
    for _ in range(20):
        taken.append(slots.take())
        taken[-1]._busy.value = 1
    assert len({id(slot) for slot in taken} | {id(first)}) == 21
    for slot in taken:
        slot._busy.value = 0
    for _ in range(6):
        assert slots.take() in taken  # though `first` hangs for ever
    slots.trim()
    assert len(slots._slots) == 3
    assert first in slots._slots


def layers(tmp_path, *names):
    made = []
    for name in names:
        (tmp_path / name / "etc").mkdir(parents=True)
        made.append(tmp_path / name)
    return made


def whiteout(path: Path) -> None:
    os.mknod(path, 0o600 | 0o020000, os.makedev(0, 0))


CASES = {
    "only below": lambda top, low: (low / "etc/passwd").write_text("low\n"),
    "above wins": lambda top, low: [
        (layer / "etc/passwd").write_text(layer.name + "\n") for layer in (top, low)
    ],
    "nowhere": lambda top, low: None,
    "an opaque directory": lambda top, low: [
        (low / "etc/passwd").write_text("low\n"),
        os.setxattr(top / "etc", "trusted.overlay.opaque", b"y"),
    ],
    "no etc above": lambda top, low: [
        (top / "etc").rmdir(),
        (low / "etc/passwd").write_text("low\n"),
    ],
    "a whiteout": lambda top, low: [
        (low / "etc/passwd").write_text("low\n"),
        whiteout(top / "etc/passwd"),
    ],
    "a link": lambda top, low: [
        (low / "etc/other").write_text("other\n"),
        (top / "etc/passwd").symlink_to("other"),
    ],
    "etc is a link": lambda top, low: [
        (top / "etc").rmdir(),
        (top / "etc").symlink_to("/else"),
        (top / "else").mkdir(),
        (top / "else/passwd").write_text("else\n"),
    ],
    "a fifo": lambda top, low: os.mkfifo(top / "etc/passwd"),
}


@pytest.mark.parametrize("case", CASES)
def test_etc_is_read_as_the_overlay_shows_it(driver, tmp_path, lower, case):
    top, low = layers(tmp_path, "top", "low")
    CASES[case](top, low)
    (tmp_path / "bottom").mkdir()
    subprocess.run(["cp", "-a", lower / "bin", tmp_path / "bottom/bin"], check=True)
    stack = (str(top), str(low), str(tmp_path / "bottom"))
    script = "[ ! -f /etc/passwd ] || cat /etc/passwd"
    shown = driver.run(script, lower=stack).encode()
    try:
        (read,) = read_etc([os.fsencode(layer) for layer in stack], [b"passwd"])
    except Unusual:
        assert case in ("a whiteout", "a link", "etc is a link", "a fifo")
    else:
        assert read == shown


def test_who_enters_a_container_shares_no_memory_while_cores_are_dumped(driver, monkeypatch):
    """The machine's setting can change while the shim runs."""
    fast = prepare(DOOR, host())
    spec = ExecSpec(args=("true",), cgroup="/", layers=(str(driver.lower),))
    plan, ends = compile_exec(spec.to_json()), Ends(10, 11, 12, 13)
    assert fast.pack_exec(plan, ends) is not None
    monkeypatch.setattr("runtime.fast._read", lambda _: b"2")
    assert fast.pack_exec(plan, ends) is None
