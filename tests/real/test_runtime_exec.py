"""A command enters a running container: no more and no less than its payload; nothing remains."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runtime import shim_protocol as protocol
from runtime.cgroups import Limits
from runtime.spec import Bind
from tests.real.exec_driver import entered, execute
from tests.real.shim_driver import ShimDriver
from tests.real.test_no_descriptors import room_for

CHECKOUT = Path(__file__).resolve().parents[2]
DEFAULT_ENVIRONMENT = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)


@pytest.fixture
def sleeper(driver):
    started = driver.start("sleep", "1000")
    assert started.failure() is None
    return started


def field(status, name):
    """A field of /proc/PID/status."""
    return re.search(rf"^{name}:\s*(.*)$", status, re.M)[1]


def test_it_is_in_every_namespace_of_the_container(driver, sleeper):
    both = "readlink /proc/self/ns/$n; readlink /proc/1/ns/$n"
    seen = execute(driver, sleeper, f"for n in mnt pid uts ipc net cgroup; do {both}; done").split()
    assert len(seen) == 12
    assert seen[::2] == seen[1::2]
    assert execute(driver, sleeper, "hostname; pwd; ls /").split()[:2] == [sleeper.id, "/"]


def test_it_has_nothing_open_but_its_streams_and_a_session_of_its_own(driver, sleeper):
    seen = execute(driver, sleeper, "ls /proc/$$/fd; readlink /proc/$$/fd/0; umask; echo $PPID")
    assert seen.split() == ["0", "1", "2", "/dev/null", "0022", "0"]
    seen = execute(driver, sleeper, "echo $$ $(cut -d' ' -f 5-6 /proc/$$/stat)").split()
    assert len(set(seen)) == 1


def test_its_privileges_are_the_payloads(driver):
    for more in ({}, {"no_new_privileges": True}, {"user": "bird:999"}, {"capabilities": ()}):
        started = driver.start("sleep", "1000", **more)
        assert started.failure() is None
        pattern = "^(Cap|NoNewPrivs|Uid|Gid|Groups|Seccomp|SigBlk|SigIgn)"
        seen = []
        for of in ("self", "1"):
            with entered(
                driver, started, "grep", "-E", pattern, f"/proc/{of}/status", **more
            ) as one:
                seen.append(one.output())
                assert one.status() == 0
        assert seen[0] == seen[1]
        limits = "grep 'open files' /proc/{}/limits; cat /proc/{}/oom_score_adj"
        assert execute(driver, started, limits.format("self", "self"), **more) == execute(
            driver, started, limits.format(1, 1), **more
        )


def test_environment_user_and_working_directory_are_what_was_asked(driver, sleeper):
    script = "echo $A $HOME $PATH; pwd; id -u; id -g; id -G"
    seen = execute(
        driver, sleeper, script, env=("A=1", "PATH=/bin"), user="bird", cwd="/tmp"
    ).splitlines()
    assert seen == ["1 /nest /bin", "/tmp", "1234", "5678", "5678 999"]


def test_its_groups_are_added_to_its_users(driver, sleeper):
    for layers in ((), (str(driver.lower),)):
        seen = execute(driver, sleeper, "id -G", user="bird", groups=("root", "31"), layers=layers)
        assert seen == "5678 0 31 999\n"  # as the kernel sorts them


def test_it_reads_what_it_is_given_also_by_its_name(driver, sleeper):
    for user in ("", "bird"):
        line = "cat /dev/stdin; readlink /proc/$$/fd/0 | cut -c -4"
        with entered(driver, sleeper, "sh", "-c", line, stdin=b"word\n", user=user) as one:
            assert (one.failure(), one.output(), one.errors()) == (None, "word\npipe\n", "")
            assert one.status() == 0


@pytest.mark.parametrize("silent", [(1,), (2,), (1, 2)])
def test_silent_streams_are_the_containers_null_device(driver, sleeper, silent):
    for user in ("", "bird"):
        line = (
            "for i in 1 2; do test $(readlink /proc/$$/fd/$i) = /dev/null && r=$r$i; done; exit $r"
        )
        with entered(driver, sleeper, "sh", "-c", line, silent=silent, user=user) as one:
            assert one.failure() is None
            assert os.waitstatus_to_exitcode(one.status()) == int("".join(map(str, silent)))


def test_its_exit_is_told_once(driver, sleeper):
    with entered(driver, sleeper, "sh", "-c", "echo out; echo err >&2; exit 7") as one:
        assert (one.failure(), one.output(), one.errors()) == (None, "out\n", "err\n")
        assert os.waitstatus_to_exitcode(one.status()) == 7


@pytest.mark.parametrize(
    ("args", "spec", "step", "code", "words"),
    [
        (["nowhere"], {}, "execute", 127, "executable file not found in $PATH"),
        (["/plain"], {}, "execute", 126, "permission denied"),
        (["sh"], {"cwd": "/missing"}, "enter the working directory", 127, "no such file"),
        (["sh"], {"user": "nobody-here"}, "find the user", 125, "unable to find user"),
        (["sh"], {"joins": ("/sys/fs/cgroup/none",)}, "enter its cgroups", 125, "no such file"),
    ],
)
def test_what_cannot_be_is_told_with_its_step(driver, sleeper, args, spec, step, code, words):
    with entered(driver, sleeper, *args, **spec) as one:
        failure = one.failure()
        assert (failure["step"], failure["exit_code"]) == (step, code)
        assert words in failure["words"]
        assert os.waitstatus_to_exitcode(one.status()) == code


def test_a_working_directory_through_a_descriptor_of_the_shims_is_not_there(driver, sleeper):
    """CVE-2024-21626: no descriptor of the host's is open when the directory is entered."""
    for number in range(3, 30):
        with entered(driver, sleeper, "pwd", cwd=f"/proc/self/fd/{number}") as one:
            assert one.failure()["exit_code"] in (126, 127)
            one.status()


