"""Commands in running containers: streams, terminals, ends, refusals, and clients that leave."""

import contextlib
import json
import operator
import os
import re
import select
import signal
import socket
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.real.engine_process import EngineProcess, cgroups_of
from tests.real.exec_client import attached, created, inspected, run, shell

FOREVER = ("sleep", "1000")


@pytest.fixture(scope="module")
def bird(engine):
    container = engine.run(*FOREVER, name="exec-bird", Env=["A=image", "B=kept", "GONE=1"])
    yield container
    assert engine.delete(f"/containers/{container}?force=1").status == 204


@contextlib.contextmanager
def another(engine, *command, **options):
    container = engine.run(*(command or FOREVER), **options)
    try:
        yield container
    finally:
        engine.delete(f"/containers/{container}?force=1")


def told(engine, container, exec_id):
    """What happened to an exec."""
    filters = quote(json.dumps({"container": [container]}))
    found = []
    with engine.stream("GET", f"/events?since=1&filters={filters}") as lines:
        for line in lines:
            event = json.loads(line)
            attributes = event["Actor"]["Attributes"]
            if attributes.get("execID") == exec_id:
                found.append((event["Action"], attributes.get("exitCode")))
                if event["Action"] == "exec_die":
                    return found
    raise AssertionError("the stream of events has ended")


def below(container):
    """The cgroups below its own."""
    return {
        path.name
        for top in cgroups_of(container)
        for path in Path(top).iterdir()
        if path.is_dir() and path.name.startswith("exec-")
    }


def pid_of(container, name):
    """The process of a container that runs a program of this name, by its pid on the host."""
    for top in cgroups_of(container):
        for procs in Path(top).rglob("cgroup.procs"):
            for pid in procs.read_text().split():
                if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                    return int(pid)
    return None


def ends(pidfd):
    """Wait for the end of a process."""
    with contextlib.closing(os.fdopen(pidfd)) as descriptor:
        assert select.select([descriptor], [], [], 20)[0]


def test_its_streams_are_apart_and_its_end_is_told(engine, bird):
    exec_id = created(engine, bird, "sh", "-c", "echo out; echo err >&2; exit 7")
    before = inspected(engine, exec_id)
    assert (before["Running"], before["ExitCode"], before["Pid"]) == (False, None, 0)
    assert exec_id in engine.inspect(bird)["ExecIDs"]
    with attached(engine, exec_id, Tty=False) as client:
        assert client.head.splitlines()[0] == "HTTP/1.1 101 UPGRADED"
        assert "application/vnd.docker.multiplexed-stream" in client.head
        assert client.streams() == (b"out\n", b"err\n")
    after = inspected(engine, exec_id)
    pid = after.pop("Pid")
    assert pid > 1
    assert after == {
        "ID": exec_id,
        "Running": False,
        "ExitCode": 7,
        "ProcessConfig": {
            "tty": False,
            "entrypoint": "sh",
            "arguments": ["-c", "echo out; echo err >&2; exit 7"],
            "privileged": False,
            "user": "",
        },
        "OpenStdin": False,
        "OpenStderr": True,
        "OpenStdout": True,
        "CanRemove": True,
        "ContainerID": bird,
        "DetachKeys": "",
    }
    assert exec_id not in (engine.inspect(bird)["ExecIDs"] or [])
    assert told(engine, bird, exec_id) == [
        ("exec_create: sh -c echo out; echo err >&2; exit 7", None),
        ("exec_start: sh -c echo out; echo err >&2; exit 7", None),
        ("exec_die", "7"),
    ]


def test_without_an_upgrade_and_with_streams_that_nobody_wants(engine, bird):
    exec_id = created(engine, bird, "sh", "-c", "echo out; echo err >&2", AttachStderr=False)
    with attached(engine, exec_id, upgrade=False) as client:
        assert client.head.startswith("HTTP/1.1 200 OK\r\n")
        assert client.streams() == (b"out\n", b"")
    line = "test /proc/$$/fd/1 -ef /dev/null && echo null >&2; echo unseen"
    exec_id = created(engine, bird, "sh", "-c", line, AttachStdout=False)
    with attached(engine, exec_id) as client:
        assert client.streams() == (b"", b"null\n")


