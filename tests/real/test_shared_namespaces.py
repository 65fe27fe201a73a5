"""Namespaces that containers share with one another and with the machine."""

import contextlib
import operator
import os
import select
import signal
import socket
from pathlib import Path

import pytest

from runtime.kernel import DOOR
from tests.real.engine_process import EngineProcess, cgroups_of
from tests.real.test_restart_policies import actions_until, policy

KINDS = ("net", "pid", "ipc", "uts", "mnt", "cgroup")


def namespaces(pid):
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in KINDS}


def shared(engine, one, other):
    """Which namespaces two containers, or one and this machine, have in common."""
    first, second = (
        namespaces(engine.inspect(c)["State"]["Pid"] if c else "self") for c in (one, other)
    )
    return {kind for kind in KINDS if first[kind] == second[kind]}


def of(container, *kinds):
    modes = {"net": "NetworkMode", "pid": "PidMode", "ipc": "IpcMode"}
    return {"HostConfig": {modes[kind]: f"container:{container}" for kind in kinds}}


@pytest.fixture
def made(engine):
    """Makes containers; all that there are go with the test."""
    yield engine
    for one in engine.get("/containers/json?all=1").json:
        engine.delete(f"/containers/{one['Id']}?force=1")


@contextlib.contextmanager
def watched(pid):
    """A pidfd; the test's own end of waiting for a process."""
    pidfd = os.pidfd_open(pid)
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def ended(pidfd):
    return bool(select.select([pidfd], [], [], 30)[0])


def test_all_that_another_has(made):
    engine = made
    donor = engine.run(
        *("sh", "-c", "echo mine > /dev/shm/file; echo 10.1.2.3 far >> /etc/hosts; sleep 1000"),
        name="donor",
        Hostname="tower",
        Domainname="land",
        HostConfig={"IpcMode": "shareable", "ShmSize": 1 << 20},
    )
    joiner = engine.run("sleep", "1000", **of("donor", "net", "pid", "ipc"))
    assert shared(engine, joiner, donor) == {"net", "pid", "ipc"}
    shown = engine.inspect(joiner)
    host = shown["HostConfig"]
    assert host["NetworkMode"] == host["PidMode"] == host["IpcMode"] == f"container:{donor}"
    assert shown["Config"]["Hostname"] == "tower"
    assert shown["HostsPath"] == engine.inspect(donor)["HostsPath"]
    assert shown["NetworkSettings"]["Networks"] == {}
    third = of(joiner, "net", "pid", "ipc")
    code, out, err = engine.result(
        *("sh", "-c", "hostname; cat /etc/hostname /dev/shm/file; tail -1 /etc/hosts; ps -eo args"),
        **third,
    )
    assert (code, err) == (0, "")
    assert out.splitlines()[:4] == ["tower", "tower", "mine", "10.1.2.3 far"]
    assert [line for line in out.splitlines() if line == "sleep 1000"] == ["sleep 1000"] * 2
    code, out, _ = engine.result("sh", "-c", "echo $HOSTNAME; ls /proc/self/fd", **third)
    assert out.split() == ["tower", "0", "1", "2", "3"], "a descriptor was left to it"
    assert code == 0
    # What is asked for later is the same.
    engine.post("/containers/donor/rename?name=giver")
    assert engine.post(f"/containers/{joiner}/restart?t=0").status == 204
    assert shared(engine, joiner, donor) == {"net", "pid", "ipc"}


def test_loopback_is_the_other_s(made):
    engine = made
    donor = engine.run("sleep", "1000")
    pid = engine.inspect(donor)["State"]["Pid"]
    listening = engine.run(
        *("perl", "-MIO::Socket::INET", "-e"),
        "$s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die $!;"
        "$| = 1; print $s->sockport, qq(\\n); $c = $s->accept; print $c q(hello)",
        **of(donor, "net"),
    )
    with engine.stream("GET", f"/containers/{listening}/logs?stdout=1&follow=1") as logs:
        frame = logs.read(8)
        port = int(logs.read(int.from_bytes(frame[4:], "big")))
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    theirs = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    DOOR.setns(theirs, 0)
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            assert connection.recv(9) == b"hello"
    finally:
        DOOR.setns(home, 0)
        os.close(home)
        os.close(theirs)


