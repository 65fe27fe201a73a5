"""Payloads that make the calls which a container's filter forbids, and what opens them again."""

from __future__ import annotations

import errno
import json
import platform
from pathlib import Path

import pytest

from runtime.seccomp import names
from tests.real.engine_process import EngineProcess

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the payloads make calls by their numbers on x86_64"
)

PYTHON = "/usr/bin/python3"
PROBES = Path(__file__).with_name("filter_probes.py")
X86_64, X86, X32 = "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"

NEWUSER, NEWNS, NEWTIME, THREAD = 0x10000000, 0x00020000, 0x00000080, 0x00010000
AF_UNIX, AF_INET, AF_NETLINK, AF_ALG, AF_VSOCK = 1, 2, 16, 38, 40

FORBIDDEN = {
    "keys": ["keyctl", "add_key", "request_key"],
    "programs in the kernel": ["bpf", "perf_event_open"],
    "memory of others": ["userfaultfd", "process_madvise", "pidfd_getfd", "kcmp", "move_pages"],
    "mounts": ["mount", "umount2", "pivot_root", "move_mount", "open_tree", "fsopen", "fsmount"],
    "mounts, newer": ["fsconfig", "fspick", "mount_setattr"],
    "namespaces": ["unshare", "setns"],
    "io_uring": ["io_uring_setup", "io_uring_enter", "io_uring_register"],
    "files by handles": ["open_by_handle_at"],
    "the kernel itself": ["init_module", "finit_module", "delete_module", "kexec_load", "reboot"],
    "the machine": ["swapon", "swapoff", "acct", "iopl", "ioperm", "settimeofday", "syslog"],
    "names and quotas": ["sethostname", "setdomainname", "quotactl", "fanotify_init"],
    "memory of nodes": ["mbind", "set_mempolicy", "get_mempolicy", "migrate_pages"],
    "old ones": ["uselib", "ustat", "sysfs", "_sysctl", "vhangup", "lookup_dcookie"],
}
"""By family; each of the names is a call of x86_64 and of i386."""

PASSING = ["read", "openat", "execve", "ptrace", "chroot", "clone", "seccomp", "prctl", "socket"]

BY_ARGUMENTS = {
    # name: (call, arguments, whether it passes)
    "a thread": ("clone", [THREAD], True),
    "clone with a user namespace": ("clone", [NEWUSER], False),
    "clone with a mount namespace and more": ("clone", [NEWNS | 17], False),
    "personality of Linux": ("personality", [0], True),
    "personality asked": ("personality", [0xFFFFFFFF], True),
    "personality of 32 bits": ("personality", [8], True),
    "personality without random addresses": ("personality", [0x0040000], False),
    "a unix socket": ("socket", [AF_UNIX], True),
    "an internet socket": ("socket", [AF_INET], True),
    "a netlink socket": ("socket", [AF_NETLINK], True),
    "a socket of the hypervisor": ("socket", [AF_VSOCK], False),
    "the same, with more in its upper half": ("socket", [AF_VSOCK | 1 << 32], False),
    "a socket of the kernel's ciphers": ("socket", [AF_ALG], False),
}

OPENED = {
    "CAP_SYS_ADMIN": [
        *("mount", "umount2", "unshare", "setns", "bpf", "perf_event_open", "fsopen", "syslog"),
    ],
    "CAP_DAC_READ_SEARCH": ["open_by_handle_at"],
    "CAP_SYS_BOOT": ["reboot"],
    "CAP_SYS_MODULE": ["init_module", "finit_module", "delete_module"],
    "CAP_SYS_PACCT": ["acct"],
    "CAP_SYS_PTRACE": ["kcmp", "pidfd_getfd", "process_madvise"],
    "CAP_SYS_RAWIO": ["iopl", "ioperm"],
    "CAP_SYS_TIME": ["settimeofday", "clock_settime"],
    "CAP_SYS_TTY_CONFIG": ["vhangup"],
    "CAP_SYS_NICE": ["mbind", "set_mempolicy", "get_mempolicy"],
    "CAP_SYSLOG": ["syslog"],
    "CAP_BPF": ["bpf"],
    "CAP_PERFMON": ["perf_event_open"],
}

