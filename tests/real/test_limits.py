"""Each limit is met by a payload that goes for more, or for the limit itself."""

import contextlib
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.real.engine_process import EngineProcess, cgroups_of

MIB = 1 << 20
HYBRID = Path("/sys/fs/cgroup/unified").is_dir()
WAYS = pytest.mark.parametrize("way", [{}, {"Memory": 64 * MIB}], ids=["fast", "python"])
"""A memory limit takes the Python init."""

EATER = "b = bytearray(b'x') * (100 << 20)"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    options = ("--default-ulimit", "core=5:6", "--default-ulimit", "nofile=50:60")
    process = EngineProcess(tmp_path_factory.mktemp("engine"), options=options).start()
    yield process
    process.close()


def told(engine, script, *, user="", **host):
    """What a Python payload tells, as JSON, of what it has tried."""
    code, out, err = engine.result("python3", "-c", script, User=user, HostConfig=host)
    assert (code, err) == (0, ""), err
    return json.loads(out)


def started(engine, *command, **host):
    """One that runs, once it has said `up`."""
    container = engine.run(*command, HostConfig=host)
    with engine.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1") as logs:
        assert logs.read(11)[8:] == b"up\n"
    return container


def executed(engine, container, *command):
    """The output and exit code of a command in one that runs."""
    asked = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True, "Tty": True}
    made = engine.post(f"/containers/{container}/exec", asked).json["Id"]
    answer = engine.post(f"/exec/{made}/start", {"Detach": False, "Tty": True})
    return answer.body.decode(), engine.get(f"/exec/{made}/json").json["ExitCode"]


def value(container, v1, v2):
    """What a file of its cgroups holds."""
    for path in cgroups_of(container):
        file = Path(path, v1 if HYBRID else v2)
        if file.exists():
            return file.read_text().split()
    return None


def gone(engine, container):
    assert engine.delete(f"/containers/{container}?force=1").status == 204
    assert not cgroups_of(container)


ULIMITS = """
import errno, json, os, resource as r
names = "CORE NOFILE FSIZE NPROC STACK".split()
found = {name: r.getrlimit(getattr(r, "RLIMIT_" + name)) for name in names}
def trying(work):
    try:
        return work()
    except (OSError, ValueError) as error:
        return errno.errorcode.get(getattr(error, "errno", 0), str(error))
found["raised"] = trying(lambda: r.setrlimit(r.RLIMIT_NOFILE, (31, 31)))
found["opened"] = trying(lambda: [os.open("/", os.O_RDONLY) for _ in range(100)])
def write():
    os.closerange(3, 100)
    with open("/tmp/file", "wb", 0) as file:
        while file.write(bytes(4096)):
            pass
found["written"] = trying(write)
found["size"] = os.path.getsize("/tmp/file")
def fork():
    while True:
        if not os.fork():
            os.execvp("sleep", ["sleep", "1000"])
found["forked"] = trying(fork)
print(json.dumps(found))
"""


@WAYS
def test_ulimits(engine, way):
    asked = [
        {"Name": "nofile", "Soft": 20, "Hard": 30},
        {"Name": "fsize", "Soft": 10000, "Hard": -1},
        {"Name": "nproc", "Soft": 5, "Hard": 5},
        {"Name": "stack", "Soft": MIB, "Hard": MIB},
    ]
    found = told(engine, ULIMITS, user="43210", Ulimits=asked, **way)
    assert found == {
        "CORE": [5, 6],  # the engine's, of what it says nothing of
        "NOFILE": [20, 30],
        "FSIZE": [10000, -1],
        "NPROC": [5, 5],
        "STACK": [MIB, MIB],
        "raised": "not allowed to raise maximum limit",
        "opened": "EMFILE",
        "written": "EFBIG",
        "size": 10000,
        "forked": "EAGAIN",
    }


@WAYS
def test_who_enters_has_the_ulimits_and_the_oom_score_too(engine, way):
    script = "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj"
    container = started(
        engine, "sh", "-c", f"echo up; {script}; exec sleep 1000", OomScoreAdj=300, **way
    )
    inside, code = executed(
        engine, container, "sh", "-c", f"{script}; echo -1 > /proc/$$/oom_score_adj"
    )
    # Even its root can't make itself harder to kill than others are.
    assert inside.split()[:3] == ["50", "60", "300"]
    assert code == 1
    assert Path(f"/proc/{engine.shim_pid}/oom_score_adj").read_text() != "300\n"
    out, _ = engine.output(container)
    assert out.split()[1:] == [b"50", b"60", b"300"]
    shown = engine.inspect(container)["HostConfig"]
    assert (shown["OomScoreAdj"], shown["Ulimits"]) == (300, [])
    gone(engine, container)


