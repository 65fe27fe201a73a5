"""The docker CLI where it lists, filters and is refused.

Its everyday is tests/real/test_docker_cli.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests import an_init
from tests.clients.not_done import still_refused, untold, words

DOCKER = shutil.which("docker")

pytestmark = pytest.mark.skipif(DOCKER is None, reason="needs the docker CLI (docker.io)")


@pytest.fixture
def docker(engine, tmp_path):
    """Run a command line to its end; returns (exit code, stdout, stderr)."""
    environment = {
        **os.environ,
        "DOCKER_HOST": f"unix://{engine.socket}",
        "DOCKER_CONFIG": str(tmp_path),
        "DOCKER_BUILDKIT": "0",
    }

    def run(*words, stdin=b""):
        done = subprocess.run(
            [DOCKER, *words], env=environment, cwd=tmp_path, input=stdin,
            capture_output=True, timeout=40, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    return run


@an_init.needed
def test_namespaces_of_others_and_an_init(docker):
    words = ("--network", "none", "--ipc", "shareable", "--init", "--hostname", "nest")
    code, giver, _ = docker("run", "-d", "--name", "giver", *words, "host", "sleep", "600")
    assert code == 0
    shared = [f"--{kind}=container:giver" for kind in ("network", "pid", "ipc")]
    code, out, err = docker("run", "--rm", *shared, "host", "sh", "-c", "hostname; ps -eo args")
    assert (code, out.split("\n")[0], err) == (0, "nest", "")
    assert "/sbin/docker-init -- sleep 600" in out
    code, _, err = docker("run", "--rm", *shared, "-p", "80:80", "host", "true")
    words = "conflicting options: port publishing and the container type network mode"
    assert (code, words in err) == (125, True)
    assert docker("kill", "giver")[0] == 0
    code, _, err = docker("run", "--rm", *shared, "host", "true")
    words = f"cannot join network of a non running container: {giver.strip()}"
    assert (code, words in err) == (125, True)
    assert docker("ps", "-aq")[1].split() == [giver[:12]]


@pytest.fixture
def flock(engine):
    """Three containers: one that runs, one that has ended, one that was never started."""
    quiet = {"HostConfig": {"NetworkMode": "none"}, "Labels": {"kind": "bird"}}
    engine.run("sleep", "600", name="bird", image="box:1", **quiet)
    engine.wait(engine.run("sh", "-c", "exit 3", name="crow", **quiet))
    engine.create("true", name="bee", HostConfig={"NetworkMode": "host"})


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["name=b"], "bee bird"),
        (["name=^bird$"], "bird"),
        (["label=kind"], "crow bird"),
        (["label=kind=bird", "status=running"], "bird"),
        (["status=created", "status=exited"], "bee crow"),
        (["exited=3"], "crow"),
        (["exited=0"], ""),
        (["ancestor=host"], "bee crow"),
        (["before=crow"], "bird"),
        (["since=crow"], "bee"),
        (["network=host"], "bee"),
        (["health=none"], "bee crow bird"),
        (["is-task=true"], ""),
        (["volume=/nosuch"], ""),
        (["publish=80"], ""),
        (["expose=8000-9000/udp"], ""),
    ],
    ids=str,
)
def test_filters(docker, flock, filters, names):
    asked = [word for filter in filters for word in ("--filter", filter)]
    code, out, err = docker("ps", "-a", "--format", "{{.Names}}", *asked)
    assert (code, out.split(), err) == (0, names.split(), "")


@pytest.mark.parametrize(
    ("filter", "text"),
    [
        ("nosuch=1", "invalid filter 'nosuch'"),
        (
            "status=asleep",
            "invalid filter 'status=asleep': invalid value for state (asleep): must be one of "
            "created, running, paused, restarting, removing, exited, dead",
        ),
        (
            "health=fine",
            "invalid filter 'health=fine': invalid value for health (fine): must be one of none, "
            "starting, healthy, unhealthy",
        ),
        ("exited=x", "invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax"),
        ("since=nobody", "No such container: nobody"),
        ("publish=1:2", "filter for 'publish' should not contain ':': 1:2"),
    ],
)
def test_filters_that_can_not_be(docker, filter, text):
    assert docker("ps", "--filter", filter) == (1, "", f"Error response from daemon: {text}\n")


def test_networks(docker, flock):
    assert (
        docker("network", "ls", "--format", "{{.Name}} {{.Driver}}")[1] == "host host\nnone null\n"
    )
    template = "{{range .Containers}}{{.Name}}{{end}}"
    assert docker("network", "inspect", "-f", template, "none")[1] == "bird\n"
    code, _, err = docker("network", "rm", "none")
    assert (code, "none is a pre-defined network and cannot be removed" in err) == (1, True)
    code, _, err = docker("network", "rm", "nosuch")
    assert (code, "network nosuch not found" in err) == (1, True)
    assert docker("network", "prune", "-f")[0] == 0


def test_port(docker, flock):
    assert docker("port", "bird") == (0, "", "")
    code, _, err = docker("port", "bird", "80")
    assert (code, "no public port '80" in err.lower()) == (1, True)


def test_names_and_history_of_images(docker, engine):
    assert docker("tag", "box:1", "here:5000/crate:3") == (0, "", "")
    template = "{{.ID}} {{.Size}} {{.Comment}}"
    code, out, err = docker("history", "--no-trunc", "--human=false", "--format", template, "box:1")
    about = engine.get("/images/box:1/json").json
    assert (code, out) == (0, f"{about['Id']} {about['Size']} Imported from -\n")
    assert docker("rmi", "here:5000/crate:3") == (0, "Untagged: here:5000/crate:3\n", "")
    code, _, err = docker("tag", "host", "mine")
    assert (code, "host:latest can have no other name" in err) == (1, True)


def test_commit(docker, flock):
    words = ["-a", "me", "-m", "with a file", "-c", 'CMD ["ls", "/tmp/file"]', "-c", "ENV A=b c=d"]
    assert docker("exec", "bird", "touch", "/tmp/file")[0] == 0
    code, out, err = docker("commit", *words, "bird", "nest:2")
    assert (code, err) == (0, "")
    assert docker("run", "--rm", "--network", "none", "nest:2") == (0, "/tmp/file\n", "")
    template = "{{.Id}} {{.Author}} {{.Comment}} {{.Config.Env}}"
    code, told, _ = docker("image", "inspect", "-f", template, "nest:2")
    assert told.startswith(f"{out.strip()} me with a file [") and told.endswith("A=b c=d]\n")
    assert docker("history", "--format", "{{.CreatedBy}} {{.Comment}}", "nest:2")[1] == (
        "sleep 600 with a file\n Imported from -\n"
    )
    assert docker("ps", "-qf", "ancestor=nest:2") == (0, "", "")
    docker("create", "--name", "gull", "--network", "none", "nest:2")
    for ancestor in ("nest:2", "box:1"):
        assert "gull" in docker("ps", "-af", f"ancestor={ancestor}")[1]
    assert docker("commit", "--pause=false", "bird")[0] == 0
    code, _, err = docker("commit", "-c", "RUN x", "bird")
    assert (code, "RUN is not a valid change command" in err) == (1, True)
    assert "No such container: nosuch" in docker("commit", "nosuch")[2]


REFUSED = {
    "creating and changing networks": ["network", "create", "mine"],
    "plugins": ["plugin", "enable", "nosuch"],
}


@pytest.mark.parametrize("what", still_refused(REFUSED))
def test_what_is_not_done_is_refused_by_name(docker, flock, what):
    code, _, err = docker(*REFUSED[what], stdin=b"FROM host\n")
    assert code != 0
    assert words(what) in err, err


def test_whatever_is_refused_is_asked_for_here():
    assert untold(REFUSED) == ["sessions of BuildKit"]  # which buildx asks for alone