def test_what_it_reads_and_writes_is_the_same_to_the_byte(engine, bird):
    data = os.urandom(256 * 1024) * 8
    exec_id = created(engine, bird, "cat", AttachStdin=True)
    with attached(engine, exec_id) as client:
        pid = os.fork()
        if pid == 0:
            client.send(data)
            client.type_no_more()
            os._exit(0)
        out, err = client.streams()
        os.waitpid(pid, 0)
    assert (out == data, err) == (True, b"")
    assert inspected(engine, exec_id)["ExitCode"] == 0


def test_environment_user_and_directory_are_as_in_docker(engine, bird):
    line = "echo $A $B $C-$GONE $HOME $PATH; echo $HOSTNAME ${TERM-none}; pwd; id -u; id -g; id -G"
    seen = shell(
        engine, bird, line, Env=["A=asked", "C=new", "GONE"], User="daemon", WorkingDir="/tmp"
    ).splitlines()
    home, uid, gid = re.search(
        r"^daemon:[^:]*:(\d+):(\d+):[^:]*:([^:]*)", Path("/etc/passwd").read_text(), re.M
    ).group(3, 1, 2)
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert seen[0] == f"asked kept new- {home} {path}"
    assert seen[1:] == [f"{bird[:12]} none", "/tmp", uid, gid, gid]
    assert shell(engine, bird, "id -u; id -G; echo $HOME", User="4711:33") == "4711\n33\n/\n"


def test_a_detached_one_of_another_user_has_the_containers_null_device(engine, bird):
    line = "readlink /proc/$$/fd/1 /proc/$$/fd/2 > /tmp/seen; id -u >> /tmp/seen"
    before = os.stat("/dev/null")
    exec_id = created(engine, bird, "sh", "-c", line, User="4712")
    assert engine.post(f"/exec/{exec_id}/start", {"Detach": True}).status == 200
    assert told(engine, bird, exec_id)[-1] == ("exec_die", "0")
    assert shell(engine, bird, "cat /tmp/seen").split()[-1] == "4712"
    after = os.stat("/dev/null")
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)


def test_privileged_has_all_capabilities_and_others_the_payloads(engine, bird):
    line = "grep -E '^Cap(Prm|Eff|Bnd)' /proc/self/status"
    assert shell(engine, bird, line) == shell(engine, bird, line.replace("self", "1"))
    mine = re.search(r"CapPrm:\t(\w+)", Path("/proc/self/status").read_text())[1]
    assert set(re.findall(r"\t(\w+)", shell(engine, bird, line, Privileged=True))) == {mine}


def test_a_terminal_has_its_size_and_is_told_of_another(engine, bird):
    line = (
        "trap 'stty size; exit 5' WINCH; stty size; echo $TERM; tty; echo ready;"
        "while :; do sleep 0.05; done"
    )
    exec_id = created(engine, bird, "sh", "-c", line, Tty=True, ConsoleSize=[20, 80])
    with attached(engine, exec_id, Tty=True, ConsoleSize=[24, 90]) as client:
        assert "application/vnd.docker.raw-stream" in client.head
        first = client.until(b"ready\r\n")
        assert re.fullmatch(rb"24 90\r\nxterm\r\n/dev/pts/\d+\r\nready\r\n", first)
        assert engine.post(f"/exec/{exec_id}/resize?h=31&w=99").status == 200
        assert client.everything().endswith(b"31 99\r\n")
    assert inspected(engine, exec_id)["ExitCode"] == 5
    late = engine.post(f"/exec/{exec_id}/resize?h=1&w=1")
    assert (late.status, late.message) == (409, f"exec {exec_id} is not running")
    plain = created(engine, bird, "true")
    assert engine.post(f"/exec/{plain}/resize?h=1&w=1").status == 200
    assert engine.post(f"/exec/{plain}/resize?h=1").status == 400


