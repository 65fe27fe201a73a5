"""`run` and `create`: what is asked of the engine, and what comes of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mdocker.errors import start_failure_code
from tests.unit.cli.fake_engine import frame

ID = "a1" * 32


@pytest.fixture
def container(engine):
    """An engine that creates and starts one container, which prints and exits with 7."""
    engine.json("POST", "/containers/create", {"Id": ID, "Warnings": []}, 201)
    engine.json("POST", f"/containers/{ID}/start", None, 204)
    started = threading.Event()
    engine.started = started
    engine.output = frame(1, b"out\n") + frame(2, b"err\n")
    engine.exit_code = 7

    def start(call):
        call.answer(204)
        started.set()

    def attach(call):
        call.upgrade()
        started.wait(5)
        call.wfile.write(engine.output)

    def wait(call):
        call.begin("application/json")
        started.wait(5)
        call.chunk(json.dumps({"StatusCode": engine.exit_code, "Error": None}).encode())
        call.finish_chunks()

    engine.on("POST", f"/containers/{ID}/start", start)
    engine.on("POST", f"/containers/{ID}/attach", attach)
    engine.on("POST", f"/containers/{ID}/wait", wait)
    return engine


def created(engine):
    (request,) = engine.seen("POST", "/containers/create")
    return request[2], json.loads(request[3])


def test_detached(container, mdocker):
    result = mdocker("run", "-d", "--name", "bird", "host", "sh", "-c", "x", "--name", "y")
    assert result == (0, ID + "\n", "")
    query, body = created(container)
    assert query == {"name": "bird"}
    assert body == {
        "Image": "host",
        "Cmd": ["sh", "-c", "x", "--name", "y"],
        "HostConfig": {"NetworkMode": "none"},
    }
    assert [path for _, path, _, _ in container.requests] == [
        "/containers/create",
        f"/containers/{ID}/start",
    ]
    assert container.connections == 1


def test_every_option_arrives(container, mdocker, tmp_path, monkeypatch):
    monkeypatch.setenv("FROM_HERE", "yes")
    variables = tmp_path / "env"
    variables.write_text("# comment\n\nFILE=1\n  SPACED= a b \nFROM_HERE\n")
    result = mdocker(
        *("create", "-eA=B", "-e", "FROM_HERE", "-e", "NOT_THERE", "--env-file", str(variables)),
        *(
            "-w",
            "/w",
            "-u",
            "me:us",
            "--group-add",
            "tty",
            "-l",
            "a=b",
            "--label",
            "c",
            "--hostname",
            "box",
        ),
        *("--domainname", "d", "--entrypoint", "e", "--net", "host", "-m512m"),
        *("--memory-swap", "-1", "--cpus", "1.5", "-c", "512", "--cpu-period", "100000"),
        *("--cpu-quota", "50000", "--pids-limit", "9", "--stop-signal", "INT"),
        *("--memory-swappiness", "0"),
        *("--stop-timeout", "3", "--log-driver", "k8s-file", "--log-opt", "a=b"),
        *("--pid", "host", "--ipc", "container:a", "--uts", "host", "--init"),
        *("--userns", "private", "--cgroupns", "host"),
        *("--add-host", "db:10.0.0.5", "--add-host", "six=[fe80::1]", "--dns", "1.1.1.1"),
        *("--dns-search", "wood", "--dns-option", "ndots:2", "--dns-opt", "rotate"),
        *("--security-opt", "no-new-privileges", "--shm-size", "1m", "--rm", "host", "cmd"),
    )
    assert result.code == 0, result
    assert created(container)[1] == {
        "Image": "host",
        "AttachStdout": True,
        "AttachStderr": True,
        "Cmd": ["cmd"],
        "Entrypoint": ["e"],
        "Env": ["FILE=1", "SPACED= a b ", "FROM_HERE=yes", "A=B", "FROM_HERE=yes", "NOT_THERE"],
        "WorkingDir": "/w",
        "User": "me:us",
        "Labels": {"a": "b", "c": ""},
        "Hostname": "box",
        "Domainname": "d",
        "StopSignal": "INT",
        "StopTimeout": 3,
        "HostConfig": {
            "NetworkMode": "host",
            "PidMode": "host",
            "IpcMode": "container:a",
            "UTSMode": "host",
            "CgroupnsMode": "host",
            "UsernsMode": "private",
            "Init": True,
            "ExtraHosts": ["db:10.0.0.5", "six:fe80::1"],
            "Dns": ["1.1.1.1"],
            "DnsSearch": ["wood"],
            "DnsOptions": ["ndots:2", "rotate"],
            "Memory": 512 << 20,
            "MemorySwap": -1,
            "NanoCpus": 1_500_000_000,
            "CpuShares": 512,
            "CpuPeriod": 100_000,
            "CpuQuota": 50_000,
            "PidsLimit": 9,
            "LogConfig": {"Type": "k8s-file", "Config": {"a": "b"}},
            "GroupAdd": ["tty"],
            "MemorySwappiness": 0,
            "SecurityOpt": ["no-new-privileges"],
            "ShmSize": 1 << 20,
            "AutoRemove": True,
        },
    }


def test_empty_entrypoint_takes_the_images_away(container, mdocker):
    mdocker("create", "--entrypoint", "", "host", "x")
    assert created(container)[1]["Entrypoint"] == [""]


def test_foreground(container, mdocker):
    result = mdocker("run", "host", "cmd")
    assert result == (7, "out\n", "err\n")
    assert created(container)[1]["AttachStdout"] is True
    paths = [path.rpartition("/")[2] for _, path, _, _ in container.requests]
    # Attached and waiting before it starts: no output and no early end is missed.
    assert paths == ["create", "attach", "wait", "start"]
    assert container.seen("POST", ".*/wait")[0][2] == {"condition": "next-exit"}
    assert container.seen("POST", ".*/attach")[0][2] == {
        "stream": "1",
        "stdout": "1",
        "stderr": "1",
        "places": "1",
    }


def test_foreground_with_rm_waits_for_the_removal(container, mdocker):
    assert mdocker("run", "--rm", "host", "cmd").code == 7
    assert container.seen("POST", ".*/wait")[0][2] == {"condition": "removed"}


def test_warnings_go_to_stderr(container, mdocker):
    container.json("POST", "/containers/create", {"Id": ID, "Warnings": ["no network"]}, 201)
    result = mdocker("run", "-d", "host")
    assert result == (0, ID + "\n", "WARNING: no network\n")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ('exec: "foo": executable file not found in $PATH: unknown', 127),
        ("stat /nope: no such file or directory", 127),
        ('exec: "/etc": permission denied: unknown', 126),
        ('exec: "/etc": is a directory', 126),
        ("unable to find user bob: no matching entries in passwd file", 125),
    ],
)
@pytest.mark.parametrize("detach", [(), ("-d",)])
def test_a_failed_start(container, mdocker, words, code, detach):
    container.refuse("POST", f"/containers/{ID}/start", 400, words)
    assert start_failure_code(words) == code
    result = mdocker("run", *detach, "host", "foo")
    assert result.code == code
    assert result.err == f"mdocker: {words}\n"
    assert ID not in result.out


def test_unknown_image(engine, mdocker):
    engine.refuse("POST", "/containers/create", 404, "No such image: nope:latest")
    for command in ("run", "create"):
        result = mdocker(command, "--pull", "never", "nope")
        assert result.code == 125
        assert result.err.startswith("mdocker: No such image: nope:latest (see 'mdocker images'")
        assert result.err.count("\n") == 1


def test_name_in_use(engine, mdocker):
    text = 'Conflict. The container name "/a" is already in use by container "1".'
    engine.refuse("POST", "/containers/create", 409, text)
    assert mdocker("run", "-d", "--name", "a", "host") == (125, "", f"mdocker: {text}\n")


@pytest.mark.parametrize(
    "words",
    [
        ("-p", "80:80"),
        ("--cpu-rt-period", "1000"),
    ],
)
def test_what_comes_later_is_refused_by_name(engine, mdocker, words):
    result = mdocker("run", *words, "host")
    assert result.code == 125
    assert "is not supported yet: " in result.err
    assert result.err.endswith("See 'mdocker run --help'.\n")
    assert not engine.requests


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("-m", "lots", "host"), 'invalid argument "lots" for "-m, --memory"'),
        (("--cpus", "many", "host"), 'invalid argument "many" for "--cpus"'),
        (("--env-file", "/nope", "host"), "unable to read /nope: No such file or directory"),
        (("--log-opt", "x", "host"), 'invalid argument "x" for "--log-opt": must be KEY=VALUE'),
        (("-e", "=x", "host"), "there is no name before"),
        (("--replicas", "3", "host"), "--replicas needs --detach"),
        (("-d", "--replicas", "0", "host"), 'invalid argument "0" for "--replicas"'),
        (("-d", "--replicas", "-1", "host"), 'invalid argument "-1" for "--replicas"'),
        (("-d", "--replicas", "many", "host"), "unable to convert"),
        (("--net", "host", "--net", "none", "host"), "one --network only"),
    ],
)
def test_bad_values(engine, mdocker, words, text):
    result = mdocker("run", *words)
    assert result.code == 125
    assert text in result.err
    assert result.err.count("\n") == 2
    assert not engine.requests


def test_a_bad_env_file(mdocker, tmp_path):
    path = tmp_path / "env"
    path.write_text("GOOD=1\nBAD NAME=2\n")
    assert 'line 2: "BAD NAME" is no name' in mdocker("run", "--env-file", str(path), "host").err
    path.write_bytes(b"A=\xff\n")
    assert "no UTF-8" in mdocker("run", "--env-file", str(path), "host").err


def test_cidfile(container, mdocker, tmp_path):
    path = tmp_path / "id"
    assert mdocker("create", "--cidfile", str(path), "host").code == 0
    assert path.read_text() == ID
    again = mdocker("create", "--cidfile", str(path), "host")
    assert again.code == 125
    assert "exists already" in again.err


def test_signals_are_handed_on(container, spawn):
    """SIGTERM and SIGINT reach the container, and its end decides the exit code."""
    attached = threading.Event()
    killed = threading.Event()
    names = []

    def attach(call):
        call.upgrade()
        container.started.wait(5)
        call.wfile.write(frame(1, b"ready\n"))
        call.wfile.flush()
        attached.set()
        killed.wait(5)

    def wait(call):
        call.begin("application/json")
        killed.wait(5)
        call.chunk(b'{"StatusCode":130}')
        call.finish_chunks()

    def kill(call):
        names.append(call.query["signal"])
        call.answer(204)
        if len(names) == 2:
            killed.set()

    container.on("POST", f"/containers/{ID}/attach", attach)
    container.on("POST", f"/containers/{ID}/wait", wait)
    container.on("POST", f"/containers/{ID}/kill", kill)
    process = spawn("run", "host", "cmd")
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert sorted(names) == ["SIGINT", "SIGTERM"]
    assert process.stderr.read() == b""


def test_a_closed_stdout_is_quiet(container, spawn):
    """Who reads our output goes away: no traceback, the code of a broken pipe."""
    let_go = threading.Event()

    def attach(call):
        call.upgrade()
        call.wfile.write(frame(1, b"first\n"))
        call.wfile.flush()
        let_go.wait(5)
        call.wfile.write(frame(1, b"second\n" * 10_000))

    container.on("POST", f"/containers/{ID}/attach", attach)
    process = spawn("run", "host", "cmd")
    assert process.stdout.readline() == b"first\n"
    process.stdout.close()
    assert process.wait(10) == 141
    let_go.set()
    assert process.stderr.read() == b""


def test_the_engine_dies_in_the_foreground(container, mdocker):
    def wait(call):
        call.begin("application/json")
        call.close_connection = True

    container.on("POST", f"/containers/{ID}/wait", wait)
    result = mdocker("run", "host", "cmd")
    assert result.code == 125
    assert "the engine closed the connection" in result.err


class TestReplicas:
    @pytest.fixture
    def fleet(self, engine):
        engine.alive = set()

        def create(call):
            number = call.query["name"].rpartition("-")[2]
            if number == getattr(engine, "taken", None):
                call.refuse(409, "name taken")
            else:
                call.answer(201, {"Id": f"{int(number):064d}", "Warnings": ["careful"]})

        def start(call, identifier):
            engine.alive.add(int(identifier))
            call.answer(204)

        engine.on("POST", "/containers/create", create)
        engine.on("POST", "/containers/(\\d+)/start", start)
        return engine

    def test_all_start_and_are_printed_in_order(self, fleet, mdocker):
        result = mdocker("run", "-d", "--name", "b", "--replicas", "100", "host", "sleep", "9")
        assert result.code == 0
        assert result.out.split() == [f"{number:064d}" for number in range(1, 101)]
        assert result.err == "WARNING: careful\n"
        assert fleet.alive == set(range(1, 101))
        names = {request[2]["name"] for request in fleet.seen("POST", "/containers/create")}
        assert names == {f"b-{number}" for number in range(1, 101)}
        assert fleet.connections <= 32

    def test_a_name_is_made_up(self, fleet, mdocker):
        assert mdocker("run", "-d", "--replicas", "2", "lib/host:tag").code == 0
        names = sorted(request[2]["name"] for request in fleet.seen("POST", "/containers/create"))
        assert names[0].startswith("host-") and names[0].endswith("-1")
        assert names[1] == names[0][:-1] + "2"

    def test_a_failure_keeps_no_other_from_starting(self, fleet, mdocker):
        fleet.taken = "3"
        result = mdocker("run", "-d", "--name", "b", "--replicas", "5", "host")
        assert result.code == 125
        assert fleet.alive == {1, 2, 4, 5}
        assert len(result.out.split()) == 4
        assert "mdocker: b-3: name taken\n" in result.err
        assert result.err.endswith("mdocker: 4 of 5 run\n")

    def test_ctrl_c_says_how_many_run(self, fleet, spawn):
        held, busy = threading.Event(), threading.Event()

        def start(call, identifier):
            if int(identifier) == 17:
                busy.set()
            if int(identifier) > 4:
                held.wait(5)
            fleet.alive.add(int(identifier))
            call.answer(204)

        fleet.on("POST", "/containers/(\\d+)/start", start)
        fleet.on("DELETE", "/containers/(\\d+)", lambda call, identifier: call.answer(204))
        process = spawn("run", "-d", "--name", "b", "--replicas", "100", "host")
        assert busy.wait(10)
        process.send_signal(signal.SIGINT)
        until_caught(process.pid)
        held.set()
        assert process.wait(10) == 130
        alive, created = len(fleet.alive), len(fleet.seen("POST", "/containers/create"))
        assert alive < 100
        assert f"interrupted: {alive} of 100 run, as b-N".encode() in process.stderr.read()
        assert len(process.stdout.read().split()) == alive
        # What was created and is not to be started any more is taken back.
        taken_back = fleet.seen("DELETE", "/containers/.*")
        assert len(taken_back) == created - alive

    def test_a_second_ctrl_c_ends_at_once(self, fleet, spawn):
        held, busy = threading.Event(), threading.Event()

        def start(call, identifier):
            busy.set()
            held.wait(10)
            call.answer(204)

        fleet.on("POST", "/containers/(\\d+)/start", start)
        process = spawn("run", "-d", "--name", "b", "--replicas", "5", "host")
        assert busy.wait(10)
        process.send_signal(signal.SIGINT)
        until_caught(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        held.set()
        assert b"interrupted twice" in process.stderr.read()

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            ('exec: "foo": executable file not found in $PATH', 127),
            ('exec: "/etc": permission denied', 126),
            ("something else", 125),
        ],
    )
    def test_a_command_that_can_not_be_executed(self, fleet, mdocker, words, code):
        fleet.refuse("POST", "/containers/(\\d+)/start", 400, words)
        result = mdocker("run", "-d", "--replicas", "3", "host", "foo")
        assert (result.code, result.out) == (code, "")
        assert "0 of 3 run" in result.err


def until_caught(pid):
    """Wait until a process has no signal pending (proc(5), SigPnd and ShdPnd)."""
    for _ in range(2000):
        status = Path(f"/proc/{pid}/status").read_text()
        pending = [line.split()[1] for line in status.splitlines() if line[3:6] == "Pnd"]
        if not any(int(bits, 16) for bits in pending):
            return
        time.sleep(0.005)
    raise AssertionError("the signal is still pending")


@pytest.mark.parametrize("command", ["run", "create"])
def test_help_says_what_every_option_is_for(command):
    done = subprocess.run(
        [sys.executable, "-m", "mdocker", command, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    options = [line for line in done.stdout.splitlines() if line.startswith("  --")]
    assert len(options) > 20
    assert [line for line in options if ": " not in line or "[default" in line] == []
    assert "  --env, -e STR...: Set an environment variable" in done.stdout


def test_attach_to_one_that_ends_before_we_are_there(engine, mdocker):
    """It ran at the first look; nothing would ever come over the attached connection."""
    looks = iter([True, False])

    def inspect(call):
        running = next(looks)
        state = {"Running": running, "Paused": False, "Restarting": False, "Status": "running"}
        config = {"Tty": False, "OpenStdin": False}
        call.answer(200, {"Id": ID, "Name": "/a", "State": state, "Config": config})

    held = threading.Event()
    engine.on("GET", "/containers/.*/json", inspect)
    engine.on("POST", f"/containers/{ID}/attach", lambda call: (call.upgrade(), held.wait(10)))
    engine.json("POST", f"/containers/{ID}/wait", {"StatusCode": 5})
    assert mdocker("attach", "a") == (5, "", "")
    held.set()
    assert engine.seen("POST", ".*/wait")[0][2] == {"condition": "not-running"}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({}, "a stopped container, start it first: 'mdocker start -a a'"),
        ({"Running": True, "Paused": True}, "a paused container, unpause it first"),
        ({"Running": True, "Restarting": True}, "a restarting container, wait until it is running"),
    ],
)
def test_attach_needs_one_that_runs(engine, mdocker, state, words):
    state = {"Running": False, "Paused": False, "Restarting": False} | state
    engine.json("GET", "/containers/a/json", {"Id": ID, "Name": "/a", "State": state})
    result = mdocker("attach", "a")
    assert (result.code, result.out) == (1, "")
    assert f"You cannot attach to {words}" in result.err