def test_the_machine_s(made):
    engine = made
    modes = {"NetworkMode": "host", "PidMode": "host", "IpcMode": "host", "UTSMode": "host"}
    container = engine.run("sleep", "1000", HostConfig=modes)
    assert shared(engine, container, None) == {"net", "pid", "ipc", "uts"}
    shown = engine.inspect(container)["HostConfig"]
    assert {name: shown[name] for name in modes} == modes
    pid = engine.inspect(container)["State"]["Pid"]
    inside, outside = os.stat(f"/proc/{pid}/root/dev/shm"), os.stat("/dev/shm")
    assert inside.st_dev == outside.st_dev
    code, out, _ = engine.result(
        "sh", "-c", "hostname; echo $$; cat /etc/hostname", HostConfig=modes
    )
    name, number, written = out.split()
    assert (code, name, written) == (0, socket.gethostname(), socket.gethostname())
    assert int(number) > 1
    with watched(pid) as pidfd:
        # No first process of a pid namespace: an unhandled signal ends it.
        assert engine.post(f"/containers/{container}/kill?signal=TERM").status == 204
        assert ended(pidfd)
    assert engine.wait(container) == 143


def test_no_shared_memory_at_all(made):
    engine = made
    code, out, _ = engine.result("sh", "-c", "ls /dev", HostConfig={"IpcMode": "none"})
    assert code == 0
    assert "shm" not in out.split()
    assert {"mqueue", "null"} <= set(out.split())


def is_dead(pid):
    """It is gone, or a zombie: of this machine's PID 1, once the engine is nobody's ancestor."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def is_orphan_of(engine, pid):
    """It is a child of the engine's that nobody has buried."""
    try:
        return f"\nPPid:\t{engine.process.pid}\n" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


TREE = "setsid sh -c 'sleep 1000 & sleep 1001' & (setsid sleep 1002 &) ; sleep 1003 & echo up; {}"


def tree_of(engine, container):
    """Everything that it runs, once it has said that all is there."""
    with engine.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1") as logs:
        assert logs.read(11).endswith(b"up\n")
    found = engine.get(f"/containers/{container}/top?ps_args=-o%20pid,comm").json["Processes"]
    return [int(pid) for pid, _ in found]


@pytest.mark.parametrize("end", ["exits", "stop", "kill", "remove"])
def test_its_end_in_the_machine_s_is_that_of_all(made, end):
    """No kernel kills what it has left behind: the engine does, and buries it."""
    engine = made
    last = "until [ -e /tmp/go ]; do sleep 0.01; done" if end == "exits" else "exec sleep 1004"
    container = engine.run("sh", "-c", TREE.format(last), HostConfig={"PidMode": "host"})
    pids = tree_of(engine, container)
    assert len(pids) >= 4
    with contextlib.ExitStack() as stack:
        pidfds = [
            stack.enter_context(watched(pid)) for pid in pids if Path(f"/proc/{pid}").exists()
        ]
        if end == "exits":
            Path(f"/proc/{engine.inspect(container)['State']['Pid']}/root/tmp/go").touch()
        elif end == "remove":
            assert engine.delete(f"/containers/{container}?force=1").status == 204
        else:
            assert engine.post(f"/containers/{container}/{end}").status == 204
        if end != "remove":
            assert engine.wait(container) == {"exits": 0, "stop": 143, "kill": 137}[end]
        # Told only when nothing is left.
        assert all(select.select([pidfd], [], [], 0)[0] for pidfd in pidfds)
        assert [pid for pid in pids if is_orphan_of(engine, pid)] == []
    assert cgroups_of(container) == []


def test_orphans_in_the_machine_s_come_to_the_container_s_first(made):
    engine = made
    container = engine.run(
        *("sh", "-c", "(setsid sleep 1000 &); echo up; exec sleep 1001"),
        HostConfig={"PidMode": "host"},
    )
    first = engine.inspect(container)["State"]["Pid"]
    orphans = [pid for pid in tree_of(engine, container) if pid != first]
    for pid in orphans:
        assert f"\nPPid:\t{first}\n" in Path(f"/proc/{pid}/status").read_text()


def test_whoever_lends_its_pids_takes_all_along(made):
    engine = made
    donor = engine.run("sleep", "1000")
    joiner = engine.run("sh", "-c", "trap '' TERM; sleep 1000 & wait; wait", **of(donor, "pid"))
    frozen = engine.run("sleep", "1000", **of(donor, "pid"))
    assert engine.post(f"/containers/{frozen}/pause").status == 204
    assert engine.post(f"/containers/{donor}/kill").status == 204
    assert engine.wait(donor) == 137
    for one in (joiner, frozen):
        assert engine.wait(one) == 137
        state = engine.inspect(one)["State"]
        assert (state["Status"], state["ExitCode"], state["Error"]) == ("exited", 137, "")
        assert cgroups_of(one) == []