def test_the_limits_of_the_container_hold_for_it(driver):
    started = driver.start("sleep", "1000", limits=Limits(pids=3))
    assert started.failure() is None
    joins = tuple(
        str(tree / driver.cgroups.parent / started.id) for tree in driver.cgroups.trees.v1.values()
    )
    joins = tuple(path for path in joins if Path(path).exists())
    script = "for i in 1 2 3; do sleep 99 >/dev/null 2>&1 & done"
    with entered(driver, started, "sh", "-c", script, joins=joins) as one:
        assert one.failure() is None
        assert "can't fork" in one.errors()
        pidfds = [os.pidfd_open(pid) for pid in one.pids()]
        (one.cgroup / "cgroup.kill").write_text("1")
        for pidfd in pidfds:
            assert select.select([pidfd], [], [], 10)[0]
            os.close(pidfd)
        one.status()


def test_refused_where_the_container_has_ended_or_never_was(driver):
    started = driver.start("true")
    assert started.status() == 0
    with entered(driver, started, "true") as one:
        assert "not running" in one.refused.message
    started.id, real = "nobody", started.id
    try:
        Path(driver.cgroups.trees.unified, driver.cgroups.parent, "nobody").mkdir()
        with entered(driver, started, "true") as one:
            assert "not running" in one.refused.message
    finally:
        Path(driver.cgroups.trees.unified, driver.cgroups.parent, "nobody").rmdir()
        started.id = real


@pytest.mark.parametrize("command", ["true", "nowhere"])
def test_without_descriptors_it_is_refused_in_words_and_nothing_else_happens(
    driver, sleeper, command
):
    before = settled_descriptors(driver, sleeper)
    refused = entered_at = 0
    for number in range(16):
        with room_for(driver.pid, number), entered(driver, sleeper, command) as one:
            if one.refused is not None:
                refused += 1
                assert one.refused.errno == errno.EMFILE
                assert "oo many open files" in one.refused.message
                assert one.failure() is None  # nobody has its pipes any more
                continue
            entered_at += 1
            failure = one.failure()
            words = "" if failure is None else failure["words"]
            assert ("executable file not found" in words) == (command == "nowhere")
            assert os.waitstatus_to_exitcode(one.status()) == (0 if command == "true" else 127)
    assert refused > 2
    assert entered_at > 2
    assert execute(driver, sleeper, "echo goes on") == "goes on\n"
    # The ready network namespaces were given up for it.
    assert settled_descriptors(driver, sleeper) <= before


