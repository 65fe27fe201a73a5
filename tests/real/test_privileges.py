"""Payloads that try to have more than their container was given."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import tarfile

import pytest

from runtime import capabilities, libc
from runtime.kernel import DOOR
from supervisor.privileges import at_hand
from tests.real.engine_process import EngineProcess
from tests.real.exec_driver import execute
from tests.real.shim_driver import ShimDriver, busybox_tree

PYTHON = "/usr/bin/python3"
UNFILTERED = "seccomp=unconfined"
"""What a filter of system calls would forbid, too, is to be forbidden without one."""

PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2
DEFAULT = 0xA80425FB
NET_RAW = 1 << 13

# What every payload below begins with.
COMMON = """
import ctypes, errno, json, os, re, struct, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)

def call(name, *arguments):
    "0, or the name of the error."
    ctypes.set_errno(0)
    if getattr(libc, name)(*arguments) >= 0:
        return 0
    return errno.errorcode[ctypes.get_errno()]

def attempt(doing, *arguments):
    try:
        return doing(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]

def write(path, text):
    fd = os.open(path, os.O_WRONLY)
    try:
        return os.write(fd, text.encode()) and 0
    finally:
        os.close(fd)

def sets(text=None):
    text = text or open("/proc/self/status").read()
    return {name: int(value, 16) for name, value in re.findall(r"Cap(...):\\t(\\w+)", text)}

def executed(*words, **how):
    done = attempt(lambda: subprocess.run(words, capture_output=True, text=True, **how))
    return done if isinstance(done, str) else done.stdout.strip() or done.stderr.strip()

def file_capability(path, number):
    "VFS_CAP_REVISION_2 with the effective bit (capabilities(7))."
    words = struct.pack("<5I", 0x02000001, 1 << number, 0, 0, 0)
    os.setxattr(path, "security.capability", words)

def say(told):
    print(json.dumps(told), flush=True)
"""


def told(engine, script, *more, host=None, **config):
    """What a payload says, in a container that is removed again."""
    host = {"SecurityOpt": [UNFILTERED], **(host or {})}
    code, out, err = engine.result(PYTHON, "-c", COMMON + script, *more, HostConfig=host, **config)
    assert code == 0, err
    return json.loads(out)


def execed(engine, container, *command, **config):
    """What a command in a container prints, and its code."""
    body = {"AttachStdout": True, "AttachStderr": True, "Cmd": list(command), **config}
    answer = engine.post(f"/containers/{container}/exec", body)
    assert answer.status == 201, answer
    exec_id = answer.json["Id"]
    answer = engine.post(f"/exec/{exec_id}/start", {"Detach": False, "Tty": True})
    return engine.get(f"/exec/{exec_id}/json").json["ExitCode"], answer.body


# ── programs that would give more ───────────────────────────────────────────────────────────────

RISE = """
def prepare():
    "Programs that root makes for somebody who is nobody: setuid, setgid, with a capability."
    os.mkdir("/rise")
    for name in ("suid", "sgid"):
        shutil.copy("/usr/bin/id", f"/rise/{name}")
    os.chmod("/rise/suid", 0o4755)
    os.chmod("/rise/sgid", 0o2755)
    shutil.copy(os.path.realpath("/usr/bin/cat"), "/rise/raw")
    file_capability("/rise/raw", 13)
    shutil.copy(os.path.realpath("/usr/bin/cat"), "/rise/admin")
    file_capability("/rise/admin", 12)

def rise(**how):
    found = {name: executed(f"/rise/{name}", option, **how)
             for name, option in (("suid", "-u"), ("sgid", "-g"))}
    for name in ("raw", "admin"):
        said = executed(f"/rise/{name}", "/proc/self/status", **how)
        found[name] = sets(said)["Eff"] if "Cap" in said else said
    return found
