"""What must hold on a pure cgroup v2 kernel; each function runs in the guest, as root.

They share one engine and run in this order. An assertion carries its own text: there is no pytest
in the guest to explain it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime import mounts
from runtime.cgroup_trees import find_trees
from runtime.kernel import DOOR
from tests.real.engine_process import EngineProcess
from tests.vm.inotify import Writes

TREE = Path("/sys/fs/cgroup")
MEBIBYTE = 1024 * 1024
SCREEN = {"PathOnHost": "/dev/vcs", "PathInContainer": "/dev/vcs", "CgroupPermissions": "r"}
"""A device that anybody with the right to may open, and that nothing happens to."""

Check = Callable[[EngineProcess], None]
CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    """Note `function` as a check, by its name."""
    CHECKS[function.__name__] = function
    return function


def same(got, wanted):
    """Assert equality, and say what came instead."""
    assert got == wanted, f"wanted {wanted!r}, got {got!r}"


def directory_of(container: str) -> Path:
    """The container's one cgroup."""
    found = [path for path in TREE.glob(f"mdocker-*/{container}") if path.is_dir()]
    assert len(found) == 1, f"cgroups of {container}: {found}"
    return found[0]


def kernel_version() -> tuple[int, ...]:
    """Such as (6, 1)."""
    return tuple(int(number) for number in os.uname().release.split(".")[:2])


def follow_until(engine: EngineProcess, container: str, wanted: bytes) -> bytes:
    """Read its live log until `wanted` comes."""
    seen = b""
    with engine.stream("GET", f"/containers/{container}/logs?stdout=1&stderr=1&follow=1") as logs:
        while wanted not in seen:
            piece = logs.read1(65536)
            assert piece, f"the log ended before {wanted!r} came: {seen!r}"
            seen += piece
    return seen


def stop(engine: EngineProcess, container: str, seconds: int) -> int:
    """Stop it; returns its exit code."""
    answer = engine.post(f"/containers/{container}/stop?t={seconds}")
    same(answer.status, 204)
    return engine.inspect(container)["State"]["ExitCode"]


def remove(engine: EngineProcess, container: str) -> None:
    """Remove it; its cgroup must be gone."""
    same(engine.delete(f"/containers/{container}?force=1").status, 204)
    same(list(TREE.glob(f"**/{container}")), [])


@check
def the_machine_is_pure_v2(engine):
    trees = find_trees(Path("/proc/self/mountinfo").read_text())
    same((trees.unified, trees.v1), (TREE, {}))
    offered = (TREE / "cgroup.controllers").read_text().split()
    assert {"memory", "cpu", "pids"} <= set(offered), offered
    said = engine.get("/info").json
    same(said["CgroupVersion"], "2")


@check
def a_life_with_output_and_exit_code(engine):
    container = engine.run("sh", "-c", "echo out; echo err >&2; exit 3")
    same(engine.wait(container), 3)
    same(engine.output(container), (b"out\n", b"err\n"))
    state = engine.inspect(container)["State"]
    same((state["Status"], state["ExitCode"], state["OOMKilled"]), ("exited", 3, False))
    remove(engine, container)


@check
def a_polite_one_is_followed_and_stopped(engine):
    container = engine.run(
        "sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done"
    )
    follow_until(engine, container, b"ready")
    pid = engine.inspect(container)["State"]["Pid"]
    joined = (directory_of(container) / "cgroup.procs").read_text().split()
    assert str(pid) in joined, f"{pid} is not among {joined}"
    same(stop(engine, container, 60), 7)
    same(list(TREE.glob(f"**/{container}")), [])
    remove(engine, container)


