"""docker-compose 1.29, Debian's: a project from `up` to `down`, on the networks that there are."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests import an_init
from tests.clients.compose_program import INTERPRETER, PROGRAM, Server
from tests.clients.not_done import still_refused, words
from tests.terminal_session import Session

pytestmark = pytest.mark.skipif(
    INTERPRETER is None, reason="needs docker-compose (apt-get install docker-compose)"
)

PROJECT = """\
services:
  nest:
    image: box:1
    command: ["sh", "-c", "echo built; touch /nest/ok; exec sleep 600"]
    network_mode: none
    stop_grace_period: 0s
    mem_limit: 64m
    expose: ["80"]
    volumes: ["eggs:/nest", "/straw", "./tree:/tree:ro"]
    tmpfs: [/scratch]
    healthcheck: {test: ["CMD", "test", "-e", "/nest/ok"], interval: 0.05s}
  bird:
    image: box:1
    command: ["sh", "-c", "echo $$SONG $$NAME; exec sleep 600"]
    network_mode: none
    depends_on: {nest: {condition: service_healthy}}
    env_file: bird.env
    environment: {SONG: tweet}
    labels: {kind: bird}
    stop_grace_period: 0s
    restart: on-failure
    logging: {driver: json-file, options: {max-size: 1m}}
    volumes_from: ["nest:ro"]
    user: "1000"
  flock:
    image: host
    command: ["sleep", "600"]
    network_mode: host
    stop_grace_period: 0s
    depends_on: [bird]
    tty: true
    stdin_open: true
    extra_hosts: ["db:10.0.0.5", "machine:host-gateway"]
    dns: 10.0.0.1
    dns_search: wood
  guest:
    image: box:1
    command: ["sleep", "600"]
    network_mode: none
    profiles: [summer]
    stop_grace_period: 0s
volumes:
  eggs: {labels: {colour: white}}
