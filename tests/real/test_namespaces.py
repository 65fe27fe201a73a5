"""`--pid`, `--ipc`, `--uts` and `--cgroupns`: payloads that reach for the machine and neighbours.

Each attack is made in the namespace that is the machine's, too: there it succeeds.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from pathlib import Path

import pytest

ABLE = {"CapAdd": ["SYS_ADMIN", "SYS_PTRACE", "IPC_OWNER"], "SecurityOpt": ["seccomp=unconfined"]}
FOREVER = ("sleep", "1000000")


@pytest.fixture
def neighbour(engine):
    """Another container that runs."""
    container = engine.run(*FOREVER)
    yield container
    engine.delete(f"/containers/{container}?force=1")


@pytest.fixture
def victim():
    """A process of the machine's."""
    with subprocess.Popen(FOREVER) as process:
        yield process
        process.kill()


def told_by(engine, script, **host):
    """The words that a script prints, in a container that may do much."""
    code, out, err = engine.result("sh", "-c", script, HostConfig=ABLE | host)
    assert code == 0, (out, err)
    return out.split()


def test_pid(engine, neighbour, victim):
    """It signals all that it sees: only its own die, and a pid of the machine's is nobody's."""
    theirs = engine.inspect(neighbour)["State"]["Pid"]
    reach = "".join(
        f"kill -0 {pid} 2>/dev/null && echo signal; ls /proc/{pid}/root >/dev/null 2>&1 && "
        "echo look; "
        for pid in (victim.pid, theirs)
    )
    # The shell is spared by kill(2) itself; the sleep that it began is not.
    everybody = "sleep 1000000 & kill -9 -1; wait $!; echo $?"
    assert told_by(engine, reach + everybody) == ["137"]
    assert victim.poll() is None
    assert engine.inspect(neighbour)["State"]["Running"]
    assert told_by(engine, reach + "true", PidMode="host") == ["signal", "look"] * 2


@contextlib.contextmanager
def system_v():
    """(option, id) of a shared memory segment, a semaphore set and a queue of the machine's."""
    made = []
    try:
        for kind, size in (("M", "4096"), ("S", "1"), ("Q", "")):
            words = ["ipcmk", f"-{kind}", *([size] if size else [])]
            told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            made.append((kind.lower(), told.split()[-1]))
        yield made
    finally:
        for kind, number in made:
            subprocess.run(["ipcrm", f"-{kind}", number], check=True)


def test_ipc(engine):
    """System V objects by id and list, POSIX ones by name: of the machine, of a neighbour."""
    mine = Path(f"/dev/shm/mdocker-test-{os.getpid()}")
    mine.write_text("mine")
    other = engine.run("sh", "-c", "ipcmk -M 8192 && touch /dev/shm/theirs && exec sleep 1000000")
    reach = f"test -e {mine} && echo file; "
    count = "ipcs -m | grep -c 0x; ls /dev/shm | grep -c theirs; "
    try:
        with system_v() as objects:
            for kind, number in objects:
                reach += f"ipcs -{kind} -i {number} 2>&1 | grep -q 'not found' || echo {kind}; "
            assert told_by(engine, reach + count + "true") == ["0", "0"]
            found = told_by(engine, reach + "true", IpcMode="host")
            assert found == ["file", "m", "s", "q"]
    finally:
        mine.unlink()
        engine.delete(f"/containers/{other}?force=1")


def test_uts(engine, neighbour):
    """It renames its machine: nobody else's name changes."""
    name = socket.gethostname()
    assert told_by(engine, "hostname robber; hostname") == ["robber"]
    assert socket.gethostname() == name
    pid = engine.inspect(neighbour)["State"]["Pid"]
    seen = subprocess.run(
        ["nsenter", f"--uts=/proc/{pid}/ns/uts", "hostname"], capture_output=True, text=True
    )
    assert seen.stdout == f"{neighbour[:12]}\n"
    # The machine's can be reached for, with the capability alone: set to what it is.
    assert told_by(engine, "hostname $(hostname) && hostname", UTSMode="host") == [name]
    weak = {"UTSMode": "host", "CapAdd": None}
    assert told_by(engine, "hostname $(hostname) 2>/dev/null || echo no", **weak) == ["no"]


def test_cgroup(engine, neighbour):
    """It mounts the tree of cgroups itself: its own is the root, unless it is the machine's."""
    reach = (
        "mkdir /c; mount -t cgroup2 none /c; grep ^0 /proc/self/cgroup; "
        f"find /c /sys/fs/cgroup -name {neighbour} | grep -c .; "
        "find /c /sys/fs/cgroup -name 'mdocker-*' | grep -c .; "
        "echo 1 2>/dev/null > /sys/fs/cgroup/cgroup.procs && echo written; true"
    )
    assert told_by(engine, reach) == ["0::/", "0", "0"]
    own, neighbours, parents, *rest = told_by(engine, reach, CgroupnsMode="host")
    assert own.startswith("0::/mdocker-")
    assert (int(neighbours) > 0, int(parents) > 0, rest) == (True, True, [])
