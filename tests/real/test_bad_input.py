"""What bad input gets: the status, the words that say what to do, and nothing left behind."""

import json
import operator
import os
import select
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.state_version import VERSION
from tests.real.engine_process import EngineProcess


@pytest.fixture(autouse=True)
def nothing_is_left_by_the_request(engine):
    """After each case no container is there that was not there before, and no descriptor."""
    before = engine.get("/containers/json?all=1").json
    yield
    left = engine.get("/containers/json?all=1").json
    assert [c["Id"] for c in left] == [c["Id"] for c in before]


def refused(engine, body, name=""):
    query = f"?name={name}" if name else ""
    return engine.post(f"/containers/create{query}", {"Image": "host", "Cmd": ["true"], **body})


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"Image": "nosuch"}, 404, "No such image: nosuch:latest"),
        ({"Image": "Bad Name"}, 400, "invalid reference format"),
        ({"HostConfig": {"Memory": 1024}}, 400, "Minimum memory limit allowed is 6MB"),
        ({"HostConfig": {"Memory": -5}}, 400, "emory"),
        ({"HostConfig": {"NanoCpus": 10**15}}, 400, "CPUs"),
        ({"StopSignal": "FOO"}, 400, "Invalid signal: FOO"),
        ({"WorkingDir": "relative"}, 400, "relative"),
        ({"HostConfig": {"NetworkMode": "bridge"}}, 501, "bridge"),
        ({"HostConfig": {"CapAdd": ["SYS_LORD"]}}, 400, "SYS_LORD"),
        ({"HostConfig": {"UsernsMode": "mine"}}, 400, "invalid USER mode: mine"),
        ({"HostConfig": {"RestartPolicy": {"Name": "mostly"}}}, 400, "unknown policy 'mostly'"),
        (
            {"HostConfig": {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}}},
            400,
            "maximum retry count can only be used with 'on-failure'",
        ),
        (
            {"HostConfig": {"RestartPolicy": {"Name": "always", "DelayMs": -1}}},
            400,
            "DelayMs -1 (--restart-delay): give 1 to",
        ),
        (
            {"HostConfig": {"RestartPolicy": {"Name": "always"}, "AutoRemove": True}},
            400,
            "AutoRemove",
        ),
        ({"HostConfig": {"LogConfig": {"Config": {"max-size": "much"}}}}, 400, "max-size"),
        ({"HostConfig": {"LogConfig": {"Type": "syslog", "Config": {}}}}, 501, "syslog"),
        (
            {"Healthcheck": {"Test": ["CMD", "true"], "Interval": 5}},
            400,
            "Interval in Healthcheck cannot be less than 1ms",
        ),
        ({"Healthcheck": {"Test": ["SOMETIMES"]}}, 400, "Unknown healthcheck type 'SOMETIMES'"),
    ],
)
def test_create_refuses(engine, body, status, words):
    answer = refused(engine, body)
    assert (answer.status, words in answer.message) == (status, True), answer


@pytest.mark.parametrize("name", ["a%20b", "-x", "x", "%2F", "x%0A"])
def test_bad_names(engine, name):
    answer = refused(engine, {}, name)
    assert answer.status == 400
    assert "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed" in answer.message


@pytest.mark.parametrize(
    ("config", "words", "code"),
    [
        (
            {"Cmd": ["nosuchcmd"]},
            'exec: "nosuchcmd": executable file not found in $PATH',
            127,
        ),
        ({"Cmd": ["/nosuch/cmd"]}, "no such file or directory", 127),
        ({"Cmd": ["/etc/passwd"]}, "permission denied", 126),
        ({"Cmd": ["true"], "WorkingDir": "/nosuch"}, "no such file or directory", 127),
        ({"Cmd": ["true"], "User": "nobodyhere"}, "unable to find user nobodyhere", None),
        ({"Cmd": ["true"], "User": "root:nogrouphere"}, "unable to find group nogrouphere", None),
        # Longer than what the pipe holds that tells of it.
        ({"Cmd": ["x" * 100_000]}, "executable file not found in $PATH", 127),
        ({"Cmd": ["true"], "User": "x" * 100_000}, "unable to find user xxx", None),
    ],
)
def test_start_refuses_and_says_which_step(engine, config, words, code):
    answer = engine.post("/containers/create?name=doomed", {"Image": "host", **config})
    assert answer.status == 201, answer
    before = engine.descriptors()
    started = engine.post("/containers/doomed/start")
    assert started.status in (400, 500)
    assert words in started.message
    state = engine.inspect("doomed")["State"]
    assert state["Status"] == "created"
    assert words in state["Error"]
    if code is not None:
        assert state["ExitCode"] == code
    # The shim lets go of it when it is told to, which is behind the answer.
    while any(map(operator.gt, engine.descriptors(), (before[0] + 1, before[1]))):
        assert engine.get("/_ping").status == 200
    assert engine.delete("/containers/doomed").status == 204