"""

FILES = {"docker-compose.yml": PROJECT, "bird.env": "NAME=wren\n", "tree/leaf": "green\n"}


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.close()


class Project:
    """A folder with a compose file, and the program."""

    def __init__(self, server, engine, folder, files):
        self._server = server
        self.folder = folder
        self.write(files)
        self.environment = {
            **os.environ,
            "DOCKER_HOST": f"unix://{engine.socket}",
            "DOCKER_CONFIG": str(folder),
            "COMPOSE_PROJECT_NAME": "wood",
            "COMPOSE_ANSI": "never",
        }
        self.environment.pop("PYTHONPATH", None)

    def write(self, files):
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    def change(self, old, new):
        """Change the compose file."""
        path = self.folder / "docker-compose.yml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def __call__(self, *words):
        """Run to the end; returns (exit code, stdout, stderr)."""
        return self._server.run(words, self.folder, self.environment)

    def ok(self, *words):
        """Run to the end, which must be good; returns stdout."""
        code, out, err = self(*words)
        assert code == 0, (words, out, err)
        return out


@pytest.fixture
def make_project(server, engine, tmp_path):
    return lambda text: Project(server, engine, tmp_path, {"docker-compose.yml": text})


@pytest.fixture
def project(server, engine, tmp_path):
    yield Project(server, engine, tmp_path, FILES)
    for container in engine.get("/containers/json?all=1").json:
        engine.delete(f"/containers/{container['Id']}?force=1&v=1")
    engine.delete("/volumes/wood_eggs")


def running(engine):
    listed = engine.get("/containers/json").json
    return sorted(one["Names"][0].removeprefix("/wood_") for one in listed)


def ids(engine):
    listed = engine.get("/containers/json?all=1").json
    return {one["Names"][0].removeprefix("/wood_"): one["Id"] for one in listed}


def test_a_project_from_up_to_down(project, engine):
    project.ok("up", "-d", "--scale", "flock=2")
    assert running(engine) == ["bird_1", "flock_1", "flock_2", "nest_1"]
    bird, nest = engine.inspect("wood_bird_1"), engine.inspect("wood_nest_1")
    assert {"SONG=tweet", "NAME=wren"} <= set(bird["Config"]["Env"])
    assert bird["Config"]["Labels"]["kind"] == "bird"
    assert bird["HostConfig"]["RestartPolicy"]["Name"] == "on-failure"
    assert nest["HostConfig"]["Memory"] == 64 * 1024**2
    assert nest["State"]["Health"]["Status"] == "healthy"
    assert nest["Config"]["ExposedPorts"] == {"80/tcp": {}}
    flock = engine.inspect("wood_flock_2")
    assert flock["Config"]["Tty"] and flock["HostConfig"]["NetworkMode"] == "host"
    assert engine.get("/volumes/wood_eggs").json["Labels"]["colour"] == "white"
    listed = project.ok("ps")
    assert "wood_nest_1" in listed and "Up (healthy)" in listed
    assert "tweet wren" in project.ok("logs", "--no-color", "bird")
    looked = "id -u; ls /nest; cat /tree/leaf; touch /straw/x"
    assert project("exec", "-T", "bird", "sh", "-c", looked)[:2] == (1, "1000\nok\ngreen\n")
    looked = "tail -n 2 /etc/hosts; grep -E '^(name|sea)' /etc/resolv.conf"
    assert project.ok("exec", "-T", "--index", "2", "flock", "sh", "-c", looked) == (
        "10.0.0.5\tdb\n127.0.0.1\tmachine\nnameserver 10.0.0.1\nsearch wood\n"
    )
    project.ok("up", "-d", "--scale", "flock=1")
    assert running(engine) == ["bird_1", "flock_1", "nest_1"]
    assert engine.inspect("wood_bird_1")["Id"] == bird["Id"]
    project.ok("--profile", "summer", "up", "-d")
    assert running(engine) == ["bird_1", "flock_1", "guest_1", "nest_1"]
    project.ok("stop")
    assert running(engine) == []
    project.ok("start")
    assert running(engine) == ["bird_1", "flock_1", "nest_1"]
    project.ok("--profile", "summer", "down", "-v")
    assert engine.get("/containers/json?all=1").json == []
    assert engine.get("/volumes").json["Volumes"] == []


def test_only_what_has_changed_is_made_anew(project, engine):
    """Found by hand: docker-compose died of a KeyError, and left the container renamed."""
    project.ok("up", "-d")
    before = ids(engine)
    project.ok("exec", "-T", "nest", "touch", "/straw/kept")
    assert "is up-to-date" in project("up", "-d")[2]
    assert ids(engine) == before
    project.change("SONG: tweet", "SONG: trill")
    project.ok("up", "-d", "--no-deps", "bird")
    after = ids(engine)
    assert {name for name in before if after[name] != before[name]} == {"bird_1"}
    assert "SONG=trill" in engine.inspect("wood_bird_1")["Config"]["Env"]
    project.change("mem_limit: 64m", "mem_limit: 65m")
    project.ok("up", "-d")
    assert ids(engine)["nest_1"] != before["nest_1"]
    assert project.ok("exec", "-T", "nest", "ls", "/straw", "/nest") == (
        "/nest:\nok\n\n/straw:\nkept\n"
    )
    project.ok("up", "-d", "--renew-anon-volumes", "--force-recreate", "--no-deps", "nest")
    assert project.ok("exec", "-T", "nest", "ls", "/straw") == ""


def test_what_is_done_to_services(project, engine):
    project.ok("up", "-d", "bird")
    project.ok("pause", "bird")
    assert "Paused" in project.ok("ps", "bird")
    project.ok("unpause", "bird")
    assert "sleep 600" in project.ok("top", "bird")
    started = engine.inspect("wood_bird_1")["State"]["StartedAt"]
    project.ok("restart", "bird")
    assert engine.inspect("wood_bird_1")["State"]["StartedAt"] != started
    assert project.ok("port", "nest", "80").strip() == ""
    assert project.ok("images", "-q", "bird").strip() == engine.get("/images/box:1/json").json[
        "Id"
    ].removeprefix("sha256:")
    project.ok("kill", "-s", "KILL", "nest")
    assert engine.wait("wood_nest_1") == 137
    project.ok("rm", "-f", "-s", "-v", "nest")
    assert running(engine) == ["bird_1"]


def test_one_off_containers(project, engine):
    """Beside what runs, docker-compose links them, be the network what it may."""
    project.ok("up", "-d", "bird")
    script = "echo $SONG; id -u; exit 3"
    options = ("--rm", "-T", "--user", "7", "-e", "SONG=hoot")
    assert project("run", *options, "bird", "sh", "-c", script)[:2] == (3, "hoot\n7\n")
    assert running(engine) == ["bird_1", "nest_1"]
    name = project.ok("run", "-d", "--name", "wood_away", "bird").strip()
    assert (name, running(engine)) == ("wood_away", ["away", "bird_1", "nest_1"])


def test_in_the_foreground(make_project):
    project = make_project(
        "services: {once: {image: box:1, command: [echo, done], network_mode: none}}"
    )
    out = project.ok("up", "--no-color", "--abort-on-container-exit")
    # It says "exited with code 0" as well, if it has the answer 0.1 s after the event.
    assert "once_1" in out and "done" in out


@pytest.fixture
def follower(project):
    """`logs -f`, started once there is a container to follow."""
    started = []

    def start():
        process = subprocess.Popen(
            [PROGRAM, "logs", "-f", "--no-color"],
            cwd=project.folder, env=project.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_followed_and_at_a_terminal(project, follower):
    project.ok("up", "-d", "--no-deps", "bird")
    following = follower()
    words = [PROGRAM, "exec", "bird", "sh", "-c", "test -t 0; echo tty $?; read x; exit $x"]
    session = Session(words, env=project.environment, cwd=project.folder)
    session.until("tty 0")
    session.send("5\n")
    assert session.end() == 5
    shown = iter(following.stdout.readline, "")
    assert any("tweet wren" in line for line in shown)
    project.ok("stop")
    assert any("wood_bird_1 exited with code 137" in line for line in shown)
    assert following.wait() == 0


@pytest.mark.parametrize(
    ("service", "text"),
    [
        ("command: top", words("creating and changing networks")),
        ("network_mode: none, ports: ['80']", "mdocker does not support "),
    ],
)
def test_what_is_not_done_is_refused_by_name(make_project, service, text):
    if "networks" in text and not still_refused(["creating and changing networks"]):
        pytest.skip("networks are done: nothing to refuse")
    code, _, err = make_project(f"services: {{one: {{image: 'box:1', {service}}}}}")("up", "-d")
    assert (code, text in err, "Traceback" in err) == (1, True, False), err


def test_where_a_network_is_missing_it_is_said_what_to_write(make_project):
    """Without a word on networks, docker-compose makes one for the project."""
    project = make_project("services: {one: {image: 'box:1', command: top}}")
    for command in (("up", "-d"), ("run", "--rm", "one")):
        code, _, err = project(*command)
        assert (code, "'network_mode: none' or 'network_mode: host'" in err) == (1, True), err
    project.ok("down")


def test_a_service_that_is_built(engine, make_project):
    project = make_project(
        """\
