"""Limits of containers that run, changed: on whatever cgroup trees this machine has."""

from pathlib import Path

import pytest

from tests.real.engine_process import cgroups_of

MIB = 1 << 20
HYBRID = Path("/sys/fs/cgroup/unified").is_dir()

EATER = (
    "python3",
    "-u",
    "-c",
    "import sys\n"
    "held = bytearray(b'x') * (40 << 20)\n"
    "print('up')\n"
    "sys.stdin = open('/root/go')\n"
    "sys.stdin.read()\n"
    "more = bytearray(b'x') * (60 << 20)\n"
    "print('more')\n",
)


def up(engine, container):
    with engine.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1") as logs:
        assert logs.read(11)[8:] == b"up\n"


def value(container, v1, v2):
    for path in cgroups_of(container):
        file = Path(path, v1 if HYBRID else v2)
        if file.exists():
            return file.read_text().strip()
    return None


def update(engine, container, **limits):
    return engine.post(f"/containers/{container}/update", limits)


def test_one_that_runs_without_limits_gets_them_at_once(engine):
    container = engine.run("sh", "-c", "sleep 1000 & echo up; wait")
    up(engine, container)
    answer = update(
        engine, container, Memory=64 * MIB, NanoCpus=5 * 10**8, PidsLimit=7, CpuShares=512
    )
    assert (answer.status, answer.json) == (200, {"Warnings": []})
    assert value(container, "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert value(container, "pids.max", "pids.max") == "7"
    assert value(container, "cpu.shares", "cpu.weight") == ("512" if HYBRID else "20")
    for path in cgroups_of(container):
        procs = Path(path, "cgroup.procs").read_text().split()
        assert len(procs) == 2, path
    host = engine.inspect(container)["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (64 * MIB, 128 * MIB)
    assert (host["NanoCpus"], host["PidsLimit"], host["CpuShares"]) == (5 * 10**8, 7, 512)
    # And taken away again, each of them.
    answer = update(engine, container, Memory=-1, NanoCpus=-1, PidsLimit=-1)
    assert answer.status == 200, answer
    assert value(container, "pids.max", "pids.max") == "max"
    assert int(value(container, "memory.limit_in_bytes", "memory.max").replace("max", "9" * 18)) > (
        1 << 50
    )
    assert engine.delete(f"/containers/{container}?force=1").status == 204
    assert not cgroups_of(container)


def test_its_next_run_has_them_and_so_has_one_that_does_not_run(engine):
    container = engine.create("sh", "-c", "echo up; sleep 1000")
    assert update(engine, container, Memory=64 * MIB, CpuQuota=50000).status == 200
    assert engine.post(f"/containers/{container}/start").status == 204
    up(engine, container)
    assert value(container, "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    # More and less, with swap that follows.
    for limit in (256, 32):
        assert update(engine, container, Memory=limit * MIB).status == 200
        assert value(container, "memory.limit_in_bytes", "memory.max") == str(limit * MIB)
        swap = value(container, "memory.memsw.limit_in_bytes", "memory.swap.max")
        assert swap in (None, str((2 if HYBRID else 1) * limit * MIB))
    assert engine.post(f"/containers/{container}/restart?t=0").status == 204
    assert value(container, "memory.limit_in_bytes", "memory.max") == str(32 * MIB)
    assert value(container, "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
    assert engine.delete(f"/containers/{container}?force=1").status == 204


def test_memory_below_its_use_is_refused_and_all_stays(engine):
    container = engine.run("sh", "-c", "echo up; sleep 1000", HostConfig={"PidsLimit": 9})
    eater = engine.run(
        *EATER[:-1], EATER[-1].replace("sys.stdin =", "import time; time.sleep(99);")
    )
    up(engine, eater)
    answer = update(engine, eater, Memory=16 * MIB, PidsLimit=50)
    words = f"Cannot update container {eater}: unable to set memory limit to {16 * MIB} (current"
    assert (answer.status, answer.message.startswith(words)) == (500, True), answer
    host = engine.inspect(eater)["HostConfig"]
    assert (host["Memory"], host["PidsLimit"]) == (0, None)
    assert engine.inspect(eater)["State"]["Running"]
    # With one that the kernel has counted from the start it is the kernel that refuses.
    assert update(engine, eater, Memory=512 * MIB).status == 200
    limited = engine.run(
        *EATER[:-1],
        EATER[-1].replace("sys.stdin =", "import time; time.sleep(99);"),
        HostConfig={"Memory": 512 * MIB},
    )
    up(engine, limited)
    answer = update(engine, limited, Memory=16 * MIB)
    assert (answer.status, "unable to set memory limit to" in answer.message) == (500, True)
    assert value(limited, "memory.limit_in_bytes", "memory.max") == str(512 * MIB)
    for one in (container, eater, limited):
        assert engine.delete(f"/containers/{one}?force=1").status == 204


def test_what_a_late_limit_does_not_count_is_told_and_the_rest_is_held(engine):
    if not HYBRID:
        pytest.skip("on v2 the controller may have counted from the start")
    container = engine.create("sh", "-c", 'mkfifo /root/go; exec "$@"', "sh", *EATER)
    assert engine.post(f"/containers/{container}/start").status == 204
    up(engine, container)
    answer = update(engine, container, Memory=50 * MIB, MemorySwap=50 * MIB)
    assert answer.status == 200, answer
    assert (
        "are not counted, the limit is for what it takes from now on" in answer.json["Warnings"][0]
    )
    pid = engine.inspect(container)["State"]["Pid"]
    Path(f"/proc/{pid}/root/root/go").open("w").close()
    assert engine.wait(container) == 137
    assert engine.inspect(container)["State"]["OOMKilled"]
    assert engine.delete(f"/containers/{container}").status == 204


def test_a_limit_of_processes_reaches_one_that_forks_all_the_time(engine):
    script = "while :; do (:) & (:) & wait; done"
    container = engine.run("sh", "-c", f"echo up; {script}")
    up(engine, container)
    assert update(engine, container, PidsLimit=100).status == 200
    assert value(container, "pids.max", "pids.max") == "100"
    assert int(value(container, "pids.current", "pids.current")) >= 1
    assert not engine.inspect(container)["State"]["Paused"]
    # It goes on.
    before = engine.get(f"/containers/{container}/top").json["Processes"][0][6]
    assert before
    assert engine.delete(f"/containers/{container}?force=1").status == 204


def test_what_is_paused_gets_limits_and_stays_paused(engine):
    container = engine.run("sh", "-c", "echo up; sleep 1000")
    up(engine, container)
    assert engine.post(f"/containers/{container}/pause").status == 204
    assert update(engine, container, PidsLimit=5).status == 200
    assert engine.inspect(container)["State"]["Paused"]
    assert value(container, "pids.max", "pids.max") == "5"
    assert engine.delete(f"/containers/{container}?force=1").status == 204


def test_cpus_nodes_weights_and_reservations_at_the_start_and_later(engine):
    limits = {"CpusetCpus": "0", "CpusetMems": "0", "MemoryReservation": 32 * MIB}
    limited = engine.run("sh", "-c", "echo up; sleep 1000", HostConfig=limits)
    later = engine.run("sh", "-c", "sleep 1000 & echo up; wait")
    for container in (limited, later):
        up(engine, container)
    assert update(engine, later, **limits).status == 200
    for container in (limited, later):
        pid = engine.inspect(container)["State"]["Pid"]
        status = Path(f"/proc/{pid}/status").read_text()
        assert "Cpus_allowed_list:\t0\n" in status
        low = value(container, "memory.soft_limit_in_bytes", "memory.low")
        assert low == str(32 * MIB)
        host = engine.inspect(container)["HostConfig"]
        assert {name: host[name] for name in limits} == limits
    # What enters it is held as well.
    answer = engine.post(
        f"/containers/{later}/exec",
        {"Cmd": ["grep", "Cpus_allowed_list", "/proc/self/status"], "AttachStdout": True},
    )
    shown = engine.post(f"/exec/{answer.json['Id']}/start", {"Detach": False, "Tty": True})
    assert b"Cpus_allowed_list:\t0" in shown.body
    for container in (limited, later):
        assert engine.delete(f"/containers/{container}?force=1").status == 204
        assert not cgroups_of(container)


def test_swappiness_is_kept_by_an_update(engine):
    limits = {"MemorySwappiness": 7}
    container = engine.run("sh", "-c", "echo up; sleep 1000", HostConfig=limits)
    up(engine, container)
    assert update(engine, container, Memory=64 * MIB).status == 200
    told = engine.inspect(container)["HostConfig"]["MemorySwappiness"]
    if engine.get("/info").json["CgroupVersion"] == "1":
        assert (told, value(container, "memory.swappiness", "")) == (7, "7")
    else:
        assert told is None
    assert engine.delete(f"/containers/{container}?force=1").status == 204


def test_what_the_kernel_refuses_changes_nothing_anywhere(engine):
    """The second of three controllers refuses: the first has its old values again."""
    container = engine.run(
        "sh", "-c", "echo up; sleep 1000", HostConfig={"PidsLimit": 9, "Memory": 512 * MIB}
    )
    up(engine, container)
    before = engine.inspect(container)["HostConfig"]
    # A period that is good by itself, and a quota beyond what the kernel can count.
    answer = update(engine, container, Memory=64 * MIB, PidsLimit=20, CpuQuota=2**60)
    assert (answer.status, "Cannot update container" in answer.message) == (500, True), answer
    assert engine.inspect(container)["HostConfig"] == before
    assert value(container, "pids.max", "pids.max") == "9"
    assert value(container, "memory.limit_in_bytes", "memory.max") == str(512 * MIB)
    assert engine.delete(f"/containers/{container}?force=1").status == 204


def test_a_weight_of_block_devices(engine):
    container = engine.create("sleep", "1000", HostConfig={"BlkioWeight": 300})
    started = engine.post(f"/containers/{container}/start")
    if started.status == 204:
        assert update(engine, container, BlkioWeight=500).status == 200
        found = value(container, "blkio.bfq.weight", "io.bfq.weight") or value(
            container, "blkio.weight", "io.weight"
        )
        assert found.split()[-1] in ("500", "4950")
    else:
        assert "CONFIG_BFQ_GROUP_IOSCHED" in started.message or "blkio" in started.message
    assert engine.delete(f"/containers/{container}?force=1").status == 204
    assert not cgroups_of(container)


def test_one_that_waits_for_its_restart_has_them_with_its_next_run(engine):
    policy = {"Name": "always", "DelayMs": 60_000, "MaxDelayMs": 60_000}
    script = "[ -e /root/again ] || { touch /root/again; exit 3; }; echo up; sleep 1000"
    with engine.stream("GET", "/events") as events:
        container = engine.run("sh", "-c", script, HostConfig={"RestartPolicy": policy})
        while b'"Action":"die"' not in events.readline():
            pass
        wanted = "restarting"
        while engine.inspect(container)["State"]["Status"] != wanted:
            pass
    assert update(engine, container, PidsLimit=40, CpusetCpus="0").status == 200
    assert engine.inspect(container)["State"]["Status"] == wanted
    assert engine.post(f"/containers/{container}/start").status == 204
    up(engine, container)
    assert value(container, "pids.max", "pids.max") == "40"
    assert value(container, "cpuset.cpus", "cpuset.cpus") == "0"
    assert engine.delete(f"/containers/{container}?force=1").status == 204