SYSCTLS = """
import errno, json
def of(name):
    with open("/proc/sys/" + name) as file:
        return file.read().split()
found = {name: of(name) for name in ("net/core/somaxconn", "kernel/sem", "fs/mqueue/msg_max")}
for name in ("net/core/somaxconn", "kernel/core_pattern"):
    try:
        open("/proc/sys/" + name, "w")
    except OSError as error:
        found["writing " + name] = errno.errorcode[error.errno]
print(json.dumps(found))
"""


@WAYS
def test_sysctls(engine, way):
    ours = Path("/proc/sys/net/core/somaxconn").read_text()
    asked = {
        "net.core.somaxconn": "77",
        "kernel.sem": "10 20 30 40",
        "fs/mqueue/msg_max": "11",
    }
    assert told(engine, SYSCTLS, Sysctls=asked, **way) == {
        "net/core/somaxconn": ["77"],
        "kernel/sem": ["10", "20", "30", "40"],
        "fs/mqueue/msg_max": ["11"],
        "writing net/core/somaxconn": "EROFS",
        "writing kernel/core_pattern": "EROFS",
    }
    assert Path("/proc/sys/net/core/somaxconn").read_text() == ours


MANY = """
import errno, json, os, time
found = {"cpus": sorted(os.sched_getaffinity(0))}
try:
    os.sched_setaffinity(0, range(os.cpu_count()))
    found["after"] = sorted(os.sched_getaffinity(0))
except OSError as error:
    found["after"] = errno.errorcode[error.errno]
try:
    with open("/dev/shm/file", "wb", 0) as file:
        while True:
            file.write(bytes(65536))
except OSError as error:
    found["shm"] = [errno.errorcode[error.errno], os.path.getsize("/dev/shm/file")]
os.unlink("/dev/shm/file")
end = time.process_time() + 0.05
while time.process_time() < end:
    pass
def of(*names):
    for name in names:
        try:
            with open("/sys/fs/cgroup/" + name) as file:
                return file.read().split()
        except FileNotFoundError:
            pass
stat = of("cpu/cpu.stat", "cpu.stat")
found["throttled"] = int(stat[stat.index("nr_throttled") + 1]) > 0
found["shares"] = of("cpu/cpu.shares", "cpu.weight")
found["swap"] = of("memory/memory.memsw.limit_in_bytes", "memory.swap.max")
found["reserved"] = of("memory/memory.soft_limit_in_bytes", "memory.low")
found["swappiness"] = of("memory/memory.swappiness")
children = []
try:
    while True:
        pid = os.fork()
        if not pid:
            time.sleep(1000)
        children.append(pid)
except OSError as error:
    found["forks"] = [errno.errorcode[error.errno], len(children)]
print(json.dumps(found))
"""


def test_processors_processes_memory_and_shm(engine):
    found = told(
        engine,
        MANY,
        CpuPeriod=20_000,
        CpuQuota=4000,
        CpuShares=512,
        CpusetCpus="0",
        Memory=64 * MIB,
        MemorySwap=80 * MIB,
        MemoryReservation=32 * MIB,
        MemorySwappiness=7,
        PidsLimit=6,
        ShmSize=MIB,
    )
    swap = found.pop("swap")
    assert swap in (None, [str((80 if HYBRID else 16) * MIB)])  # not every kernel counts it
    assert found == {
        "cpus": [0],
        "after": [0],  # the kernel gives it what of these it may have
        "shm": ["ENOSPC", MIB],
        "throttled": True,
        "shares": ["512"] if HYBRID else ["20"],
        "reserved": [str(32 * MIB)],
        "swappiness": ["7"] if HYBRID else None,
        "forks": ["EAGAIN", 5],
    }


def events_of(engine, container, action):
    """How many such events there were."""
    until = int(time.time()) + 1
    query = json.dumps({"container": [container], "event": [action]})
    body = engine.get(f"/events?since=1&until={until}&filters={query}".replace(" ", "")).body
    return len(body.splitlines())