import shutil
"""


@pytest.mark.parametrize(
    ("options", "dropped", "expected"),
    [
        ([], [], {"suid": "0", "sgid": "0", "raw": NET_RAW, "admin": "EPERM"}),
        ([], ["NET_RAW"], {"suid": "0", "sgid": "0", "raw": "EPERM", "admin": "EPERM"}),
        (["no-new-privileges"], [], {"suid": "1234", "sgid": "77", "raw": 0, "admin": "EPERM"}),
    ],
    ids=["default", "dropped", "no-new-privileges"],
)
def test_programs_with_rights_of_their_own(engine, options, dropped, expected):
    script = RISE + "prepare(); say(rise(user=1234, group=77, extra_groups=[]))"
    host = {"SecurityOpt": [UNFILTERED, *options], "CapDrop": dropped}
    assert told(engine, script, host=host) == expected


def test_programs_with_rights_that_came_with_an_image(engine):
    maker = engine.run(PYTHON, "-c", COMMON + RISE + "prepare()")
    assert engine.wait(maker) == 0
    answer = engine.post(f"/commit?container={maker}&repo=risen")
    assert answer.status == 201, answer
    try:
        script = COMMON + RISE + "say(rise())"
        for options, expected in (
            ([], {"suid": "0", "sgid": "0", "raw": NET_RAW, "admin": "EPERM"}),
            (["no-new-privileges"], {"suid": "1234", "sgid": "77", "raw": 0, "admin": "EPERM"}),
        ):
            host = {"SecurityOpt": [UNFILTERED, *options]}
            common = {"image": "risen", "HostConfig": host}
            code, out, err = engine.result(PYTHON, "-c", script, User="1234:77", **common)
            assert (code, json.loads(out)) == (0, expected), err
            # Another user than the container's, and all capabilities, change nothing of it.
            running = engine.run("sleep", "1000", **common)
            for privileged in (False, True):
                code, out = execed(
                    *(engine, running, PYTHON, "-c", script),
                    User="1234:77",
                    Privileged=privileged,
                )
                if privileged:
                    # The bounding set is what a file's capability may be of.
                    expected = {**expected, "admin": 0 if options else 1 << 12}
                assert (code, json.loads(out)) == (0, expected)
            assert engine.delete(f"/containers/{running}?force=1").status == 204
    finally:
        engine.delete(f"/containers/{maker}")
        assert engine.delete("/images/risen").status == 200


@pytest.fixture(scope="module")
def careful(tmp_path_factory, busybox_tar):
    """An engine in which nobody gains privileges who does not say otherwise."""
    process = EngineProcess(tmp_path_factory.mktemp("careful"), options=("--no-new-privileges",))
    process.start()
    answer = process.post(
        "/images/create?fromSrc=-&repo=busybox",
        busybox_tar.read_bytes(),
        {"Content-Type": "application/x-tar"},
    )
    assert (answer.status, b"error" in answer.body) == (200, False), answer
    yield process
    process.close()


def test_an_engine_that_lets_nobody_gain_any(careful):
    assert "name=no-new-privileges" in careful.get("/info").json["SecurityOptions"]
    script = RISE + "prepare(); say(rise(user=1234, group=77, extra_groups=[])['suid'])"
    assert told(careful, script) == "1234"
    host = {"SecurityOpt": [UNFILTERED, "no-new-privileges=false"]}
    assert told(careful, script, host=host) == "0"
    # Nor do health checks, execs (privileged ones, too), and the steps of a build.
    show = ("grep", "-e", "NoNewPrivs", "-e", "CapBnd", "/proc/self/status")
    plain, everything = f"CapBnd:\t{DEFAULT:016x}", f"CapBnd:\t{at_hand():016x}"
    check = {"Test": ["CMD", *show], "Interval": 10**9}
    running = careful.run("sleep", "1000", Healthcheck=check)
    assert execed(careful, running, *show)[1].decode().split("\n")[:2] == [plain, "NoNewPrivs:\t1"]
    privileged = execed(careful, running, *show, Privileged=True)[1].decode()
    assert privileged.split("\n")[:2] == [everything, "NoNewPrivs:\t1"]
    health = {}
    while not health.get("Log"):
        health = careful.inspect(running)["State"]["Health"]
    assert health["Log"][0]["Output"].split("\n")[:2] == [plain, "NoNewPrivs:\t1"]
    dockerfile = f"FROM busybox\nRUN {' '.join(show)}\n".encode()
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        about = tarfile.TarInfo("Dockerfile")
        about.size = len(dockerfile)
        archive.addfile(about, io.BytesIO(dockerfile))
    headers = {"Content-Type": "application/x-tar"}
    answer = careful.post("/build?networkmode=none", context.getvalue(), headers)
    lines = "".join(json.loads(line).get("stream", "") for line in answer.body.splitlines())
    assert f"{plain}\nNoNewPrivs:\t1\n" in lines, answer


def test_no_set_can_be_made_larger(engine):
    script = """
        KEEPCAPS, BSET_READ, AMBIENT, RAISE = 8, 23, 47, 2
        header, admin = struct.pack("II", 0x20080522, 0), 1 << 21
        def capset(effective, permitted, inheritable):
            data = struct.pack("6I", effective, permitted, inheritable, 0, 0, 0)
            return call("capset", header, data)
        own = sets()
        low = own["Prm"]
        found = {"own": own, "securebits": libc.prctl(27)}
        found["more permitted"] = capset(low, low | admin, 0)
        found["more effective"] = capset(low | admin, low, 0)
        found["more inheritable"] = capset(low, low, admin)
        found["ambient"] = call("prctl", AMBIENT, RAISE, 13, 0, 0)
        # What it has it may pass on, to a user who has not, and no more.
        found["inheritable"] = capset(low, low, low)
        found["ambient of its own"] = call("prctl", AMBIENT, RAISE, 13, 0, 0)
        found["ambient of others"] = call("prctl", AMBIENT, RAISE, 21, 0, 0)
        found["passed on"] = sets(executed("/usr/bin/cat", "/proc/self/status", user=1234))
        say(found)
    """
    found = told(engine, re.sub(r"(?m)^ {8}", "", script))
    assert found.pop("own") == {"Inh": 0, "Prm": DEFAULT, "Eff": DEFAULT, "Bnd": DEFAULT, "Amb": 0}
    assert found.pop("passed on")["Eff"] == 0  # the change of user has emptied it
    assert found == {
        "securebits": 0,
        "more permitted": "EPERM",
        "more effective": "EPERM",
        "more inheritable": "EPERM",
        "ambient": "EPERM",
        "inheritable": 0,
        "ambient of its own": 0,
        "ambient of others": "EPERM",
    }


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ({"CapDrop": ["ALL"]}, 0),
        ({"CapDrop": ["all"], "CapAdd": ["net_raw"]}, NET_RAW),
        ({"CapAdd": ["ALL"], "CapDrop": ["CAP_NET_RAW"]}, at_hand() & ~NET_RAW),
        ({"Privileged": True, "CapDrop": ["ALL"]}, at_hand()),
    ],
    ids=["none", "one", "all but one", "privileged"],
)
def test_the_sets_asked_for_in_the_payload_and_in_what_enters(engine, host, expected):
    show = ("grep", "^Cap", "/proc/self/status")

    def sets(text):
        return {name: int(value, 16) for name, value in re.findall(r"Cap(...):\s(\w+)", text)}

    root = dict.fromkeys(("Prm", "Eff", "Bnd"), expected) | {"Inh": 0, "Amb": 0}
    other = {**root, "Prm": 0, "Eff": 0}
    mine = dict.fromkeys(("Prm", "Eff", "Bnd"), at_hand()) | {"Inh": 0, "Amb": 0}
    test = {"Test": ["CMD", *show], "Interval": 3_600_000_000_000, "StartInterval": 10**7}
    container = engine.run(
        *("sh", "-c", "grep ^Cap /proc/self/status; sleep 1000"),
        HostConfig=host,
        Healthcheck={**test, "StartPeriod": 10**12},
    )
    try:
        with engine.stream("GET", f"/containers/{container}/logs?follow=1&stdout=1") as log:
            text = b""
            while text.count(b"Cap") < 5:
                text += log.read1()
            assert sets(text.decode()) == root
        assert sets(execed(engine, container, *show)[1].decode()) == root
        assert sets(execed(engine, container, *show, User="1234")[1].decode()) == other
        assert sets(execed(engine, container, *show, Privileged=True)[1].decode()) == mine
        health = {}
        while not health.get("Log"):
            health = engine.inspect(container)["State"]["Health"]
        assert sets(health["Log"][0]["Output"]) == root
    finally:
        assert engine.delete(f"/containers/{container}?force=1").status == 204


def test_what_this_machine_s_root_lacks(engine):
    missing = [name for name in capabilities.NAMES if not capabilities.mask([name]) & at_hand()]
    if not missing:
        pytest.skip("the root of this machine has all capabilities")
    body = {"Image": "host", "Cmd": ["true"], "HostConfig": {"CapAdd": missing[:1]}}
    answer = engine.post("/containers/create", body)
    assert (answer.status, answer.message) == (
        400,
        "invalid CapAdd: capability not supported by your kernel or not available in the current "
        f'environment: "{missing[0]}": this engine was started without it',
    )
    assert engine.result("true", HostConfig={"CapAdd": ["ALL"], "CapDrop": missing[:1]})[0] == 0


@pytest.fixture
def generous():
    """This process, and whoever it starts meanwhile, with groups and capabilities to pass on."""
    groups, mine = os.getgroups(), at_hand()
    os.setgroups([*groups, 4242])
    DOOR.capset(mine, mine, mine)
    for number in capabilities.members(mine):
        assert libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0) == 0
    yield
    DOOR.capset(mine, mine, 0)  # and with it the ambient ones
    os.setgroups(groups)


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "python"])
def test_what_the_engine_was_started_with_is_not_passed_on(generous, tmp_path, fast):
    show = "grep -e ^Cap -e ^Groups /proc/self/status"
    driver = ShimDriver(tmp_path, busybox_tree(tmp_path / "lower"), fast=fast)
    try:
        with open(f"/proc/{driver.pid}/status") as file:
            assert re.search(r"CapAmb:\t0*[1-9a-f]", file.read())  # there is something to pass on
        for user, groups in (("", "0"), ("bird", "999 5678")):
            seen = driver.run(show, user=user)
            assert {"CapInh:\t" + "0" * 16, "CapAmb:\t" + "0" * 16} < set(seen.splitlines())
            assert re.search(r"Groups:\t(.*?) *\n", seen)[1] == groups
            assert f"CapBnd:\t{DEFAULT:016x}" in seen
            started = driver.start("sleep", "1000", user=user)
            assert started.failure() is None
            assert execute(driver, started, show, user=user) == seen
            assert execute(driver, started, show, user=user, apart=True) == seen
    finally:
        driver.close()


def test_nobody_inside_sees_the_machine_by_a_health_check_or_who_joins(engine, tmp_path):
    """`test_exec_apart` has the payload that would."""
    mark = tmp_path / "mark"
    mark.touch()
    # It also says in the place of who enters that he has failed, in words that make no sense.
    spy = """
        echo ready
        while :; do
            for p in /proc/[0-9]*; do
                [ -e $p/root$MARK ] && echo $p
                [ -p $p/fd/3 ] && echo '{"words": 1}' > $p/fd/3
            done 2>/dev/null
        done
    """
    host = {"CapAdd": ["SYS_PTRACE"], "SecurityOpt": [UNFILTERED]}
    check = {"Test": ["CMD", "true"], "Interval": 10**7, "Timeout": 10**10}
    container = engine.run(
        *("sh", "-c", spy),
        Env=[f"MARK={mark}"],
        HostConfig=host,
        Healthcheck=check,
        name="spy",
    )
    try:
        while len(engine.inspect(container)["State"]["Health"]["Log"] or ()) < 3:
            code, out = execed(engine, container, "true")
            assert code == 0 or b"its report makes no sense" in out
        joining = {"PidMode": "container:spy"}
        joined = engine.create("sleep", "1000", HostConfig=joining)
        answer = engine.post(f"/containers/{joined}/start")
        assert (answer.status, "CAP_SYS_PTRACE" in answer.message) == (400, True), answer
        engine.delete(f"/containers/{joined}")
        # The other way round it is right: who joins may look at those that are there.
        plain = engine.run("sleep", "1000", name="plain")
        joining = {"PidMode": "container:plain", **host}
        looking = engine.run("sleep", "1000", HostConfig=joining)
        assert execed(engine, plain, "echo", "in") == (0, b"in\n")
        for one in (looking, plain):
            assert engine.delete(f"/containers/{one}?force=1").status == 204
        engine.post(f"/containers/{container}/kill")
        engine.wait(container)
        assert engine.output(container) == (b"ready\n", b"")
    finally:
        engine.delete(f"/containers/{container}?force=1")


# ── what is hidden or read-only ─────────────────────────────────────────────────────────────────

BREAK_OUT = """
WRITTEN = (
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/domainname", "/proc/sysrq-trigger",
    "/proc/sys/net/ipv4/ip_forward", "/proc/irq/default_smp_affinity")