@check
def the_limits_are_in_the_files(engine):
    container = engine.run(
        "sleep",
        "1000",
        HostConfig={
            "Memory": 64 * MEBIBYTE,
            "MemorySwap": 96 * MEBIBYTE,
            "CpuPeriod": 50_000,
            "CpuQuota": 20_000,
            "CpuShares": 2048,
            "PidsLimit": 17,
            "BlkioWeight": 505,
        },
    )
    directory = directory_of(container)
    names = ("memory.max", "memory.swap.max", "cpu.max", "cpu.weight", "pids.max", "io.weight")
    found = {name: (directory / name).read_text().strip() for name in names}
    wanted = {
        "memory.max": str(64 * MEBIBYTE),
        "memory.swap.max": str(32 * MEBIBYTE),
        "cpu.max": "20000 50000",
        "cpu.weight": "79",
        "pids.max": "17",
        "io.weight": "default 5000",
    }
    same(found, wanted)
    remove(engine, container)


@check
def cpus_as_a_number_become_cpu_max(engine):
    container = engine.run("sleep", "1000", HostConfig={"NanoCpus": 750_000_000})
    same((directory_of(container) / "cpu.max").read_text(), "75000 100000\n")
    remove(engine, container)


@check
def a_cpu_limit_throttles(engine):
    # The work ends by the kernel's own count of throttled periods, not by a time.
    script = (
        "until grep -q 'nr_throttled [1-9]' /sys/fs/cgroup/cpu.stat; do :; done; echo throttled"
    )
    code, out, err = engine.result("sh", "-c", script, HostConfig={"NanoCpus": 200_000_000})
    same((code, out, err), (0, "throttled\n", ""))


@check
def a_memory_limit_kills_and_is_told(engine):
    # tail keeps the line that never ends.
    container = engine.run(
        *("tail", "/dev/zero"),
        HostConfig={"Memory": 32 * MEBIBYTE, "MemorySwap": 32 * MEBIBYTE},
    )
    same(engine.wait(container), 137)
    state = engine.inspect(container)["State"]
    same((state["OOMKilled"], state["ExitCode"]), (True, 137))
    events = engine.get(f"/events?since=1&until={int(time.time()) + 1}").body.splitlines()
    told = [json.loads(line) for line in events]
    actions = [event["Action"] for event in told if event["Actor"]["ID"] == container]
    assert "oom" in actions, actions
    remove(engine, container)


@check
def an_oom_of_the_last_run_is_not_told_of_the_next(engine):
    script = "[ -e /tmp/again ] && exit 0; touch /tmp/again; exec tail /dev/zero"
    container = engine.run(
        *("sh", "-c", script),
        HostConfig={"Memory": 32 * MEBIBYTE, "MemorySwap": 32 * MEBIBYTE},
    )
    same(engine.wait(container), 137)
    same(engine.inspect(container)["State"]["OOMKilled"], True)
    same(engine.post(f"/containers/{container}/start").status, 204)
    same(engine.wait(container), 0)
    same(engine.inspect(container)["State"]["OOMKilled"], False)
    remove(engine, container)


@check
def a_sigkill_is_no_oom(engine):
    container = engine.run("sleep", "1000", HostConfig={"Memory": 32 * MEBIBYTE})
    same(engine.post(f"/containers/{container}/kill").status, 204)
    same(engine.wait(container), 137)
    same(engine.inspect(container)["State"]["OOMKilled"], False)
    remove(engine, container)


@check
def a_pids_limit_holds(engine):
    code, _, err = engine.result(
        *("sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; wait"),
        HostConfig={"PidsLimit": 5},
    )
    assert code != 0, "eight children ran within a limit of five"
    assert "fork" in err.lower(), err


@check
def a_deaf_family_ends_by_cgroup_kill(engine):
    script = "trap '' TERM; (trap '' TERM; sleep 1000) & setsid sleep 1000 & echo ready; wait"
    container = engine.run("sh", "-c", script)
    follow_until(engine, container, b"ready")
    if kernel_version() >= (5, 14):
        with Writes(directory_of(container) / "cgroup.kill") as writes:
            same(stop(engine, container, 1), 137)
            assert writes.any(), "nobody wrote to cgroup.kill"
    else:
        same(stop(engine, container, 1), 137)
    same(list(TREE.glob(f"**/{container}")), [])
    same(engine.inspect(container)["State"]["OOMKilled"], False)
    remove(engine, container)


