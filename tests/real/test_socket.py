"""Who may use the engine's sockets, what is written of it, and what a flood of one user does."""

import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys

import pytest

from tests.real.engine_process import CHECKOUT, EngineProcess

GROUP = 4711
NOBODY = 65534

MAY = """\
#!/bin/sh
read question
case $question in
*'"path": "/containers/create"'*'"uid": 65534'*) echo "uid 65534 makes nothing here" ;;
*) echo yes ;;
esac
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    base = tmp_path_factory.mktemp("socket")
    base.chmod(0o755)
    may = base / "may"
    may.write_text(MAY)
    may.chmod(0o755)
    made = EngineProcess(
        base / "e",
        options=(
            *("--group", str(GROUP), "--host", f"unix://{base}/docker.sock"),
            *("--authorization-command", str(may)),
        ),
        respawn=True,
    )
    made.base.mkdir(mode=0o755)
    made.start()
    yield made
    made.close()
    assert not (base / "docker.sock").exists()


def further(engine):
    """Its other socket."""
    return engine.base.parent / "docker.sock"


def changes(engine):
    """The lines of its log about changes, which are written behind the answers."""
    assert engine.get("/_ping").status == 200
    lines = [line for line in engine.log_text().splitlines() if '"api.change"' in line]
    return [json.loads(line) for line in lines]


BECOME = f"""
import encodings.idna, http.client, json, os, resource, socket, sys
os.chdir(os.path.dirname(sys.argv[1]))  # the directories above are pytest's and root's alone
os.setgroups(json.loads(sys.argv.pop()))
os.setgid({NOBODY})
os.setuid({NOBODY})
path = os.path.basename(sys.argv[1])
"""


@contextlib.contextmanager
def somebody(script, *arguments, groups=(GROUP,)):
    """A process of uid 65534, with these groups and this Python script."""
    process = subprocess.Popen(
        [sys.executable, "-c", BECOME + script, *map(str, arguments), json.dumps(groups)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


ASK = """
connection = http.client.HTTPConnection("d")
connection.sock = socket.socket(socket.AF_UNIX)
try:
    connection.sock.connect(path)
except OSError as error:
    print(error.strerror)
    sys.exit()
body = {"Image": "host", "Cmd": ["true"], "Env": ["PASSWORD=hunter2"]}
try:
    connection.request(sys.argv[2], sys.argv[3], json.dumps(body), {"X-Registry-Auth": "hunter2"})
except BrokenPipeError:
    pass  # refused before it could ask
answer = connection.getresponse()
print(answer.status, answer.read().decode().strip(), flush=True)
sys.stdin.read()
"""


def test_both_are_for_root_and_the_group_alone(engine):
    for path in (engine.socket, further(engine)):
        found = path.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, GROUP, 0o660)
        with somebody(ASK, path, "GET", "/_ping", groups=()) as stranger:
            assert stranger.stdout.readline() == "Permission denied\n"
        with somebody(ASK, path, "GET", "/_ping") as member:
            assert member.stdout.readline() == "200 OK\n"


@pytest.mark.skipif(not shutil.which("docker"), reason="needs the docker CLI")
def test_docker_finds_the_other_socket_as_good(engine):
    environment = {**engine.environment, "DOCKER_HOST": f"unix://{further(engine)}"}
    done = subprocess.run(
        ["docker", "run", "--rm", "host", "echo", "hello"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (0, "hello\n")


def test_a_change_is_written_down_with_who_asked(engine):
    with somebody(ASK, engine.socket, "POST", "/v1.50/containers/nobody/stop?t=hunter2") as member:
        assert member.stdout.readline().startswith("404 ")
        line = changes(engine)[-1]
    assert line.pop("timestamp")
    assert line == {
        "event": "api.change",
        "level": "info",
        "method": "POST",
        "path": "/v1.50/containers/nobody/stop",
        "status": 404,
        "pid": member.pid,
        "uid": NOBODY,
        "gid": NOBODY,
        "comm": os.path.basename(sys.executable)[:15],
    }
    assert "hunter2" not in engine.log_text()


def test_who_is_not_allowed_to_is_told_so_whoever_is_the_supervisor(engine):
    for path in (engine.socket, further(engine)):
        with somebody(ASK, path, "POST", "/v1.50/containers/create?name=theirs") as member:
            assert json.loads(member.stdout.readline().removeprefix("403 ")) == {
                "message": "authorization denied by may: uid 65534 makes nothing here"
            }
        assert changes(engine)[-1]["status"] == 403
        assert changes(engine)[-1]["name"] == "theirs"
        engine.kill()  # another one follows, with both sockets and the command
        assert engine.get("/containers/theirs/json").status == 404
    assert engine.delete(f"/containers/{engine.create('true')}").status == 204
    assert engine.get("/info").json["Plugins"]["Authorization"] == ["may"]


CROWD = """
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
kept, refused = [], False
while not refused:
    one = socket.socket(socket.AF_UNIX)
    one.connect(path)
    kept.append(one)
    try:
        one.send(b"GET /_ping HTTP/1.1\\r\\nHost: d\\r\\nX: ")
        if len(kept) % 50:
            continue
        one.send(b"y\\r\\n\\r\\n")
    except BrokenPipeError:
        pass  # it is closed already: what was said is still there
    refused = b" 503 " in one.recv(1000)
print(len(kept), flush=True)
sys.stdin.read()
"""


def test_connections_of_one_user_leave_room_for_others(engine):
    """Each has begun a head that it never ends."""
    with somebody(CROWD, engine.socket) as crowd:
        count = int(crowd.stdout.readline())
        assert count > 64
        assert engine.get("/containers/json").status == 200
        with somebody(ASK, further(engine), "GET", "/_ping") as another:
            assert another.stdout.readline().startswith('503 {"message": "uid 65534 has ')
    assert '"who": "uid 65534"' in engine.log_text()
    for _ in range(1000):
        with somebody(ASK, engine.socket, "GET", "/_ping") as another:
            if another.stdout.readline() == "200 OK\n":
                break
    else:
        pytest.fail("its connections have ended, and it still has no room")


def test_another_program_keeps_its_socket(engine, tmp_path):
    """Who listens where a second engine is to listen is not pushed aside."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mdocker", "daemon", "--no-respawn"),
            *("--root", f"{tmp_path}/r", "--run-dir", f"{tmp_path}/d"),
            *("--host", f"unix://{further(engine)}"),
        ],
        env=engine.environment,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert f"cannot listen on {further(engine)}: another program listens there" in done.stderr
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(further(engine)))