RUN = """
import ctypes, errno, json, os
libc = ctypes.CDLL(None, use_errno=True)
def told(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(number, *arguments)
    return errno.errorcode[ctypes.get_errno()] if result < 0 else "done"
"""


@pytest.fixture(scope="module")
def calls():
    """The numbers that libseccomp knows."""
    try:
        names.check()
    except names.LibraryMissing as error:
        pytest.skip(str(error))
    return names.numbers


def asked(of, calls, kind=X86_64):
    """What the probes take."""
    wanted = {}
    for name in of:
        number = calls(name, kind)[0]
        if number >= 0:
            wanted[name] = ["x86" if kind == X86 else "x86_64", number, []]
    return wanted


def probe(engine, wanted, **host):
    """What a container's filter answers."""
    binds = [f"{PROBES}:/probes.py:ro"]
    options = {"HostConfig": {"Binds": binds, **host}}
    code, text, errors = engine.result(PYTHON, "/probes.py", json.dumps(wanted), **options)
    assert code == 0, errors
    return json.loads(text)


def test_what_the_default_profile_forbids(engine, calls):
    """By all three entries to the kernel; without a filter, each of them passes."""
    every = [name for family in FORBIDDEN.values() for name in family]
    wanted = {}
    for kind in (X86_64, X32, X86):
        for name, call in asked((*every, *PASSING), calls, kind).items():
            wanted[f"{kind} {name}"] = call
    for name, (call, arguments, _) in BY_ARGUMENTS.items():
        wanted[name] = ["x86_64", calls(call, X86_64)[0], arguments]
    confined, free = (
        probe(engine, wanted),
        probe(engine, wanted, SecurityOpt=["seccomp=unconfined"]),
    )
    assert set(free.values()) == {"ENOSYS"}, "a probe that can't tell"
    for name, answer in confined.items():
        call = name.split()[-1]
        passes = BY_ARGUMENTS[name][2] if name in BY_ARGUMENTS else call in PASSING
        if name.split()[0] in (X86, X32, X86_64) and call in ("clone", "socket"):
            passes = True  # without arguments
        assert answer == ("ENOSYS" if passes else "EPERM"), name


def test_clone3_is_unknown_so_that_programs_fall_back(engine):
    """Its flags are in memory. The kernel itself would say EINVAL to none of them."""
    script = RUN + "print(told(435, None, 0)); print(told(272, 0x10000000))"
    assert engine.result(PYTHON, "-c", script) == (0, "ENOSYS\nEPERM\n", "")
    threads = "import threading; t = threading.Thread(target=print, args=[7]); t.start(); t.join()"
    assert engine.result(PYTHON, "-c", threads) == (0, "7\n", "")
    free = engine.result(PYTHON, "-c", script, HostConfig={"SecurityOpt": ["seccomp=unconfined"]})
    assert free == (0, "EINVAL\ndone\n", "")


@pytest.mark.parametrize("capability", OPENED)
def test_what_a_capability_is_for_it_opens_again(engine, calls, capability):
    every = [name for listed in OPENED.values() for name in listed]
    told = probe(engine, asked(every, calls), CapAdd=[capability])
    for name, answer in told.items():
        assert answer == ("ENOSYS" if name in OPENED[capability] else "EPERM"), name


def test_chroot_goes_with_its_capability(engine, calls):
    assert probe(engine, asked(["chroot"], calls), CapDrop=["SYS_CHROOT"]) == {"chroot": "EPERM"}


def profile(*rules, default="SCMP_ACT_ALLOW", **more):
    text = json.dumps({"defaultAction": default, "syscalls": list(rules), **more})
    return {"SecurityOpt": [f"seccomp={text}"]}