def test_keys_detach_and_what_was_left_goes_on(engine, bird):
    line = "read word; echo got $word; sleep 1000"
    exec_id = created(
        engine, bird, "sh", "-c", line, Tty=True, AttachStdin=True, DetachKeys="ctrl-a,d"
    )
    with attached(engine, exec_id, Tty=True) as client:
        client.send(b"wo\x01rd\r")
        assert b"got wo\x01rd" in client.until(b"rd\r\ngot wo\x01rd\r\n")
        client.send(b"\x01d")
        assert client.everything() == b""
    seen = inspected(engine, exec_id)
    assert seen["Running"]
    assert seen["DetachKeys"] == "ctrl-a,d"
    pidfd = os.pidfd_open(seen["Pid"])
    # Its shell ignores nothing: it can be ended like any other.
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    ends(pidfd)
    assert told(engine, bird, exec_id)[-2:] == [("exec_detach", None), ("exec_die", "137")]


@pytest.mark.parametrize(
    ("command", "asked", "code", "words"),
    [
        ("nosuch", {}, 127, 'exec: "nosuch": executable file not found in $PATH'),
        ("/etc", {}, 126, 'exec: "/etc": is a directory'),
        ("/etc/passwd", {}, 126, "permission denied"),
        ("true", {"WorkingDir": "/nope"}, 127, "no such file or directory"),
        ("true", {"User": "nobody-here"}, 126, "unable to find user nobody-here"),
        ("true", {"User": "root:none-such"}, 126, "unable to find group none-such"),
        ("/" + "x" * 100_000, {}, 127, "file name too long"),
    ],
)
def test_what_can_not_be_executed_is_told_in_dockers_words(
    engine, bird, command, asked, code, words
):
    before = "OCI runtime exec failed: exec failed: unable to start container process: "
    exec_id = created(engine, bird, command, **asked)
    with attached(engine, exec_id) as client:
        out, err = client.streams()
    assert out.decode().startswith(before)
    assert words in out.decode()
    assert (out.endswith(b"\r\n"), err) == (True, b"")
    assert inspected(engine, exec_id)["ExitCode"] == code
    exec_id = created(engine, bird, command, **asked)
    refused = engine.post(f"/exec/{exec_id}/start", {"Detach": True})
    assert (refused.status, words in refused.message) == (400, True)
    exec_id = created(engine, bird, command, **asked)
    refused = engine.post(f"/exec/{exec_id}/start?refusing=1", {})
    assert (refused.status, words in refused.message) == (400, True)
    assert inspected(engine, exec_id)["ExitCode"] == code
    assert below(bird) == set()


def test_what_can_not_be_is_refused_by_its_name(engine, bird):
    def refusal(body, container=bird):
        answer = engine.post(f"/containers/{container}/exec", body)
        return answer.status, answer.message

    assert refusal({}) == (400, "No exec command specified")
    assert refusal({"Cmd": ["true"]}, "nosuch") == (404, "No such container: nosuch")
    assert refusal({"Cmd": ["true"], "DetachKeys": "ctrl-"})[0] == 400
    assert refusal({"Cmd": ["true"], "Env": ["=x"]})[0] == 400
    assert refusal({"Cmd": ["true"], "WorkingDir": "tmp"})[0] == 400
    assert refusal({"Cmd": ["true"], "Tty": True, "ConsoleSize": [1]})[0] == 400
    assert refusal({"Cmd": ["a\0b"]})[0] == 400
    assert refusal({"Cmd": ["true"], "Novelty": 1}) == (
        501,
        "mdocker does not support ExecConfig.Novelty 1 yet",
    )
    for path in ("start", "resize?h=1&w=1"):
        answer = engine.post(f"/exec/nosuch/{path}", {})
        assert (answer.status, answer.message) == (404, "No such exec instance: nosuch")
    assert engine.get("/exec/nosuch/json").status == 404