def test_one_that_cannot_start_and_removes_itself_is_gone_when_the_answer_comes(engine):
    config = {"Image": "host", "Cmd": ["nosuchcmd"], "HostConfig": {"AutoRemove": True}}
    assert engine.post("/containers/create?name=brief", config).status == 201
    assert engine.post("/containers/brief/start").status == 400
    assert engine.get("/containers/brief/json").status == 404


@pytest.mark.parametrize("t", ["-2", "99999999999", "1.5", "soon", "1e3"])
def test_absurd_timeouts(engine, t):
    container = engine.run("sleep", "1000", name="timed")
    answer = engine.post(f"/containers/timed/stop?t={t}")
    assert answer.status == 400
    assert t.split(".")[0] in answer.message
    assert engine.inspect(container)["State"]["Running"]
    assert engine.delete(f"/containers/{container}?force=1").status == 204


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"garbage\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"505"),
        (b"GET /_ping HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"a" * 500_000 + b"\r\n\r\n", b"4"),
        (
            b"POST /v1.50/containers/create HTTP/1.1\r\nHost: x\r\n"
            b"Content-Type: application/json\r\nContent-Length: 5\r\n\r\n{bad}",
            b"400",
        ),
        (
            b"POST /v1.50/containers/create HTTP/1.1\r\nHost: x\r\n"
            b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n[]",
            b"400",
        ),
        (
            b"POST /v1.50/containers/create HTTP/1.1\r\nHost: x\r\n"
            b"Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
            b"400",
        ),
    ],
)
def test_garbage_requests(engine, request_bytes, status):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(engine.socket))
        client.sendall(request_bytes)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := client.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b'"message"' in answer
    assert engine.get("/_ping").body == b"OK"


def test_clients_that_hang_up_or_say_nothing_harm_nobody(engine):
    before = engine.descriptors()[0]
    silent = []
    for part in (b"", b"POST /v1.50/containers/create HTTP/1.1\r\nHost: x\r\nContent-Le", b"GET /"):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(engine.socket))
        client.sendall(part)
        silent.append(client)
    assert engine.get("/_ping").body == b"OK"
    for client in silent:
        client.close()
    for _ in range(200):
        if engine.descriptors()[0] <= before + 1:
            break
        engine.get("/_ping")
    assert engine.descriptors()[0] <= before + 1


def daemon(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "mdocker", "daemon", *words],
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
        **options,
    )


def test_a_second_supervisor_is_refused(engine):
    told = daemon(
        *("--root", str(engine.root), "--run-dir", str(engine.run_dir)), env=engine.environment
    )
    assert told.returncode == 1
    holder = f"another supervisor (pid {engine.process.pid}, run directory {engine.run_dir}: "
    assert holder in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1
    assert engine.get("/_ping").body == b"OK"