services:
  wren:
    build: {context: tree, args: {SONG: tweet}, labels: {more: "1"}, network: none}
    image: wren:5
    command: cat /song
    network_mode: none
"""
    )
    dockerfile = "FROM box:1\nARG SONG\nRUN echo $SONG > /song\nCOPY leaf /\n"
    project.write({"tree/Dockerfile": dockerfile, "tree/leaf": "green"})
    project.environment |= {"COMPOSE_DOCKER_CLI_BUILD": "0", "DOCKER_BUILDKIT": "0"}
    out = project.ok("up")
    assert "Successfully tagged wren:5" in out
    assert "tweet" in out
    assert engine.get("/images/wren:5/json").json["Config"]["Labels"] == {"more": "1"}
    assert project.ok("build").count("Using cache") == 4


def test_an_image_that_is_not_here(make_project):
    project = make_project("services: {one: {image: '127.0.0.1:1/redis:7', network_mode: none}}")
    code, _, err = project("up", "-d")
    assert code == 1 and "connection refused" in err


@an_init.needed
def test_services_that_share_namespaces_and_an_init(engine, make_project):
    project = make_project(
        """\
services:
  nest:
    image: box:1
    command: ["sh", "-c", "echo egg > /dev/shm/egg; echo ready; exec sleep 600"]
    network_mode: none
    hostname: nest
    ipc: shareable
    init: true
  bird:
    image: box:1
    command: ["sh", "-c", "hostname; cat /dev/shm/egg; exec sleep 600"]
    network_mode: "service:nest"
    ipc: "service:nest"
    pid: host
    depends_on: [nest]
  chick:
    image: box:1
    command: ["sleep", "600"]
    network_mode: none
    ipc: "container:tree"
    pid: "container:tree"
"""
    )
    quiet = {"HostConfig": {"NetworkMode": "none", "IpcMode": "shareable"}}
    tree = engine.run("sleep", "600", name="tree", image="box:1", **quiet)
    project.ok("up", "-d", "nest")
    with engine.stream("GET", "/containers/wood_nest_1/logs?stdout=1&follow=1") as logs:
        assert logs.read(14).endswith(b"ready\n")
    project.ok("up", "-d")
    nest = engine.inspect("wood_nest_1")
    assert nest["HostConfig"]["Init"] is True
    with engine.stream("GET", "/containers/wood_bird_1/logs?stdout=1&follow=1") as logs:
        assert logs.read(8 + 5 + 8 + 4).endswith(b"egg\n")
    shown = engine.inspect("wood_bird_1")["HostConfig"]
    of = f"container:{nest['Id']}"
    assert (shown["NetworkMode"], shown["IpcMode"], shown["PidMode"]) == (of, of, "host")
    shown = engine.inspect("wood_chick_1")["HostConfig"]
    assert (shown["PidMode"], shown["IpcMode"]) == (f"container:{tree}",) * 2
    project.ok("down", "-t", "0")
    assert [one["Id"] for one in engine.get("/containers/json?all=1").json] == [tree]
    assert engine.delete(f"/containers/{tree}?force=1").status == 204