@check
def a_process_in_a_child_cgroup_is_killed_too(engine):
    container = engine.run("sh", "-c", "sleep 1000 & echo ready; trap '' TERM; wait")
    follow_until(engine, container, b"ready")
    directory = directory_of(container)
    nested = directory / "a" / "b"
    nested.mkdir(parents=True)
    pid = engine.inspect(container)["State"]["Pid"]
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert children, "the child is not there"
    (nested / "cgroup.procs").write_text(children[0])
    same(stop(engine, container, 0), 137)
    assert not directory.exists(), "the cgroup is still there"
    remove(engine, container)


@check
def the_container_sees_only_its_own_cgroup_and_cannot_write(engine):
    script = (
        "cat /proc/self/cgroup; cat /sys/fs/cgroup/memory.max; "
        "mkdir /sys/fs/cgroup/x 2>/dev/null || echo no mkdir; "
        "(echo max > /sys/fs/cgroup/memory.max) 2>/dev/null || echo no write; "
        "grep -c ' cgroup' /proc/self/mountinfo; grep cgroup2 /proc/self/mountinfo"
    )
    code, out, err = engine.result(
        "sh", "-c", script, HostConfig={"Memory": 64 * MEBIBYTE, "MemorySwap": 64 * MEBIBYTE}
    )
    same(code, 0)
    told, mount = out.splitlines()[:5], out.splitlines()[5]
    same(told, ["0::/", str(64 * MEBIBYTE), "no mkdir", "no write", "1"])
    fields = mount.split()
    same(fields[3:5], ["/", "/sys/fs/cgroup"])
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(fields[5].split(",")), mount
    same(err, "")


@check
def what_is_paused_is_frozen_and_goes_on(engine):
    script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    container = engine.run("sh", "-c", script)
    follow_until(engine, container, b"ready")
    same(engine.post(f"/containers/{container}/pause").status, 204)
    assert "frozen 1" in (directory_of(container) / "cgroup.events").read_text()
    same(engine.inspect(container)["State"]["Status"], "paused")
    same(stop(engine, container, 60), 5)
    remove(engine, container)