def test_whoever_lends_its_network_may_go(made):
    engine = made
    donor = engine.run("sleep", "1000", HostConfig={"IpcMode": "shareable"})
    joiner = engine.run("sleep", "1000", **of(donor, "net", "ipc"))
    before = namespaces(engine.inspect(joiner)["State"]["Pid"])
    assert engine.delete(f"/containers/{donor}?force=1").status == 204
    assert namespaces(engine.inspect(joiner)["State"]["Pid"]) == before
    code, out, _ = engine.result("hostname", **of(joiner, "net", "ipc"))
    assert (code, out.strip()) == (0, donor[:12])
    assert engine.post(f"/containers/{joiner}/stop?t=0").status == 204
    gone = engine.post(f"/containers/{joiner}/start")
    assert (gone.status, gone.message) == (404, f"No such container: {donor}")


def test_who_can_t_be_joined(made):
    engine = made
    created = engine.create("sleep", "1000")
    private = engine.run("sleep", "1000")
    for kind, words in (
        ("net", f"cannot join network of a non running container: {created}"),
        (
            "pid",
            f"can't join PID namespace of container {created}: container {created} is not running",
        ),
        ("ipc", f"can't join IPC of container {created}: container {created} is not running"),
    ):
        joiner = engine.create("true", **of(created, kind))
        refused = engine.post(f"/containers/{joiner}/start")
        assert (refused.status, refused.message) == (409, words)
        assert engine.inspect(joiner)["State"]["Error"] == words
        assert cgroups_of(joiner) == []
    joiner = engine.create("true", **of(private, "ipc"))
    refused = engine.post(f"/containers/{joiner}/start")
    assert refused.status == 400
    assert refused.message == (
        f"can't join IPC of container {private}: non-shareable IPC "
        "(hint: use IpcMode:shareable for the donor container)"
    )
    looping = engine.run("false", HostConfig=policy(delay=60_000))
    actions_until(engine, looping, "die")
    joiner = engine.create("true", **of(looping, "net"))
    refused = engine.post(f"/containers/{joiner}/start")
    assert refused.status == 409
    assert refused.message.endswith("is restarting, wait until the container is running")
    # One that removes itself is gone after a start that fails.
    with_rm = of(created, "net")
    with_rm["HostConfig"]["AutoRemove"] = True
    joiner = engine.create("true", **with_rm)
    assert engine.post(f"/containers/{joiner}/start").status == 409
    assert engine.get(f"/containers/{joiner}/json").status == 404


@pytest.mark.parametrize("kind", ["net", "pid", "ipc"])
def test_one_that_has_just_ended_does_not_run_though_its_end_is_not_on_record(made, kind):
    engine = made
    donor = engine.run("sleep", "1000", HostConfig={"IpcMode": "shareable"})
    pid = engine.inspect(donor)["State"]["Pid"]
    joiner = engine.create("true", **of(donor, kind))
    # Its end waits for this one's.
    held = os.open(f"/proc/{pid}/fd/1", os.O_WRONLY)
    try:
        with watched(pid) as pidfd:
            os.kill(pid, signal.SIGKILL)
            assert ended(pidfd)
        refused = engine.post(f"/containers/{joiner}/start")
    finally:
        os.close(held)
    assert (refused.status, "running" in refused.message) == (409, True), refused
    assert donor in refused.message


def test_a_policy_waits_for_the_one_whose_pids_it_has(made):
    engine = made
    donor = engine.run("sleep", "1000")
    options = of(donor, "pid", "net")
    options["HostConfig"] |= policy(delay=1, longest=20)
    joiner = engine.run("sleep", "1000", **options)
    assert engine.post(f"/containers/{donor}/kill").status == 204
    actions_until(engine, joiner, "die")
    assert engine.post(f"/containers/{donor}/start").status == 204
    actions_until(engine, joiner, "start", 2)
    assert shared(engine, joiner, donor) == {"pid", "net"}


def test_commands_in_one_that_shares(made):
    engine = made
    donor = engine.run("sleep", "1000", Hostname="tower", HostConfig={"IpcMode": "shareable"})
    for options in (of(donor, "net", "pid", "ipc"), {"HostConfig": {"PidMode": "host"}}):
        joiner = engine.run("sleep", "1001", **options)
        process = engine.spawn(
            "exec", joiner, "sh", "-c", "readlink /proc/self/ns/* | sort; echo $HOSTNAME"
        )
        out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
        found = namespaces(engine.inspect(joiner)["State"]["Pid"])
        assert set(found.values()) <= set(out.split())
        assert out.split()[-1] == (
            "tower" if "NetworkMode" in options["HostConfig"] else joiner[:12]
        )