@pytest.mark.parametrize("of", ["payload", "exec"])
def test_a_hard_limit_that_was_lowered_meanwhile_is_no_obstacle(tmp_path, of, shim_of_module):
    """Nobody without CAP_SYS_RESOURCE may raise it again, not even to what payloads had so far."""
    driver = ShimDriver(tmp_path, shim_of_module.lower, fast=shim_of_module.fast)
    try:
        early = driver.start("sleep", "1000")
        assert early.failure() is None
        resource.prlimit(driver.pid, resource.RLIMIT_NOFILE, (300, 300))
        ask = "ulimit -Sn; ulimit -Hn"
        seen = driver.run(ask) if of == "payload" else execute(driver, early, ask)
        assert int(seen.split()[0]) <= 1024
        if not may_raise_limits(driver.pid):
            assert seen.split() == ["300", "300"]
    finally:
        driver.close()


def test_it_ends_with_the_container(driver, sleeper):
    with entered(driver, sleeper, "sh", "-c", "echo up; trap '' TERM; sleep 999 & wait") as one:
        assert one.readline() == "up\n"
        sleeper.kill()
        assert os.WTERMSIG(one.status()) == signal.SIGKILL
        assert os.WTERMSIG(sleeper.status()) == signal.SIGKILL


def test_it_ends_with_the_supervisor_and_so_do_its_children(driver, sleeper):
    script = "trap '' HUP TERM; (trap '' HUP; sleep 999) & echo up; wait"
    with entered(driver, sleeper, "sh", "-c", script) as one:
        assert one.readline() == "up\n"
        pidfds = [os.pidfd_open(pid) for pid in one.pids()]
        assert len(pidfds) == 2
        driver.reconnect()
        for pidfd in pidfds:
            assert select.select([pidfd], [], [], 10)[0]
            os.close(pidfd)
        adopted, _ = driver.adopt()
        assert adopted[sleeper.id].wait_status is None
        for fd in adopted[sleeper.id].fds:
            os.close(fd)
        assert driver.children() == {sleeper.pid}


def test_a_lasting_one_goes_on_without_the_supervisor_and_ends_with_the_container(driver, sleeper):
    with entered(driver, sleeper, "sleep", "999", lasting=True, silent=(1, 2)) as one:
        assert one.failure() is None
        pidfd = os.pidfd_open(one.pid)
        driver.reconnect()
        adopted, _ = driver.adopt()
        assert adopted[sleeper.id].wait_status is None
        for fd in adopted[sleeper.id].fds:
            os.close(fd)
        assert not select.select([pidfd], [], [], 0)[0]
        sleeper.kill()
        assert os.WTERMSIG(one.status()) == signal.SIGKILL
        assert select.select([pidfd], [], [], 10)[0]
        os.close(pidfd)


def test_the_next_container_is_not_born_into_the_one_that_was_entered(driver, sleeper):
    """The shim goes into the container's pid namespace for one clone, and comes back."""
    assert execute(driver, sleeper, "echo $PPID") == "0\n"
    other = driver.start("sleep", "1000")
    assert other.failure() is None
    status = Path(f"/proc/{other.pid}/status").read_text()
    ours = Path("/proc/self/status").read_text()
    assert len(field(status, "NSpid").split()) == len(field(ours, "NSpid").split()) + 1
    assert os.readlink(f"/proc/{driver.pid}/ns/pid_for_children") == os.readlink(
        "/proc/self/ns/pid"
    )


LONG_SEARCH = {"env": ("PATH=" + "/nowhere:" * 400_000 + "/bin",)}
SHORT_SEARCH = {"env": ("PATH=" + "/n:" * 1000 + "/bin",)}


def held(one):
    """Stop a process; its status once it has stopped (or has ended)."""
    signal.pidfd_send_signal(one.pidfd, signal.SIGSTOP)
    while (text := Path(f"/proc/{one.pid}/status").read_text()) and field(text, "State")[
        0
    ] not in "TZ":
        continue
    return text