@check
def what_a_container_uses_is_counted_without_limits(engine):
    script = "tail -c 20m /dev/zero > /dev/null; echo ready; exec sleep 1000"
    container = engine.run("sh", "-c", script)
    follow_until(engine, container, b"ready")
    told = engine.get(f"/containers/{container}/stats?stream=0&one-shot=1").json
    directory = directory_of(container)
    assert "file" in told["memory_stats"]["stats"], told["memory_stats"]
    assert told["memory_stats"]["usage"] > 0
    same(told["pids_stats"]["current"], int((directory / "pids.current").read_text()))
    assert told["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    if (directory / "io.stat").exists():
        assert told["blkio_stats"]["io_service_bytes_recursive"] is not None
    remove(engine, container)


@check
def limits_change_while_it_runs(engine):
    script = "import time; held = bytearray(b'x') * (24 << 20); print('ready', flush=True); "
    container = engine.run("python3", "-c", script + "time.sleep(1000)")
    follow_until(engine, container, b"ready")
    limits = {"Memory": 64 * MEBIBYTE, "CpuQuota": 20_000, "CpuShares": 2048, "PidsLimit": 17}
    answer = engine.post(f"/containers/{container}/update", limits)
    same((answer.status, answer.json), (200, {"Warnings": []}))
    directory = directory_of(container)
    names = ("memory.max", "memory.swap.max", "cpu.max", "cpu.weight", "pids.max")
    found = [(directory / name).read_text().strip() for name in names]
    same(found, [str(64 * MEBIBYTE), str(64 * MEBIBYTE), "20000 100000", "79", "17"])
    limits = {"CpusetCpus": "0", "CpusetMems": "0", "MemoryReservation": 8 * MEBIBYTE}
    same(engine.post(f"/containers/{container}/update", limits).status, 200)
    found = [
        (directory / name).read_text().strip()
        for name in ("cpuset.cpus", "cpuset.mems", "memory.low")
    ]
    same(found, ["0", "0", str(8 * MEBIBYTE)])
    answer = engine.post(f"/containers/{container}/update", {"Memory": 16 * MEBIBYTE})
    same((answer.status, "unable to set memory limit to" in answer.message), (500, True))
    same(engine.inspect(container)["State"]["Running"], True)
    none = {"Memory": -1, "CpuQuota": -1, "PidsLimit": -1}
    same(engine.post(f"/containers/{container}/update", none).status, 200)
    found = [(directory / name).read_text().strip() for name in names]
    same(found, ["max", "max", "max 100000", "79", "max"])
    remove(engine, container)


@check
def several_at_once_with_limits(engine):
    ids = [
        engine.create(
            *("sh", "-c", f"echo number {number}; exec sleep 1000"),
            HostConfig={"Memory": 32 * MEBIBYTE, "PidsLimit": 20, "NanoCpus": 10**9},
        )
        for number in range(6)
    ]
    for container in ids:
        same(engine.post(f"/containers/{container}/start").status, 204)
    for number, container in enumerate(ids):
        follow_until(engine, container, b"number %d\n" % number)
    for container in ids:
        same(stop(engine, container, 0), 137)
        remove(engine, container)


@check
def health_checks_enter_the_container_and_hung_ones_are_killed(engine):
    """Their cgroup lies below one that has limits, and so has processes of its own."""
    script = "cat /proc/self/cgroup; test -e /hang && { sleep 1000 & sleep 1000; }; true"
    container = engine.run(
        *("sleep", "1000"),
        HostConfig={"Memory": 64 * MEBIBYTE, "PidsLimit": 20},
        Healthcheck={
            "Test": ["CMD-SHELL", script],
            "Interval": 10**8,
            "Timeout": 2 * 10**9,
            "Retries": 1,
        },
    )
    same(health_told(engine, container, "healthy")["Log"][0]["Output"], "0::/health\n")
    pid = engine.inspect(container)["State"]["Pid"]
    Path(f"/proc/{pid}/root/hang").touch()
    failed = health_told(engine, container, "unhealthy")["Log"][-1]
    same((failed["ExitCode"], failed["Output"][:31]), (-1, "Health check exceeded timeout ("))
    same(engine.post(f"/containers/{container}/kill").status, 204)
    remove(engine, container)


def health_told(engine: EngineProcess, container: str, status: str) -> dict[str, Any]:
    """Wait until its health is `status`; returns State.Health."""
    with engine.stream("GET", "/events?since=1") as events:
        for line in events:
            event = json.loads(line)
            if (event["Actor"]["ID"], event["Action"]) == (container, f"health_status: {status}"):
                return engine.inspect(container)["State"]["Health"]
    raise AssertionError("the stream of events has ended")


@check
def many_layers_are_mounted_by_short_names(engine):
    """Under a long path; this kernel has no other way than mount(2) and its one page."""
    place = os.fsencode(engine.root / ("deep" * 30))
    lower = [place + b"/%06x" % number for number in range(127)]
    for number, path in enumerate(lower):
        os.makedirs(path + b"/from%d" % number)
    names = [place + name for name in (b"/upper", b"/work", b"/merged")]
    for path in names:
        os.mkdir(path)
    upper, work, merged = names
    here = os.open(".", os.O_PATH | os.O_DIRECTORY)
    mounts.mount_overlay(DOOR, merged, lower, upper, work, True)
    os.fchdir(here)
    os.close(here)
    same(len(os.listdir(merged)), 127)
    DOOR.umount2(merged, 0)


@check
def devices_are_held_by_a_program(engine):
    """In the v2 tree a BPF program says who may open what; there is no controller for it."""
    script = (
        "mknod /dev/full2 c 1 7; mknod /dev/mem c 1 1; "
        "(: </dev/vcs) && echo read; (: >/dev/vcs) && echo written; "
        "(: </dev/full2) && echo own; (: </dev/mem) && echo memory; true"
    )
    same(
        engine.result("sh", "-c", script, HostConfig={"Devices": [SCREEN]})[:2], (0, "read\nown\n")
    )
    asked = {"Devices": [SCREEN], "DeviceCgroupRules": ["c 7:0 w"]}
    same(engine.result("sh", "-c", script, HostConfig=asked)[:2], (0, "read\nwritten\nown\n"))


@check
def calls_are_filtered(engine):
    script = (
        "grep Seccomp: /proc/self/status; unshare --user true 2>/dev/null && echo unshared; "
        "mkdir /tmp/x 2>/dev/null && echo made; true"
    )
    same(engine.result("sh", "-c", script)[:2], (0, "Seccomp:\t2\nmade\n"))
    asked = {"SecurityOpt": ["seccomp=unconfined"]}
    out = "Seccomp:\t0\nunshared\nmade\n"
    same(engine.result("sh", "-c", script, HostConfig=asked)[:2], (0, out))
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
    profile = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    asked = {"SecurityOpt": [f"seccomp={profile}"]}
    out = "Seccomp:\t2\nunshared\n"
    same(engine.result("sh", "-c", script, HostConfig=asked)[:2], (0, out))


@check
def containers_outlive_supervisor_and_shim(engine):
    """With what holds them."""
    script = (
        "trap ': </dev/vcs && echo read; (: >/dev/vcs) 2>/dev/null || echo not written; "
        "echo bye; exit 5' TERM; echo ready; while :; do sleep 0.2; done"
    )
    limits = {"Memory": 64 * MEBIBYTE, "Devices": [SCREEN]}
    container = engine.run("sh", "-c", script, HostConfig=limits)
    follow_until(engine, container, b"ready")
    before = engine.inspect(container)["State"]
    engine.kill()
    engine.backend = "trio"  # and the other backend is tried on this kernel, for nothing
    engine.start()
    after = engine.inspect(container)["State"]
    same((after["Status"], after["Pid"]), ("running", before["Pid"]))
    # This supervisor is not above the shim: now the container goes to PID 1, which reaps it at
    # once, and before 6.15 only the proc connector tells how it ended.
    os.kill(engine.shim_pid, signal.SIGKILL)
    same(stop(engine, container, 60), 5)
    same(engine.output(container), (b"ready\nread\nnot written\nbye\n", b""))
    remove(engine, container)


@check
def nothing_is_left_at_the_end(engine):
    """The last one: it ends the engine."""
    shim = engine.shim_pid
    pidfd = os.pidfd_open(shim)
    left = engine.get("/containers/json?all=1").json
    for container in left:
        engine.delete(f"/containers/{container['Id']}?force=1")
    engine.terminate()
    subprocess.run(
        [sys.executable, "-c", f"import select; assert select.select([{pidfd}], [], [], 60)[0]"],
        pass_fds=(pidfd,),
        check=True,
    )
    os.close(pidfd)
    left_over = {
        str(path): (path / "cgroup.procs").read_text().split()
        for path in (*TREE.glob("mdocker-*"), *TREE.glob("mdocker-*/*/"))
        if path.is_dir()
    }
    same(left_over, {})
    mounts = Path("/proc/self/mountinfo").read_text()
    same([line for line in mounts.splitlines() if "mdocker" in line or "merged" in line], [])
    same(json.dumps([c["Names"] for c in left]), "[]")
