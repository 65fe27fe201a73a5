"""Payloads that use up what all share: processes, descriptors, inodes, pipes; signals to others."""

from __future__ import annotations

import shutil
import signal

import pytest

from tests.real.escapes.payloads import begun

PROGRAM = shutil.which("python3", path="/usr/bin")


@pytest.fixture
def answering(engine):
    """While the payload does its worst, and after: another container runs, logs and ends."""

    def check():
        assert engine.result("sh", "-c", "echo | cat; echo fine") == (0, "\nfine\n", "")

    yield check
    for container in engine.get("/containers/json?all=1").json:
        engine.delete(f"/containers/{container['Id']}?force=1")


def test_a_fork_bomb_stays_within_its_limit(engine, answering):
    """Without the limit it would have the machine's; then the test would not end."""
    bomb = "b() { b | b & b; }; (b) 2>/dev/null & exec sleep 1000"
    count = (
        "i=0; while [ $i -lt 500 ]; do sleep 1000 & i=$((i+1)); done 2>/dev/null; echo all; wait"
    )
    limited = {"HostConfig": {"PidsLimit": 64}}
    # Unlimited, the same payload gets its 500.
    free = begun(engine, count, "all")
    assert len(engine.get(f"/containers/{free}/top").json["Processes"]) > 500
    assert engine.delete(f"/containers/{free}?force=1").status == 204
    container = engine.run("sh", "-c", bomb, **limited)
    answering()
    assert 0 < len(engine.get(f"/containers/{container}/top").json["Processes"]) <= 64
    answering()
    assert engine.delete(f"/containers/{container}?force=1").status == 204
    answering()


EAT = r"""
import os, resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
taken, kind = [], sys.argv[1]
def one():
    if kind == "files":
        taken.append(os.open("/dev/null", os.O_RDONLY))
    elif kind == "pipes":
        import fcntl
        taken.extend(os.pipe())
        fcntl.fcntl(taken[-1], 1031, 1 << 20)
        os.write(taken[-1], b"x" * (1 << 16))
    elif kind == "sockets":
        taken.extend(socket.socketpair())
    elif kind == "terminals":
        taken.append(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))
    elif kind == "inotify":
        import ctypes
        fd = ctypes.CDLL(None).inotify_init1(0)
        if fd < 0:
            raise OSError
        taken.append(fd)
try:
    while len(taken) < 30000:
        one()
except OSError as error:
    sys.stderr.write(f"{error}\n")
taken.pop()
os.write(1, b"up %d\n" % len(taken))
import time
time.sleep(1000)
"""


@pytest.mark.skipif(PROGRAM is None, reason="needs /usr/bin/python3 in the image host")
def test_descriptors_pipes_sockets_terminals_and_watches_of_a_payload_are_its_own(
    engine, answering
):
    """All that the kernel gives it at once, each kind by a container: the engine does not mind."""
    for kind in ("files", "pipes", "sockets", "terminals", "inotify"):
        command = f"exec {PROGRAM} -c '{EAT}' {kind}"
        # As it is the machine's root that pays for pipes, an upper bound for the test's own sake.
        limits = {"Ulimits": [{"Name": "nofile", "Soft": 2000, "Hard": 2000}]}
        begun(engine, command, HostConfig=limits if kind == "pipes" else {})
    answering()
    container = engine.create("sh", "-c", "tty", Tty=True)
    assert engine.post(f"/containers/{container}/start").status == 204
    assert engine.wait(container) == 0


def test_files_of_a_tmpfs_are_counted(engine, answering):
    """Inodes are memory: a tmpfs of a payload's has as many as were asked for."""
    script = "cd /t; i=0; while touch $i 2>/dev/null; do i=$((i+1)); done; echo up $i; sleep 1000"
    tmpfs = {"HostConfig": {"Tmpfs": {"/t": "nr_inodes=200,size=1m"}}}
    container = begun(engine, script, **tmpfs)
    assert engine.output(container)[0] == b"up 199\n"
    answering()


def test_signals_reach_nobody_outside(engine, answering):
    """Every number that there could be, as root, and all at once."""
    neighbour = begun(engine, "trap 'echo hit' TERM USR1 HUP; echo up; while sleep 0.1; do :; done")
    script = """
        for signal in TERM KILL HUP USR1; do
            kill -$signal -1; i=2; while [ $i -lt 3000 ]; do kill -$signal $i; i=$((i+1)); done
        done 2>/dev/null
        trap '' TERM HUP USR1; for pid in $@; do kill -0 $pid && echo reached $pid; done 2>&1; true
    """
    targets = (engine.process.pid, engine.shim_pid, engine.inspect(neighbour)["State"]["Pid"])
    code, out, _ = engine.result("sh", "-c", f"trap '' TERM HUP USR1; {script}", "sh",
                                 *map(str, targets))  # fmt: skip
    assert (code, "reached" in out) == (0, False)
    answering()
    assert engine.inspect(neighbour)["State"]["Running"]
    assert engine.output(neighbour)[0] == b"up\n"
    # In the machine's pid namespace it would reach them, as it is asked to.
    code, out, _ = engine.result("sh", "-c", "kill -0 $1 && echo reached", "sh",
                                 str(targets[0]), HostConfig={"PidMode": "host"})  # fmt: skip
    assert (code, out) == (0, "reached\n")


def test_the_first_process_can_not_be_ended_from_inside_by_sigkill(engine, answering):
    container = begun(
        engine, "echo up; kill -9 1; kill -9 -1; kill -STOP 1; echo alive; sleep 1000", "alive"
    )
    assert engine.inspect(container)["State"]["Running"]


def test_containers_that_refuse_to_end_are_ended(engine, answering):
    """Stopped processes, ignored signals, sessions of their own."""
    scripts = (
        "trap '' TERM; echo up; while :; do sleep 1000; done",
        "(setsid sleep 1000 &) ; kill -STOP $$; echo up; sleep 1000",
        "sh -c 'kill -STOP $$' & echo up; sleep 1000",
    )
    for container in [begun(engine, script) for script in scripts]:
        assert engine.post(f"/containers/{container}/stop?t=0").status == 204
        assert engine.inspect(container)["State"]["ExitCode"] == 128 + signal.SIGKILL
    answering()