def onlooker(started, *words):
    """`tests.real.onlooker` in a container."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.real.onlooker", str(started.pid), *map(str, words)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def taken(started, pid):
    """What a root of the container can take of a process of it, by name."""
    inner = field(Path(f"/proc/{pid}/status").read_text(), "NSpid").split()[-1]
    with onlooker(started, inner) as looking:
        found = dict(json.loads(looking.communicate()[0]))
    assert looking.returncode == 0
    return found


def strays(driver, one):
    """What a process on its way has open that is neither its streams nor made by itself."""

    def links(pid):
        return {path.name: os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}

    theirs = {"0": "/dev/null", "4": links(driver.pid)["4"]}  # where a fast one gives up
    for number, stream in enumerate(("stdout", "stderr", "status"), 1):
        theirs[str(number)] = os.readlink(f"/proc/self/fd/{one.end_of(stream)}")
    own = ("/dev/null", "/etc/passwd")
    return {
        number: target
        for number, target in links(one.pid).items()
        if target != theirs.get(number) and (int(number) < 3 or target not in own)
    }


def test_nobody_in_the_container_can_look_into_one_that_shares_the_shim_s_memory(driver, sleeper):
    """The fast way's few hundred microseconds, held while it searches a PATH."""
    for _ in range(200):
        with entered(driver, sleeper, "sleep", "1000", **SHORT_SEARCH) as one:
            status = Path(f"/proc/{one.pid}/status")
            while int(field(status.read_text(), "CapEff"), 16) > 1 << 32:
                continue  # those without privileges could not look at it anyway
            entering = "Name:\tmdocker-shim" in held(one)
            if entering:
                assert taken(sleeper, one.pid) == {}
                assert strays(driver, one) == {}
            signal.pidfd_send_signal(one.pidfd, signal.SIGKILL)
            one.status()
        if entering:
            return
    raise AssertionError("it was too fast each time")


@pytest.mark.parametrize("stage", ["before it drops privileges", "after"])
def test_nobody_in_the_container_can_look_into_one_that_enters(driver, stage):
    """Not traced, not read, not reached by /proc: it is not dumpable until its execve."""
    started = driver.start("sleep", "1000")
    assert started.failure() is None
    early = stage != "after"
    if early:
        execute(driver, started, "yes 'a:b:c' | head -n 690000 >> /etc/passwd")
    with entered(
        driver, started, "sleep", "1000", **({"user": "777"} if early else LONG_SEARCH)
    ) as one:
        status = Path(f"/proc/{one.pid}/status")
        # It looks through a long file or a long PATH now; held there, it can be looked at.
        while True:
            effective = int(field(status.read_text(), "CapEff"), 16)
            root = os.stat(f"/proc/{one.pid}/root").st_dev
            if root != os.stat("/").st_dev and (early or effective < 1 << 32):
                break
        text = held(one)
        assert "Name:\tmdocker-shim" in text, "it was too fast for this test"
        assert (int(field(text, "CapEff"), 16) > 1 << 32) == early
        assert taken(started, one.pid) == {}
        assert strays(driver, one) == {}
        signal.pidfd_send_signal(one.pidfd, signal.SIGKILL)
        one.status()


def test_what_can_be_taken_of_a_process_of_the_container_once_it_has_become_one(driver, sleeper):
    """What the tests above find refused is what they would find."""
    with entered(driver, sleeper, "sleep", "1000") as one:
        assert one.failure() is None
        found = taken(sleeper, one.pid)
        assert found["exe"] == "opened"
        assert found.keys() >= {"root", "cwd", "maps", "mem", "pidfd_getfd", "process_vm_readv"}
        signal.pidfd_send_signal(one.pidfd, signal.SIGKILL)
        one.status()