MS_RDONLY, REMOUNT, BIND, REC, PRIVATE, DETACH = 1, 32, 4096, 16384, 1 << 18, 2
NEWNS, NEWUSER, NEWPID, NEWCGROUP = 0x20000, 0x10000000, 0x20000000, 0x02000000

def held(path):
    try:
        return open(path).read()
    except OSError:
        return "h"  # sysrq-trigger's: it prints its help

def mount(source, target, kind, bits, data=None):
    return call("mount", source, target, kind, ctypes.c_ulong(bits), data)

def break_out():
    # What is there already: where nothing forbids it, the file is the machine's.
    there = [path for path in WRITTEN if os.path.exists(path)]
    found = {"write": [attempt(write, path, held(path)) for path in there]}
    found["make"] = [attempt(os.mkdir, path + "/x") or os.rmdir(path + "/x") or 0 for path in (
        "/sys/fs/cgroup", "/sys/kernel")]
    found["open for writing"] = attempt(
        lambda: os.close(os.open("/sys/kernel/mm/ksm/run", os.O_WRONLY)) or 0)
    found["read what is hidden"] = [len(attempt(lambda: open(path, "rb").read(1)))
        for path in ("/proc/interrupts", "/proc/timer_list", "/proc/keys") if os.path.exists(path)]
    found["list what is hidden"] = [len(os.listdir(path))
        for path in ("/sys/firmware", "/proc/acpi") if os.path.exists(path)]
    found["uncover"] = [call("umount2", path, DETACH)
        for path in (b"/proc/interrupts", b"/sys/firmware", b"/proc/sys")]
    found["write again"] = [mount(None, path, None, REMOUNT | BIND)
        for path in (b"/proc/sys", b"/sys", b"/sys/fs/cgroup")]
    found["write all of it"] = [mount(None, path, None, REMOUNT) for path in (b"/sys", b"/")]
    found["mount it anew"] = [
        mount(kind, b"/mnt", kind, 0) or call("umount2", b"/mnt", DETACH)
        for kind in (b"proc", b"sysfs", b"cgroup2", b"debugfs")]
    return found