def test_a_run_dir_of_somebody_else_is_refused(engine, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    os.chown(foreign, 12345, 12345)
    told = daemon("--root", str(tmp_path / "r"), "--run-dir", str(foreign), env=engine.environment)
    assert told.returncode == 1
    assert f"{foreign} is owned by uid 12345" in told.stderr


def test_a_run_dir_that_others_can_write_is_refused(engine, tmp_path):
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(0o777)
    told = daemon("--root", str(tmp_path / "r"), "--run-dir", str(loose), env=engine.environment)
    assert told.returncode == 1
    assert "can be written by others" in told.stderr


def test_without_root_it_says_so(engine, tmp_path):
    tmp_path.chmod(0o777)
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, sys\n"
            "from supervisor.daemon import main\n"
            "os.setgid(65534); os.setuid(65534)\n"
            f"sys.exit(main('{tmp_path}/r', '{tmp_path}/d', 'asyncio', None, False))",
        ],
        capture_output=True,
        text=True,
        env=engine.environment,
        timeout=60,
    )
    assert told.returncode == 1
    assert "containers need root, there is no rootless mode" in told.stderr
    assert "--userns-remap has the root inside be nobody outside" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_broken_record_is_set_aside_and_said(fresh_engine):
    keep = fresh_engine.create("true", name="keep")
    fresh_engine.terminate()
    broken = fresh_engine.root / "containers" / ("f" * 64)
    broken.mkdir()
    (broken / "config.json").write_text("{torn")
    bare = fresh_engine.root / "containers" / ("e" * 64)
    bare.mkdir()
    (bare / "ctr.log").write_text("all that is left\n")
    half_made = fresh_engine.root / "containers" / ("d" * 64)
    (half_made / "upper").mkdir(parents=True)
    foreign = fresh_engine.root / "containers" / "lost+found"
    foreign.mkdir()
    (fresh_engine.root / "containers" / "README").write_text("mine\n")
    fresh_engine.start()
    shown = fresh_engine.get("/containers/json?all=1").json
    assert [c["Id"] for c in shown] == [keep]
    aside = fresh_engine.root / "containers.set-aside"
    assert (aside / broken.name / "config.json").read_text() == "{torn"
    assert (aside / bare.name / "ctr.log").read_text() == "all that is left\n"
    assert "is not a container's record" in (aside / broken.name / "set-aside.txt").read_text()
    assert not half_made.exists()
    assert foreign.is_dir()
    told = "\n".join(fresh_engine.get("/info").json["Warnings"])
    for name in (broken.name, bare.name):
        assert f"a container was set aside as {aside / name}: " in told
    # The same again at the next start: it is set aside beside the first.
    fresh_engine.terminate()
    broken.mkdir()
    (broken / "config.json").write_text("")
    fresh_engine.start()
    assert (aside / f"{broken.name}.2").is_dir()


def test_what_ran_under_a_broken_record_is_ended_and_that_is_said(fresh_engine):
    engine = fresh_engine
    lives = engine.run("sleep", "1000")
    ends = engine.run("sh", "-c", "until [ -e /tmp/go ]; do sleep 0.02; done; exit 6")
    pids = {one: engine.inspect(one)["State"]["Pid"] for one in (lives, ends)}
    engine.terminate()
    pidfd = os.pidfd_open(pids[ends])
    Path(f"/proc/{pids[ends]}/root/tmp/go").touch()
    select.select([pidfd], [], [], 30)
    os.close(pidfd)
    for one in (lives, ends):
        (engine.root / "containers" / one / "config.json").write_text("{torn")
    engine.start()
    assert engine.get("/containers/json?all=1").json == []
    told = engine.get("/info").json["Warnings"]
    for one, words in (
        (lives, f"it ran, as pid {pids[lives]}, and was killed: exit code 137"),
        (ends, f"it had run as pid {pids[ends]}, and ended by itself: exit code 6"),
    ):
        place = engine.root / "containers.set-aside" / one
        assert (place / "set-aside.txt").read_text().splitlines()[1:] == [words]
        (line,) = (line for line in told if str(place) in line)
        assert line.endswith(f"; {words}")


def test_a_newer_state_directory_is_refused_in_words_and_left_as_it_is(fresh_engine):
    container = fresh_engine.run("sleep", "60")
    record = fresh_engine.root / "containers" / container / "config.json"
    for path, old, new in (
        (fresh_engine.root / "version", f"{VERSION}\n", "99\n"),
        (record, f'"version":{VERSION}', '"version":99'),
    ):
        fresh_engine.terminate()
        before = path.read_text()
        assert old in before
        path.write_text(before.replace(old, new, 1))
        with pytest.raises(
            RuntimeError, match=rf"newer mdocker \(state version 99, this one knows {VERSION}"
        ):
            fresh_engine.start()
        assert fresh_engine.process.returncode == 1
        assert new in path.read_text()
        path.write_text(before)
        fresh_engine.start()
        assert fresh_engine.inspect(container)["State"]["Running"]


def test_a_full_disk_refuses_and_leaves_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=755", "tmpfs", disk], check=True)
    try:
        engine = EngineProcess(tmp_path / "engine", root=disk / "root").start()
        filler = disk / "filler"
        try:
            with filler.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"\0" * 65536)
                except OSError:
                    pass
                try:
                    while True:
                        file.write(b"\0" * 512)
                except OSError:
                    pass
            answer = engine.post("/containers/create", {"Image": "host", "Cmd": ["true"]})
            assert answer.status == 500
            assert "No space left on device" in answer.message
            assert list((engine.root / "containers").iterdir()) == []
            filler.unlink()
            assert engine.result("echo", "again") == (0, "again\n", "")
        finally:
            engine.close()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_errors_are_json_of_exactly_dockers_type(engine):
    answer = engine.get("/containers/nosuch/json")
    assert answer.status == 404
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(answer.body) == {"message": "No such container: nosuch"}