def test_it_is_started_once(engine, bird):
    exec_id = created(engine, bird, "cat", AttachStdin=True)
    with attached(engine, exec_id) as client:
        again = engine.post(f"/exec/{exec_id}/start", {})
        assert (again.status, again.message) == (
            409,
            f"Error: Exec command {exec_id} is already running",
        )
        client.type_no_more()
        client.everything()
    again = engine.post(f"/exec/{exec_id}/start", {"Detach": True})
    assert (again.status, again.message) == (
        409,
        f"Error: Exec command {exec_id} has already run",
    )


def test_only_what_runs_can_be_entered(engine):
    with another(engine) as container:
        exec_id = created(engine, container, "true")
        assert engine.post(f"/containers/{container}/pause").status == 204
        words = f"container {container} is paused, unpause the container before exec"
        for path, body in (
            (f"/containers/{container}/exec", {"Cmd": ["true"]}),
            (f"/exec/{exec_id}/start", {}),
        ):
            refused = engine.post(path, body)
            assert (refused.status, refused.message) == (409, words)
        assert engine.post(f"/containers/{container}/unpause").status == 204
        assert engine.post(f"/containers/{container}/kill").status == 204
        refused = engine.post(f"/containers/{container}/exec", {"Cmd": ["true"]})
        words = f"container {container} is not running"
        assert (refused.status, refused.message) == (409, words)
        assert engine.post(f"/exec/{exec_id}/start", {}).status == 404
    assert engine.get(f"/exec/{exec_id}/json").status == 404  # its container is gone


def test_a_client_that_vanishes_leaves_it_running(engine, bird):
    line = "cat; head -c 1000000 /dev/zero; exit 3"
    exec_id = created(engine, bird, "sh", "-c", line, AttachStdin=True)
    with attached(engine, exec_id) as client:
        client.send(b"x")
        client.receive()
    # Its input has ended with the client, and its output is read to the end by nobody.
    assert told(engine, bird, exec_id)[-1] == ("exec_die", "3")