def oom_kills(engine):
    lines = engine.get("/metrics").body.decode().splitlines()
    name = "mdocker_container_oom_kills_total "
    return next(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def test_a_child_that_is_killed_for_memory_is_seen_at_once_and_so_is_an_exec(engine):
    before = oom_kills(engine)
    script = f'python3 -c "{EATER}"; echo ended $?; exec sleep 1000'
    limits = {"Memory": 32 * MIB, "MemorySwap": 32 * MIB}
    with engine.stream("GET", '/events?filters={"event":["oom"]}') as events:
        container = engine.run("sh", "-c", script, HostConfig=limits)
        assert json.loads(events.readline())["id"] == container
        state = engine.inspect(container)["State"]
        assert (state["Running"], state["OOMKilled"]) == (True, True)
        assert executed(engine, container, "python3", "-c", EATER)[1] == 137
        assert json.loads(events.readline())["id"] == container
    assert oom_kills(engine) - before == 2
    assert engine.post(f"/containers/{container}/stop?t=0").status == 204
    state = engine.inspect(container)["State"]
    assert (state["OOMKilled"], state["ExitCode"]) == (True, 137)
    assert events_of(engine, container, "oom") == 2
    # Another run begins with nothing known.
    assert (
        engine.post(
            f"/containers/{container}/update", {"Memory": 256 * MIB, "MemorySwap": 256 * MIB}
        ).status
        == 200
    )
    assert engine.post(f"/containers/{container}/start").status == 204
    assert not engine.inspect(container)["State"]["OOMKilled"]
    gone(engine, container)


def test_a_payload_that_is_killed_for_memory(engine):
    limits = {"Memory": 32 * MIB, "MemorySwap": 32 * MIB}
    container = engine.run("python3", "-c", EATER, HostConfig=limits)
    assert engine.wait(container) == 137
    assert engine.inspect(container)["State"]["OOMKilled"]
    assert events_of(engine, container, "oom") == 1
    gone(engine, container)


def test_without_the_oom_killer_it_waits_until_there_is_memory(engine):
    limits = {"Memory": 32 * MIB, "MemorySwap": 32 * MIB, "OomKillDisable": True}
    eater = ("python3", "-uc", f"{EATER}; print('done', len(b))")
    if not HYBRID:
        answer = engine.post(
            "/containers/create", {"Image": "host", "Cmd": list(eater), "HostConfig": limits}
        )
        words = "Your kernel does not support OomKillDisable. OomKillDisable discarded."
        assert words in answer.json["Warnings"]
        gone(engine, answer.json["Id"])
        return
    with engine.stream("GET", '/events?filters={"event":["oom"]}') as events:
        container = engine.run(*eater, HostConfig=limits)
        assert json.loads(events.readline())["id"] == container
    control = value(container, "memory.oom_control", "")
    assert control[:4] == ["oom_kill_disable", "1", "under_oom", "1"]
    more = {"Memory": 200 * MIB, "MemorySwap": 200 * MIB}
    assert engine.post(f"/containers/{container}/update", more).status == 200
    assert engine.wait(container) == 0
    assert engine.output(container)[0] == b"done 104857600\n"
    assert not engine.inspect(container)["State"]["OOMKilled"]
    # Who waits can be stopped, and be made to be killed after all.
    assert (
        engine.post(
            f"/containers/{container}/update", {"Memory": 32 * MIB, "MemorySwap": 32 * MIB}
        ).status
        == 200
    )
    with engine.stream("GET", '/events?filters={"event":["oom"]}') as events:
        assert engine.post(f"/containers/{container}/start").status == 204
        assert events.readline()
    answer = engine.post(f"/containers/{container}/update", {"OomKillDisable": False})
    assert (answer.status, answer.json) == (200, {"Warnings": []})
    assert engine.wait(container) == 137
    assert engine.inspect(container)["State"]["OOMKilled"]
    gone(engine, container)


@contextlib.contextmanager
def a_parent(limit):
    """A cgroup of somebody's own in which there may be so many processes."""
    root = Path("/sys/fs/cgroup/pids" if HYBRID else "/sys/fs/cgroup")
    directory = root / f"theirs-{os.getpid()}"
    if not HYBRID and "pids" not in (root / "cgroup.subtree_control").read_text().split():
        (root / "cgroup.subtree_control").write_text("+pids")
    directory.mkdir()
    (directory / "pids.max").write_text(str(limit))
    try:
        yield directory
    finally:
        directory.rmdir()


def test_what_is_limited_above_holds_for_a_container_below(engine, tmp_path):
    with a_parent(8) as theirs:
        script = "echo up; for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo all; wait"
        parent = f"/{theirs.name}/made/here"
        container = engine.run("sh", "-c", script, HostConfig={"CgroupParent": parent})
        assert engine.wait(container) != 0
        out, err = engine.output(container)
        assert (out, b"ork" in err) == (b"up\n", True)  # "Cannot fork"
        assert engine.inspect(container)["HostConfig"]["CgroupParent"] == parent
        # Again, for those who look at one that runs: its cgroup is there, and in each tree.
        os.mkfifo(tmp_path / "go")
        script = f'echo up; read word </go/go; python3 -c "{EATER}"; exec sleep 1000'
        limits = {"Memory": 32 * MIB, "MemorySwap": 32 * MIB, "Binds": [f"{tmp_path}:/go"]}
        container = started(engine, "sh", "-c", script, CgroupParent=parent, **limits)
        pid = engine.inspect(container)["State"]["Pid"]
        place = f"{parent}/{container}"
        own = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
        below = {names for _, names, path in own if path == place}
        assert below >= ({"", "memory", "cpu", "pids", "blkio", "cpuset"} if HYBRID else {""})
        assert executed(engine, container, "sh", "-c", "exit 3")[1] == 3
        assert engine.get(f"/containers/{container}/top").json["Processes"]
        for path in ("pause", "unpause"):
            assert engine.post(f"/containers/{container}/{path}").status == 204
        # Whoever comes next knows where it is, and tells what nobody was there to hear.
        engine.kill()
        (tmp_path / "go").write_text("go\n")
        tree = Path("/sys/fs/cgroup/memory" if HYBRID else "/sys/fs/cgroup")
        counted = tree / place[1:] / ("memory.oom_control" if HYBRID else "memory.events")
        while "oom_kill 1\n" not in counted.read_text():
            time.sleep(0.01)
        engine.start()
        assert engine.inspect(container)["State"]["OOMKilled"]
        assert events_of(engine, container, "oom") == 1
        assert engine.post(f"/containers/{container}/stop?t=0").status == 204
        gone(engine, container)
        # What was made for it is gone, what was there is not.
        found = [
            path for tree in Path("/sys/fs/cgroup").iterdir() for path in tree.glob(theirs.name)
        ]
        assert found == ([theirs] if HYBRID else [])
        assert [path for path in theirs.iterdir() if path.is_dir()] == []


def disk_of(path):
    """The whole disk that a path is on, as /dev has it."""
    device = os.stat(path).st_dev
    place = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    if not place.exists():
        pytest.skip(f"{path} is on no block device")
    disk = place.parent if (place / "partition").exists() else place
    return f"/dev/{disk.name}", (disk / "dev").read_text().strip()


WRITER = """
import mmap, os, time
print("up", flush=True)
page = mmap.mmap(-1, 1 << 16)
file = os.open("/root/file", os.O_CREAT | os.O_RDWR | os.O_DIRECT)
began = time.monotonic()
for _ in range(16):
    os.write(file, page)
print(time.monotonic() - began, flush=True)
time.sleep(1000)
"""


def test_what_it_may_write_to_a_disk_in_a_second(engine):
    disk, number = disk_of(engine.root)
    rate = {"Path": disk, "Rate": 2 * MIB}
    container = engine.run(
        "python3", "-c", WRITER, HostConfig={"BlkioDeviceWriteBps": [rate], "PidsLimit": 50}
    )
    with engine.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1") as logs:
        assert logs.read(11)[8:] == b"up\n"
        taken = float(logs.readline()[8:])
    assert taken > 0.25  # a mebibyte at two in a second, but for what the kernel gives at once
    more = {
        "BlkioDeviceReadIOps": [{"Path": disk, "Rate": 100}],
        "BlkioDeviceWriteBps": [{"Path": disk, "Rate": 0}],
    }
    assert engine.post(f"/containers/{container}/update", more).status == 200
    if HYBRID:
        assert value(container, "blkio.throttle.write_bps_device", "") == []
        assert value(container, "blkio.throttle.read_iops_device", "") == [number, "100"]
    else:
        assert value(container, "", "io.max")[:4] == [number, "rbps=max", "wbps=max", "riops=100"]
    host = engine.inspect(container)["HostConfig"]
    assert host["BlkioDeviceReadIOps"] == [{"Path": disk, "Rate": 100}]
    assert host["BlkioDeviceWriteBps"] == []
    # All of an update, or nothing of it.
    answer = engine.post(
        f"/containers/{container}/update",
        {"PidsLimit": 40, "BlkioWeightDevice": [{"Path": disk, "Weight": 20}]},
    )
    kept = 40 if answer.status == 200 else 50
    assert answer.status in (200, 500)
    assert value(container, "pids.max", "pids.max") == [str(kept)]
    assert engine.inspect(container)["HostConfig"]["PidsLimit"] == kept
    gone(engine, container)


@pytest.fixture
def weighing_disk(tmp_path):
    """A disk of the test's own whose scheduler knows weights; gives its path and number."""
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, MIB)
    try:
        made = subprocess.run(
            ["losetup", "-f", "--show", str(image)], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no loop device: {error}")
    path = made.stdout.strip()
    try:
        place = Path("/sys/block", os.path.basename(path))
        try:
            (place / "queue/scheduler").write_text("bfq")
        except OSError as error:
            pytest.skip(f"this kernel has no BFQ: {error}")
        yield path, (place / "dev").read_text().strip()
        (place / "queue/scheduler").write_text("none")
    finally:
        subprocess.run(["losetup", "-d", path], check=True)


def test_weights_of_disks(engine, weighing_disk):
    disk, number = weighing_disk
    asked = {"BlkioWeight": 300, "BlkioWeightDevice": [{"Path": disk, "Weight": 77}]}
    container = engine.run("sleep", "1000", HostConfig=asked)
    single = ("blkio.bfq.weight_device", "io.bfq.weight")
    assert value(container, *single)[-2:] == [number, "77"]
    assert "300" in value(container, "blkio.bfq.weight", "io.bfq.weight")
    asked = {"BlkioWeightDevice": [{"Path": disk, "Weight": 0}]}
    assert engine.post(f"/containers/{container}/update", asked).status == 200
    assert number not in value(container, *single)
    assert engine.inspect(container)["HostConfig"]["BlkioWeightDevice"] == []
    gone(engine, container)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2**40}]}, "can't set ulimit nofile"),
        ({"Sysctls": {"net.no.such": "1"}}, "set the sysctl net.no.such: no such file"),
        ({"Sysctls": {"kernel.sem": "x"}}, "set the sysctl kernel.sem: invalid argument"),
    ],
)
def test_what_the_kernel_refuses_is_named_and_leaves_nothing(engine, host, words):
    container = engine.create("true", HostConfig={**host, "CgroupParent": "/made-for-it"})
    answer = engine.post(f"/containers/{container}/start")
    assert (answer.status, words in answer.message) == (400, True), answer
    assert not cgroups_of(container)
    assert not list(Path("/sys/fs/cgroup").glob("*/made-for-it"))
    gone(engine, container)


def test_a_score_that_the_machine_s_root_may_not_set_is_refused(engine):
    own = int(Path("/proc/self/oom_score_adj").read_text())
    container = engine.create("true", HostConfig={"OomScoreAdj": max(own - 1, -1000)})
    answer = engine.post(f"/containers/{container}/start")
    capable = int(Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0], 16)
    if capable >> 24 & 1 or own == -1000:
        assert answer.status == 204
    else:
        assert answer.status == 400
        assert "lacks CAP_SYS_RESOURCE" in answer.message
    gone(engine, container)


def test_info_tells_what_there_is(engine):
    info = engine.get("/info").json
    names = ("MemoryLimit", "CpuCfsQuota", "CPUShares", "CPUSet", "PidsLimit")
    assert [info[name] for name in names] == [True] * 5
    assert info["OomKillDisable"] is HYBRID


def test_a_default_ulimit_that_is_none_ends_the_engine_in_words(tmp_path):
    engine = EngineProcess(tmp_path / "engine", options=("--default-ulimit", "files=1"))
    with pytest.raises(RuntimeError, match="invalid ulimit type: files"):
        engine.start()