def in_namespaces_of_its_own(kinds=NEWNS | NEWPID):
    "As root of a user namespace made inside; the child is in the new pid namespace."
    reader, writer = os.pipe()
    uid, gid = os.getuid(), os.getgid()
    if os.fork() == 0:
        failed = call("unshare", NEWUSER | kinds)
        if failed:
            os.write(writer, json.dumps({"unshare": failed}).encode())
            os._exit(0)
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"0 {uid} 1")
        write("/proc/self/gid_map", f"0 {gid} 1")
        if os.fork() == 0:
            found = break_out()
            found["all capabilities there"] = sets()["Eff"] > 0xa80425fb
            os.write(writer, json.dumps(found).encode())
            os._exit(0)
        os.wait()
        os._exit(0)
    os.close(writer)
    os.wait()
    return json.loads(os.read(reader, 65536))
"""

DENIED = {"EROFS", "EPERM", "EACCES"}


def every(value):
    return value if isinstance(value, list) else [value]


def denied(found, *but):
    """What of it was not denied, and is not among `but`."""
    return {
        name: answers
        for name, answers in found.items()
        if name not in but and not set(every(answers)) <= DENIED
    }


def test_what_is_hidden_and_read_only(engine):
    found = told(engine, BREAK_OUT + "say(break_out())")
    hidden = [found.pop("read what is hidden"), found.pop("list what is hidden")]
    assert not any(hidden[0] + hidden[1])
    assert denied(found) == {}


def user_namespaces():
    with open("/proc/sys/user/max_user_namespaces") as file:
        return int(file.read()) > 0


needs_user_namespaces = pytest.mark.skipif(
    not user_namespaces(), reason="this machine allows no user namespaces"
)


@needs_user_namespaces
@pytest.mark.parametrize("user", ["", "1234"], ids=["root", "user"])
def test_what_is_hidden_and_read_only_in_a_user_namespace_made_inside(engine, user):
    """There it has all capabilities, and takes nothing away of what covers the mounts."""
    found = told(engine, BREAK_OUT + "say(in_namespaces_of_its_own())", User=user)
    if "unshare" in found:
        pytest.skip("this machine's users may make no user namespaces")
    assert found.pop("all capabilities there")
    hidden = [found.pop("read what is hidden"), found.pop("list what is hidden")]
    assert not any(hidden[0] + hidden[1])
    # What is locked together can't be told from what is no mount (EINVAL; mount_namespaces(7)).
    assert set(found.pop("uncover")) <= {"EINVAL", "EPERM"}
    assert denied(found) == {}


@needs_user_namespaces
def test_where_nothing_is_hidden_all_of_proc_can_be_had_anew(engine):
    """So the tests above do not fail for another reason."""
    host = {"MaskedPaths": [], "ReadonlyPaths": []}
    found = told(engine, BREAK_OUT + "say(in_namespaces_of_its_own())", host=host)
    if "unshare" in found:
        pytest.skip("this machine's users may make no user namespaces")
    assert found["mount it anew"][0] == 0
    assert all(found["read what is hidden"])


def test_a_privileged_one_may_write(engine):
    # Its own cgroup, its own names: what is the machine's is left alone.
    script = """