def test_a_client_that_does_not_read_makes_it_wait_and_costs_no_memory(engine, bird):
    def resident_kb():
        text = Path(f"/proc/{engine.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1])

    exec_id = created(engine, bird, "dd", "if=/dev/zero", "bs=64k", "count=800", "status=none")
    before = resident_kb()
    with attached(engine, exec_id, Tty=True) as client:  # raw, so that it is easily counted
        pid = inspected(engine, exec_id)["Pid"]
        stack = Path(f"/proc/{pid}/wchan")
        while "pipe" not in stack.read_text():
            assert inspected(engine, exec_id)["Running"]
        assert resident_kb() - before < 4096
        assert len(client.everything()) == 800 * 64 * 1024
    assert inspected(engine, exec_id)["ExitCode"] == 0


def test_what_it_leaves_behind_goes_on_and_its_cgroup_goes_later(engine):
    with another(engine) as container:
        shell(engine, container, "sleep 900 >/dev/null 2>&1 &")
        assert len(below(container)) == 1
        pid = pid_of(container, "sleep")
        while Path(f"/proc/{pid}/cmdline").read_bytes() != b"sleep\x00900\x00":
            pid = next(
                int(word)
                for top in cgroups_of(container)
                for procs in Path(top).glob("exec-*/cgroup.procs")
                for word in procs.read_text().split()
            )
        pidfd = os.pidfd_open(pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        ends(pidfd)
        shell(engine, container, "true")
        while below(container):  # it was answered before it was tidied up after
            assert engine.get("/_ping").status == 200


def test_one_that_was_not_started_is_for_one_run_of_its_container(engine):
    with another(engine) as container:
        waiting = created(engine, container, "true")
        assert engine.post(f"/containers/{container}/restart?t=0").status == 204
        for answer in (
            engine.post(f"/exec/{waiting}/start", {"Detach": True}),
            engine.get(f"/exec/{waiting}/json"),
        ):
            assert (answer.status, answer.message) == (404, f"No such exec instance: {waiting}")
        assert engine.inspect(container)["ExecIDs"] is None


def test_one_that_is_forgotten_while_its_start_arrives_is_not_started(engine):
    with another(engine) as container:
        waiting = created(engine, container, "true")
        body = b'{"Detach": true}'
        head = f"POST /v1.50/exec/{waiting}/start HTTP/1.1\r\nHost: d\r\n"
        head += "Content-Type: application/json\r\n"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(engine.socket))
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
            assert engine.post(f"/containers/{container}/restart?t=0").status == 204
            client.sendall(body)
            with client.makefile("rb") as answer:
                assert b" 404 " in answer.readline()


def test_it_ends_with_its_container(engine):
    with another(engine) as container:
        exec_id = created(engine, container, "sh", "-c", "echo up; sleep 1000 & wait")
        other = created(engine, container, *FOREVER)
        assert engine.post(f"/exec/{other}/start", {"Detach": True}).status == 200
        pidfd = os.pidfd_open(inspected(engine, other)["Pid"])
        with attached(engine, exec_id) as client:
            client.until(b"up\n")
            assert engine.post(f"/containers/{container}/kill").status == 204
            client.everything()
        ends(pidfd)
        assert inspected(engine, exec_id)["ExitCode"] == 137
        assert engine.wait(container) == 137
    assert cgroups_of(container) == []


def test_many_in_a_row_leave_no_descriptor_and_no_cgroup(engine, bird):
    run(engine, bird, "true")
    before = engine.descriptors()
    for _ in range(60):
        assert run(engine, bird, "true", AttachStdin=True) == (0, "", "")
    # It sees our hanging up when it comes to that, and may not have seen that of the first one yet.
    while below(bird) or any(map(operator.gt, engine.descriptors(), before)):
        assert engine.get("/_ping").status == 200


def test_a_detached_one_outlives_the_supervisor_and_an_attached_one_does_not(tmp_path):
    engine = EngineProcess(tmp_path).start()
    try:
        container = engine.run(*FOREVER)
        pids = []
        for asked in ({}, {"AttachStdin": True}):
            exec_id = created(engine, container, *FOREVER, **asked)
            if asked:
                with attached(engine, exec_id):
                    pids.append(inspected(engine, exec_id)["Pid"])
                    attached_end = os.pidfd_open(pids[-1])
                    engine.kill()
            else:
                assert engine.post(f"/exec/{exec_id}/start", {"Detach": True}).status == 200
                pids.append(inspected(engine, exec_id)["Pid"])
        ends(attached_end)
        engine.start()
        assert engine.get(f"/exec/{exec_id}/json").status == 404
        assert Path(f"/proc/{pids[0]}/cmdline").read_bytes() == b"sleep\x001000\x00"
        # And this one is ended by an orderly stop as little as by a kill.
        engine.terminate()
        assert Path(f"/proc/{pids[0]}/cmdline").read_bytes() == b"sleep\x001000\x00"
        pidfd = os.pidfd_open(pids[0])
        engine.start()
        assert engine.post(f"/containers/{container}/kill").status == 204
        ends(pidfd)
    finally:
        engine.close()


def test_a_detached_one_whose_shim_dies_under_another_version_is_buried(tmp_path):
    """While its zombie is there, its container can't end."""
    engine = EngineProcess(tmp_path, respawn=True).start()
    try:
        container = engine.run(*FOREVER)
        exec_id = created(engine, container, *FOREVER)
        assert engine.post(f"/exec/{exec_id}/start", {"Detach": True}).status == 200
        assert engine.post("/mdocker/upgrade").status in (200, 202, 204)
        while engine.get(f"/exec/{exec_id}/json").status != 404:
            pass
        pidfd = os.pidfd_open(engine.shim_pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        ends(pidfd)
        assert engine.post(f"/containers/{container}/kill").status == 204
        assert engine.wait(container) == 137
    finally:
        engine.close()