def test_a_profile_of_ones_own(engine, calls):
    """Arguments, errnos, capabilities, what there is beside errnos."""
    rules = (
        {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 73},
        {"name": "rmdir", "action": "SCMP_ACT_ERRNO"},
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 18,
            "args": [{"index": 0, "value": 0xFF, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ"}],
        },
        {"names": ["chdir"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_BOOT"]}},
        {"names": ["fchdir"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_CHOWN"]}},
        {"names": ["link"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "99.0"}},
        {"names": ["symlink"], "action": "SCMP_ACT_ERRNO", "includes": {"arches": ["arm64"]}},
        {"names": ["uname"], "action": "SCMP_ACT_TRACE"},
        {"names": ["getppid"], "action": "SCMP_ACT_LOG"},
    )
    wanted = asked(("mkdir", "rmdir", "chdir", "fchdir", "link", "symlink"), calls)
    for value in (8, 0x108, 9):
        wanted[f"personality {value}"] = ["x86_64", 135, [value]]
    assert probe(engine, wanted, **profile(*rules)) == {
        "mkdir": errno.errorcode[73],
        "rmdir": "EPERM",
        **dict.fromkeys(("chdir", "fchdir", "link", "symlink", "personality 9"), "ENOSYS"),
        **dict.fromkeys(("personality 8", "personality 264"), "EXDEV"),
    }
    script = RUN + "print(told(63, ctypes.create_string_buffer(400)), told(110))"
    ran = engine.result(PYTHON, "-c", script, HostConfig=profile(*rules))
    assert ran == (0, "ENOSYS done\n", "")


@pytest.mark.parametrize(
    ("action", "code"),
    [("SCMP_ACT_KILL", 159), ("SCMP_ACT_KILL_PROCESS", 159), ("SCMP_ACT_TRAP", 159)],
)
def test_a_call_that_is_fatal(engine, action, code):
    """128 and SIGSYS."""
    forbidding = profile({"names": ["personality"], "action": action})
    script = RUN + "print(told(135, 0xffffffff))"
    assert engine.result(PYTHON, "-c", script, HostConfig=forbidding) == (code, "", "")


def test_only_what_a_list_allows(engine):
    """Nothing of ours comes between the filter and the execve, by whatever way it starts."""
    allowed = (
        *("execve", "brk", "mmap", "munmap", "mprotect", "arch_prctl", "write", "exit_group"),
        *(
            "access",
            "openat",
            "read",
            "close",
            "fstat",
            "newfstatat",
            "pread64",
            "rseq",
            "prlimit64",
        ),
        *("set_tid_address", "set_robust_list", "getrandom", "futex", "fcntl", "madvise"),
    )
    rules = {"names": list(allowed), "action": "SCMP_ACT_ALLOW"}
    for more in ({}, {"Memory": 64 << 20}):
        host = {**profile(rules, default="SCMP_ACT_ERRNO"), **more}
        for user in ("", "1000:1000"):
            ran = engine.result("/usr/bin/echo", "well", User=user, HostConfig=host)
            assert ran == (0, "well\n", "")


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        ("seccomp={", 400, "Decoding seccomp profile failed"),
        ("seccomp=[]", 400, "Decoding seccomp profile failed"),
        ('seccomp={"defaultAction":"SCMP_ACT_DENY"}', 400, "invalid defaultAction 'SCMP_ACT_DENY'"),
        (
            'seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":'
            '[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]}',
            400,
            "SCMP_ACT_NOTIFY is not supported: there is nobody to notify",
        ),
        (
            'seccomp={"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],'
            '"archMap":[{"architecture":"SCMP_ARCH_X86"}]}',
            400,
            "both 'architectures' and 'archMap' are specified",
        ),
        (
            'seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":'
            '[{"names":["a"],"name":"b","action":"SCMP_ACT_ALLOW"}]}',
            400,
            "both 'name' and 'names' are specified",
        ),
        ('seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscals":[]}', 400, "unknown field 'syscals'"),
        (
            'seccomp={"defaultAction":"SCMP_ACT_KILL_PROCESS","syscalls":'
            '[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}',
            400,
            "the seccomp profile forbids execve",
        ),
        ("seccomp", 400, 'invalid --security-opt 1: "seccomp"'),
        ("selinux=x", 400, 'invalid --security-opt 2: "selinux=x"'),
        ("label=type:x", 501, "label=type:x: it sets no SELinux labels"),
    ],
)
def test_what_is_no_profile_is_refused_when_a_container_is_made(engine, words, status, text):
    body = {"Image": "host", "Cmd": ["true"], "HostConfig": {"SecurityOpt": [words]}}
    answer = engine.post("/containers/create", body)
    assert answer.status == status
    assert text in answer.message


def test_commands_in_it_are_filtered_as_the_payload(engine):
    """Also privileged ones: as in Docker they have rights more, and no call more."""
    container = engine.run("sleep", "1000")
    for privileged in (False, True):
        told = execute(engine, container, ["unshare", "-m", "true"], Privileged=privileged)
        assert "Operation not permitted" in told
    assert "Seccomp:\t2" in execute(engine, container, ["grep", "Seccomp:", "/proc/self/status"])
    engine.delete(f"/containers/{container}?force=1")


def execute(engine, container, command, **more):
    body = {"Cmd": command, "AttachStdout": True, "AttachStderr": True, "Tty": True, **more}
    made = engine.post(f"/containers/{container}/exec", body).json["Id"]
    return engine.post(f"/exec/{made}/start", {"Tty": True}).body.decode()


def test_what_is_told_of_it(engine):
    words = ["seccomp=unconfined", "apparmor=unconfined"]
    shown = engine.inspect(engine.create("true", HostConfig={"SecurityOpt": words}))
    assert shown["HostConfig"]["SecurityOpt"] == words
    assert shown["AppArmorProfile"] == "unconfined"
    assert "name=seccomp,profile=builtin" in engine.get("/info").json["SecurityOptions"]


def test_an_engines_own_profile(tmp_path):
    """Also for containers that another supervisor starts after a kill -9; nobody starts without."""
    path = tmp_path / "own.json"
    rule = {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18}
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    options = ("--seccomp-profile", str(path))
    engine = EngineProcess(tmp_path / "engine", options=options, respawn=True).start()
    builtin = {"SecurityOpt": ["seccomp=builtin"]}
    try:
        stays = engine.run("sleep", "1000", HostConfig=builtin)
        for first in (True, False):
            code, _, errors = engine.result("mkdir", "/tmp/x")
            assert (code, "Invalid cross-device link" in errors) == (1, True)
            if not first:
                path.unlink()
            engine.kill()
        assert engine.result("mkdir", "/tmp/x", HostConfig=builtin)[0] == 0
        asked = {"Image": "host", "Cmd": ["mkdir", "/tmp/x"]}
        refused = engine.post("/containers/create", asked)
        assert refused.status == 400 and f"opening seccomp profile ({path})" in refused.message
        assert engine.inspect(stays)["State"]["Running"]
        told = engine.get("/info").json
        assert f"name=seccomp,profile={path}" in told["SecurityOptions"]
        assert any(f"opening seccomp profile ({path})" in one for one in told["Warnings"])
    finally:
        engine.close()


KEYS = (
    RUN
    + """
import sys
ADD_KEY, KEYCTL = 248, 250
SESSION = -3
def key(what, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(KEYCTL, what, *arguments)
    return result if result >= 0 else errno.errorcode[ctypes.get_errno()]
"""
)


def test_no_container_reaches_the_keys_of_another(engine):
    """Each unfiltered: keyctl itself is among what the default profile forbids."""
    free = {"HostConfig": {"SecurityOpt": ["seccomp=unconfined"]}}
    secret = KEYS + (
        "libc.syscall(ADD_KEY, b'user', b'secret', b'x', 1, SESSION)\n"
        "print(key(0, SESSION, 0), flush=True); import time; time.sleep(1000)"
    )
    owner = engine.run(PYTHON, "-c", secret, **free)
    while not (serial := engine.output(owner)[0].decode().strip()):
        assert engine.get("/_ping").status == 200
    begin = KEYS + f"serial = {serial}; room = ctypes.create_string_buffer(64)\n"
    reading = begin + "print(key(11, serial, room, 64), key(10, serial, b'user', b'secret', 0) > 0)"
    told = execute(engine, owner, [PYTHON, "-c", reading]).split()
    assert told == ["4", "True"], "a probe that can't tell: who has the keyring reads it"
    others = begin + (
        "print(key(11, serial, room, 64), key(6, serial, room, 64), key(8, serial, SESSION), "
        "key(10, serial, b'user', b'secret', 0), key(5, serial, 0x3f3f3f3f), key(7, serial))"
    )
    assert engine.result(PYTHON, "-c", others, **free)[1].split() == ["EACCES"] * 6
    engine.delete(f"/containers/{owner}?force=1")