WRITTEN = ()
found = break_out()
own = open("/proc/sys/kernel/domainname").read()
found["write"] = [attempt(write, "/proc/sys/kernel/domainname", own)]
say(found)
"""
    found = told(engine, BREAK_OUT + script, host={"Privileged": True})
    assert found["write"] == [0]
    assert found["make"][0] == 0
    assert found["open for writing"] in (0, "ENOENT")
    assert all(found["read what is hidden"])
    assert found["mount it anew"][:3] == [0, 0, 0]


def test_paths_of_ones_own(engine):
    script = """
say([attempt(write, "/etc/group", "x"), open("/etc/passwd").read(), os.listdir("/usr/share"),
     attempt(os.mkdir, "/root/x"), attempt(write, "/proc/sys/kernel/domainname", "mine")])
"""
    masked = ["/etc/passwd", "/usr/bin/../share", "/none"]
    host = {"MaskedPaths": masked, "ReadonlyPaths": ["/etc", "/root", "/none"]}
    seen = told(engine, script, host=host)
    # Nothing is protected that was not named: not even what is the machine's of /proc/sys.
    assert seen == ["EROFS", "", [], "EROFS", 0]


# ── users and groups ────────────────────────────────────────────────────────────────────────────


def test_an_image_s_files_make_nobody_root(engine):
    """Who is asked for by a number gets that number, or nothing."""
    lines = "1000:x:0:0::/:/bin/sh\nbig:x:4294967296:0::/:/bin/sh\nneg:x:-1:0::/:/bin/sh\n"
    lines += f"long:x:{'9' * 5000}:0::/:/bin/sh\nann:x:1001:1001::/:/bin/sh\n"
    script = f"""