def test_what_a_command_leaves_behind_in_the_machine_s(made):
    """It becomes the engine's child, and is no zombie for ever when it has ended."""
    engine = made
    container = engine.run("sleep", "1000", HostConfig={"PidMode": "host"})
    process = engine.spawn("exec", container, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
    pid = int(process.communicate(timeout=30)[0])
    with watched(pid) as pidfd:
        assert not is_dead(pid)
        os.kill(pid, signal.SIGKILL)
        assert ended(pidfd)
    process = engine.spawn("exec", container, "true")
    assert process.communicate(timeout=30) == ("", "")
    assert not is_orphan_of(engine, pid)


@pytest.mark.parametrize("who", ["supervisor", "shim"])
def test_after_a_death(tmp_path, who):
    """It is joined, and ended with all of its own, by whoever is there."""
    engine = EngineProcess(tmp_path / "engine").start()
    try:
        donor = engine.run("sleep", "1000", HostConfig={"IpcMode": "shareable"})
        joiner = engine.run("sleep", "1000", **of(donor, "pid"))
        hosts = engine.run(
            "sh", "-c", TREE.format("exec sleep 1004"), HostConfig={"PidMode": "host"}
        )
        pids = tree_of(engine, hosts)
        if who == "supervisor":
            engine.kill()
            engine.start()
        else:
            shim = engine.shim_pid
            with watched(shim) as pidfd:
                os.kill(shim, signal.SIGKILL)
                assert ended(pidfd)
        later = engine.run("sleep", "1000", **of(donor, "pid", "net", "ipc"))
        assert shared(engine, later, donor) == {"net", "pid", "ipc"}
        assert engine.post(f"/containers/{hosts}/kill").status == 204
        assert engine.wait(hosts) == 137
        assert [pid for pid in pids if not is_dead(pid)] == []
        assert engine.post(f"/containers/{donor}/kill").status == 204
        assert [engine.wait(one) for one in (donor, joiner, later)] == [137, 137, 137]
    finally:
        engine.close()


def test_nothing_is_kept_of_them(made):
    engine = made
    donor = engine.run("sleep", "1000", HostConfig={"IpcMode": "shareable"})

    def each_kind():
        for options in (
            of(donor, "net"),
            of(donor, "net", "pid", "ipc"),
            {"HostConfig": {"PidMode": "host", "IpcMode": "host"}},
        ):
            assert engine.result("true", **options)[0] == 0
            assert engine.result("sleep", "0", **options)[0] == 0
        joiner = engine.create("/nosuch", **of(donor, "net"))
        assert engine.post(f"/containers/{joiner}/start").status == 400
        assert engine.delete(f"/containers/{joiner}").status == 204

    each_kind()
    before = engine.descriptors()
    each_kind()
    # A connection is closed once the engine comes to that.
    while any(map(operator.gt, engine.descriptors(), before)):
        assert engine.get("/_ping").status == 200


def test_the_command_line(made):
    engine = made
    donor = engine.run("sleep", "1000", name="giver", HostConfig={"IpcMode": "shareable"})
    words = ("--network", "container:giver", "--pid", "container:giver", "--ipc", "container:giver")
    process = engine.spawn("run", "--rm", *words, "host", "hostname")
    assert process.communicate(timeout=30) == (donor[:12] + "\n", "")
    process = engine.spawn("run", "--rm", "--hostname", "x", *words, "host", "hostname")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (125, "")
    assert "conflicting options: hostname and the network mode" in err
    process = engine.spawn("create", "--uts", "host", "--pid", "host", "host", "true")
    out, _ = process.communicate(timeout=30)
    shown = engine.inspect(out.strip())["HostConfig"]
    assert (shown["UTSMode"], shown["PidMode"]) == ("host", "host")
    assert "Init" not in shown


def test_several_that_are_started_at_once_wait_for_those_that_they_join(made):
    engine = made
    donor = engine.create("sleep", "1000", name="giver")
    middle = engine.create("sleep", "1000", name="middle", **of(donor, "net"))
    engine.create("sleep", "1000", name="last", **of(middle, "net", "pid"))
    process = engine.spawn("start", "last", "middle", "giver")
    assert process.communicate(timeout=30) == ("last\nmiddle\ngiver\n", "")
    assert engine.post(f"/containers/{donor}/stop?t=0").status == 204
    assert engine.post(f"/containers/{middle}/stop?t=0").status == 204
    process = engine.spawn("start", "middle")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    assert err == f"mdocker: cannot join network of a non running container: {donor}\n"
