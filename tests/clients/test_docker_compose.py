"""docker-compose 1.29, Debian's: a project from `up` to `down`, on the networks that there are."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.clients.not_done import still_refused, words

COMPOSE = shutil.which("docker-compose")

pytestmark = pytest.mark.skipif(
    COMPOSE is None, reason="needs docker-compose (apt-get install docker-compose)"
)

PROJECT = """\
services:
  bird:
    image: box:1
    command: ["sh", "-c", "echo tweet; exec sleep 600"]
    network_mode: none
    environment: {SONG: tweet}
    labels: {kind: bird}
    stop_grace_period: 0s
    mem_limit: 64m
    restart: on-failure
    volumes: ["eggs:/nest"]
    logging: {driver: json-file, options: {max-size: 1m}}
    healthcheck: {test: ["CMD", "true"], interval: 1h}
  flock:
    image: host
    command: ["sleep", "600"]
    network_mode: none
    stop_grace_period: 0s
    depends_on: [bird]
volumes:
  eggs: {}
"""


class Project:
    """A folder with a compose file, and the program."""

    def __init__(self, engine, folder, text=PROJECT):
        self.folder = folder
        (folder / "docker-compose.yml").write_text(text)
        self._environment = {
            **os.environ,
            "DOCKER_HOST": f"unix://{engine.socket}",
            "DOCKER_CONFIG": str(folder),
            "COMPOSE_PROJECT_NAME": "nest",
            "COMPOSE_ANSI": "never",
        }
        self._environment.pop("PYTHONPATH", None)

    def __call__(self, *words):
        """Run to the end; returns (exit code, stdout, stderr)."""
        done = subprocess.run(
            [COMPOSE, *words],
            cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=40, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def ok(self, *words):
        """Run to the end, which must be good; returns stdout."""
        code, out, err = self(*words)
        assert code == 0, (words, out, err)
        return out


@pytest.fixture
def project(engine, tmp_path):
    return Project(engine, tmp_path)


def running(engine):
    listed = engine.get("/containers/json").json
    return sorted(one["Names"][0].removeprefix("/") for one in listed)


def test_a_project_from_up_to_down(project, engine):
    project.ok("up", "-d", "--scale", "flock=3")
    assert running(engine) == ["nest_bird_1", "nest_flock_1", "nest_flock_2", "nest_flock_3"]
    shown = engine.inspect("nest_bird_1")
    assert "SONG=tweet" in shown["Config"]["Env"]
    assert shown["Config"]["Labels"]["kind"] == "bird"
    assert shown["HostConfig"]["Memory"] == 64 * 1024**2
    assert shown["HostConfig"]["RestartPolicy"]["Name"] == "on-failure"
    listed = project.ok("ps")
    assert "nest_bird_1" in listed and "Up" in listed
    assert "tweet" in project.ok("logs", "--no-color", "bird")
    project.ok("up", "-d", "--scale", "flock=1")
    assert running(engine) == ["nest_bird_1", "nest_flock_1"]
    assert engine.inspect("nest_bird_1")["Id"] == shown["Id"]
    assert project.ok("exec", "-T", "bird", "sh", "-c", "echo $SONG >/nest/x; cat /nest/x") == (
        "tweet\n"
    )
    project.ok("stop")
    assert running(engine) == []
    project.ok("down", "-v")
    assert engine.get("/containers/json?all=1").json == []
    assert engine.get("/volumes").json["Volumes"] == []


def test_one_off_and_in_the_foreground(project):
    assert project("run", "--rm", "-T", "--no-deps", "bird", "sh", "-c", "echo $SONG; exit 3")[
        :2
    ] == (
        3,
        "tweet\n",
    )
    (project.folder / "docker-compose.yml").write_text(
        "services: {once: {image: box:1, command: [echo, done], network_mode: none}}"
    )
    out = project.ok("up", "--no-color", "--abort-on-container-exit")
    assert "once_1" in out and "done" in out and "exited with code 0" in out


@pytest.mark.parametrize(
    ("service", "text"),
    [
        ("command: top", words("creating and changing networks")),
        ("privileged: true, network_mode: none", "mdocker does not support HostConfig.Privileged"),
        ("network_mode: none, ports: ['80']", "mdocker does not support "),
    ],
)
def test_what_is_not_done_is_refused_by_name(engine, tmp_path, service, text):
    if "networks" in text and not still_refused(["creating and changing networks"]):
        pytest.skip("networks are done: nothing to refuse")
    project = Project(engine, tmp_path, f"services: {{one: {{image: 'box:1', {service}}}}}")
    code, _, err = project("up", "-d")
    assert (code, text in err) == (1, True), err


def test_an_image_that_is_not_here(engine, tmp_path):
    project = Project(engine, tmp_path, "services: {one: {image: 'redis:7', network_mode: none}}")
    code, _, err = project("up", "-d")
    assert code == 1 and "cannot pull from registries yet" in err