open("/etc/passwd", "w").write({lines!r})
open("/etc/group", "w").write("1000:x:0:\\nroot:x:0:\\ndown:x:4294967296:\\nann:x:1001:ann\\n")
"""
    maker = engine.run(PYTHON, "-c", COMMON + script)
    assert engine.wait(maker) == 0
    assert engine.post(f"/commit?container={maker}&repo=odd").status == 201
    try:
        for user, seen in (
            ("1000", "1000 0 0"),
            ("1000:1000", "1000 1000 1000"),
            ("ann:5", "1001 5 5"),
            ("2147483647:2147483647", "2147483647 2147483647 2147483647"),
        ):
            code, out, err = engine.result(
                "sh", "-c", "echo $(id -u) $(id -g) $(id -G)", image="odd", User=user
            )
            assert (code, out.strip()) == (0, seen), err
        running = engine.run("sleep", "1000", image="odd")
        for user, words in (
            ("big", "ids go from 0 to 2147483647"),
            ("long", "ids go from 0 to 2147483647"),
            ("neg", "no matching entries in passwd file"),
            ("2147483648", "ids go from 0 to 2147483647"),
            ("4294967296", "ids go from 0 to 2147483647"),
            ("9" * 5000, "ids go from 0 to 2147483647"),
            ("-1", "no matching entries in passwd file"),
            ("1000:4294967296", "ids go from 0 to 2147483647"),
            ("1000:down", "ids go from 0 to 2147483647"),
            ("1000:none", "unable to find group none"),
        ):
            container = engine.create("true", image="odd", User=user)
            answer = engine.post(f"/containers/{container}/start")
            assert (answer.status, words in answer.message) == (400, True), answer
            assert engine.delete(f"/containers/{container}").status == 204
            code, out = execed(engine, running, "true", User=user)
            assert (code, words in out.decode()) == (126, True), out
        assert engine.delete(f"/containers/{running}?force=1").status == 204
    finally:
        engine.delete(f"/containers/{maker}")
        assert engine.delete("/images/odd").status == 200


def test_groups_are_those_asked_for(engine, busybox):
    show = ("sh", "-c", "echo $(id -u) $(id -G)")

    def ids(text):
        user, first, *more = map(int, text.split())
        return user, first, set(more)

    for user, added, seen in (
        ("", [], (0, 0, set())),
        ("bird", [], (1234, 5678, {999})),
        ("bird", ["77", "flock"], (1234, 5678, {999, 77})),
        ("bird:77", ["88"], (1234, 77, {88})),
        ("99", ["0"], (99, 0, set())),
    ):
        common = {"image": busybox, "User": user, "HostConfig": {"GroupAdd": added}}
        code, out, err = engine.result(*show, **common)
        assert (code, ids(out)) == (0, seen), err
    # Who enters as somebody else has that one's groups, and those of the container.
    running = engine.run("sleep", "1000", image=busybox, User="99", HostConfig={"GroupAdd": ["77"]})
    try:
        for user, seen in (
            ("", (99, 0, {77})),
            ("bird", (1234, 5678, {999, 77})),
            ("0:5", (0, 5, {77})),
        ):
            code, out = execed(engine, running, *show, User=user)
            assert (code, ids(out)) == (0, seen)
    finally:
        engine.delete(f"/containers/{running}?force=1")


# ── clients ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(shutil.which("docker") is None, reason="needs the docker CLI")
def test_by_docker_s_client(engine):
    def docker(*words):
        command = ["docker", "-H", f"unix://{engine.socket}", *words]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stdout.strip(), done.stderr

    bounding = ("host", "sh", "-c", "grep CapBnd /proc/self/status | cut -f 2")
    chown = ("--cap-drop", "all", "--cap-add", "chown")
    assert docker("run", "--rm", *chown, *bounding)[1] == f"{1:016x}"
    assert int(docker("run", "--rm", "--privileged", *bounding)[1], 16) == at_hand()
    code, _, err = docker("create", "--cap-add", "flying", "host", "true")
    assert (code, 'invalid CapAdd: unknown capability: "CAP_FLYING"' in err) == (1, True), err
    look = ("host", "grep", "-c", ":", "/proc/interrupts")
    assert docker("run", "--rm", *look)[:2] == (1, "0")
    uncovered = docker("run", "--rm", "--security-opt", "systempaths=unconfined", *look)
    assert uncovered[0] == 0 and int(uncovered[1]) > 0
    name = "privileged-bird"
    assert docker("run", "-d", "--name", name, "host", "sleep", "1000")[0] == 0
    try:
        show = ("sh", "-c", "id -g; grep CapEff /proc/self/status")
        _, out, _ = docker("exec", "--privileged", "-u", "0:7", name, *show)
        assert out.split()[0] == "7" and int(out.split()[2], 16) == at_hand()
        asked = "{{.HostConfig.Privileged}} {{.HostConfig.CapAdd}} {{len .HostConfig.MaskedPaths}}"
        assert docker("inspect", "-f", asked, name)[1].startswith("false [] 1")
    finally:
        docker("rm", "-f", name)