def test_who_looks_on_from_its_birth_finds_nothing_that_is_not_the_containers(driver, sleeper):
    """No stage lets go of anything: all that was to be read was the command's own."""
    with onlooker(sleeper) as looking:
        done = threading.Event()
        reader = threading.Thread(target=lambda: (looking.stdout.readline(), done.set()))
        reader.start()
        rounds = 0
        while not done.is_set() or rounds < 20:
            with entered(driver, sleeper, "/bin/true") as one:
                assert one.failure() is None
                assert one.status() == 0
            rounds += 1
        reader.join()
        found = json.loads(looking.communicate()[0])
    assert looking.returncode == 0
    own = {"root": {"/"}, "cwd": {"/"}, "exe": {"/bin/busybox"}, "fd/0": {"/dev/null"}}
    for name, value in found:
        if name == "maps":
            paths = {line.split()[5] for line in value.splitlines() if len(line.split()) > 5}
            assert {path for path in paths if not path.startswith("[")} <= {"/bin/busybox"}
        elif name == "environ":
            assert set(value.split("\0")) <= {"", "HOME=/root", *DEFAULT_ENVIRONMENT}
        elif name in ("fd/1", "fd/2"):
            assert value.startswith("pipe:")
        elif name == "ns/mnt":
            assert value == os.readlink(f"/proc/{sleeper.pid}/ns/mnt")
        else:
            assert value in own[name], (name, value)


def test_the_program_that_enters_cannot_be_overwritten(driver):
    """CVE-2019-5736: while a shim runs, its executable is busy, whoever has it open."""
    with pytest.raises(OSError, match="Text file busy"):
        os.open(f"/proc/{driver.pid}/exe", os.O_WRONLY)


@pytest.mark.parametrize("of", ["payload", "exec"])
def test_who_executes_our_own_program_has_it_from_a_read_only_mount(driver, of):
    """A container can keep it open until none of us runs, and then nothing would be busy."""
    if os.stat(os.path.realpath(sys.executable)).st_dev != os.stat("/").st_dev:
        pytest.skip("the interpreter is on a file system of its own")
    held = "import os; print(os.statvfs('/proc/self/exe').f_flag & os.ST_RDONLY)"
    ours = ("/proc/self/exe", "-I", "-S", "-c", held)
    found = sys.base_prefix, "/lib", "/lib64", "/usr"
    binds = tuple(Bind(path, path) for path in dict.fromkeys(found) if os.path.isdir(path))
    started = driver.start(*(ours if of == "payload" else ("sleep", "1000")), binds=binds)
    assert started.failure() is None
    if of == "payload":
        assert (started.output(), started.status()) == (f"{os.ST_RDONLY}\n", 0)
        return
    with entered(driver, started, *ours) as one:
        assert one.failure() is None
        assert (one.output(), one.status()) == (f"{os.ST_RDONLY}\n", 0)


def test_hundreds_of_execs_leave_the_shim_as_it_was(driver, sleeper):
    def resident():
        return int(field(Path(f"/proc/{driver.pid}/status").read_text(), "VmRSS").split()[0])

    def one():
        with entered(driver, sleeper, "/bin/true") as it:
            assert it.failure() is None
            assert it.status() == 0
        del driver.exec_exits[it.id]

    for _ in range(40):
        one()
    before, open_before = resident(), settled_descriptors(driver, sleeper)
    for _ in range(160):
        one()
    assert settled_descriptors(driver, sleeper) == open_before
    assert resident() - before < 200  # KiB


def settled_descriptors(driver, sleeper):
    """How many the shim has open, once it has closed what it had to close."""
    adopted, _ = driver.adopt()
    for fd in adopted[sleeper.id].fds:
        os.close(fd)
    return driver.shim_fds()


def may_raise_limits(pid):
    """Whether a process has CAP_SYS_RESOURCE."""
    return int(field(Path(f"/proc/{pid}/status").read_text(), "CapEff"), 16) >> 24 & 1


def test_messages_survive_the_protocol():
    for message in (
        protocol.Exec("e", "c", 0, 1, 2, 0, ()),
        protocol.Execed("e", 17, 0),
        protocol.ExecRefused("e", 3, "no"),
        protocol.ExecExited("e", 17, 9, 5),
    ):
        packet, fds = protocol.encode(message)
        assert protocol.decode(packet, fds) == message
